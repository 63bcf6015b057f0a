"""One mean and one std for the whole table."""

QUESTION = "fit_standardizer"
LOSES = {
    "mean and standard deviation of each feature",
    "a small spread on a large mean",
    "the std of a constant feature is exactly 0",
    "leaves its inputs as they were",
}
SAYS = "This is one mean for the whole table"


def fit_standardizer(x):
    return x.mean(), x.std()
