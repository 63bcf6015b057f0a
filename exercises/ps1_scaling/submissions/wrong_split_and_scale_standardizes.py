"""Standardizes where min-max scaling is asked for."""

QUESTION = "split_and_scale"
LOSES = {
    "the rows that the lists name",
    "training rows fill the range 0 to 1",
    "test rows are scaled like the training rows",
    "a single test row",
    "test rows cannot move the training rows",
    "leaves its inputs as they were",
}
SAYS = "This is standardization"


def split_and_scale(x, train_rows, test_rows):
    train = x[train_rows]
    mean, std = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / std, (x[test_rows] - mean) / std
