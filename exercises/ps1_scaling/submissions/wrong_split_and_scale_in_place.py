"""Scales the caller's table."""

QUESTION = "split_and_scale"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def split_and_scale(x, train_rows, test_rows):
    low, width = x[train_rows].min(axis=0), np.ptp(x[train_rows], axis=0)
    x -= low
    return x[train_rows] / width, x[test_rows] / width
