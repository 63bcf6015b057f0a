"""Forgets the axis: one mean and one variance for all features together."""

QUESTION = "batch_moments"
LOSES = {
    "mean of each feature",
    "variance of each feature, divided by m",
    "variance of a feature with a large mean",
    "leaves its inputs as they were",
}
SAYS = "every feature has its own"


def batch_moments(x):
    return x.mean(), x.var()
