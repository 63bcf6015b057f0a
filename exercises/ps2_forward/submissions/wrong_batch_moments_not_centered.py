"""The mean of the squares, without subtracting the mean first."""

QUESTION = "batch_moments"
LOSES = {"variance of each feature, divided by m", "variance of a feature with a large mean"}
SAYS = "before you square"


def batch_moments(x):
    return x.mean(axis=0), (x**2).mean(axis=0)
