"""Takes the first rows for training and the last for testing, whatever the lists say."""

QUESTION = "split_and_scale"
LOSES = {
    "the rows that the lists name",
    "training rows fill the range 0 to 1",
    "test rows are scaled like the training rows",
    "a single test row",
    "test rows cannot move the training rows",
    "leaves its inputs as they were",
}
SAYS = "Take the rows that train_rows names"


def split_and_scale(x, train_rows, test_rows):
    train, test = x[: len(train_rows)], x[-len(test_rows) :]
    low, width = train.min(axis=0), np.ptp(train, axis=0)
    return (train - low) / width, (test - low) / width
