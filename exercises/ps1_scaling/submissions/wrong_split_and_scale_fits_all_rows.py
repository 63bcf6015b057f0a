"""Leakage: takes the range of the whole table."""

QUESTION = "split_and_scale"
LOSES = {
    "training rows fill the range 0 to 1",
    "test rows are scaled like the training rows",
    "a single test row",
    "test rows cannot move the training rows",
}
SAYS = "Leakage: the range is that of the whole table"


def split_and_scale(x, train_rows, test_rows):
    x_scaled = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    return x_scaled[train_rows], x_scaled[test_rows]
