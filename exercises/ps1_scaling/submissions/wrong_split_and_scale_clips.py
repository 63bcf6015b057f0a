"""Clips the test rows to the range of the training rows."""

QUESTION = "split_and_scale"
LOSES = {"test rows are scaled like the training rows", "a single test row"}
SAYS = "You clip"


def split_and_scale(x, train_rows, test_rows):
    train = x[train_rows]
    low, width = train.min(axis=0), np.ptp(train, axis=0)
    return (train - low) / width, np.clip((x[test_rows] - low) / width, 0, 1)
