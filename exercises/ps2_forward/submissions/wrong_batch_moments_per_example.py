"""Averages over the features: the statistics of every example, as in layer normalization."""

QUESTION = "batch_moments"
LOSES = {
    "mean of each feature",
    "variance of each feature, divided by m",
    "variance of a feature with a large mean",
    "leaves its inputs as they were",
}
SAYS = "a statistic belongs to a feature"


def batch_moments(x):
    return x.mean(axis=1), x.var(axis=1)
