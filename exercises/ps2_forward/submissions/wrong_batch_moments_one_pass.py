"""E[x^2] - E[x]^2: right on paper, and all rounding error at a large mean."""

QUESTION = "batch_moments"
LOSES = {"variance of a feature with a large mean"}
SAYS = "subtract the mean from x first"


def batch_moments(x):
    mean = x.mean(axis=0)
    var = (x**2).mean(axis=0) - mean**2
    return mean, var
