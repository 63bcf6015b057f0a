"""Leakage: takes the range of training and test rows together."""

QUESTION = "split_and_scale"
LOSES = {
    "training rows fill the range 0 to 1",
    "test rows are scaled like the training rows",
    "a single test row",
    "test rows cannot move the training rows",
}
SAYS = "Leakage: the range is that of training and test rows"


def split_and_scale(x, train_rows, test_rows):
    both = x[np.concatenate([train_rows, test_rows])]
    low, width = both.min(axis=0), np.ptp(both, axis=0)
    return (x[train_rows] - low) / width, (x[test_rows] - low) / width
