"""Averages over the features of an example instead of over the examples."""

QUESTION = "fit_standardizer"
LOSES = {
    "mean and standard deviation of each feature",
    "a small spread on a large mean",
    "the std of a constant feature is exactly 0",
    "leaves its inputs as they were",
}
SAYS = "This is the mean of each example (row)"


def fit_standardizer(x):
    return x.mean(axis=1), x.std(axis=1)
