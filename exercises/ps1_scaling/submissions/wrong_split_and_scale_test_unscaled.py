"""Leaves the test rows in their old units."""

QUESTION = "split_and_scale"
LOSES = {"the rows that the lists name", "test rows are scaled like the training rows", "a single test row"}
SAYS = "The test rows are not scaled"


def split_and_scale(x, train_rows, test_rows):
    train = x[train_rows]
    return (train - train.min(axis=0)) / np.ptp(train, axis=0), x[test_rows]
