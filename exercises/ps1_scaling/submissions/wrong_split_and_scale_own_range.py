"""Scales the test rows by their own range."""

QUESTION = "split_and_scale"
LOSES = {"the rows that the lists name", "test rows are scaled like the training rows", "a single test row"}
SAYS = "The test rows got a range of their own"


def split_and_scale(x, train_rows, test_rows):
    parts = [x[train_rows], x[test_rows]]
    return tuple((part - part.min(axis=0)) / np.ptp(part, axis=0) for part in parts)
