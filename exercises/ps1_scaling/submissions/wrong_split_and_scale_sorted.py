"""Selects with masks, so the rows come in the order of the table."""

QUESTION = "split_and_scale"
LOSES = {
    "the rows that the lists name",
    "training rows fill the range 0 to 1",
    "test rows are scaled like the training rows",
}
SAYS = "The rows are in another order"


def split_and_scale(x, train_rows, test_rows):
    rows = np.arange(len(x))
    train, test = x[np.isin(rows, train_rows)], x[np.isin(rows, test_rows)]
    low, width = train.min(axis=0), np.ptp(train, axis=0)
    return (train - low) / width, (test - low) / width
