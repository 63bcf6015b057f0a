"""Returns the standard deviation where the variance is asked."""

QUESTION = "batch_moments"
LOSES = {"variance of each feature, divided by m", "variance of a feature with a large mean"}
SAYS = "this is the standard deviation"


def batch_moments(x):
    return x.mean(axis=0), x.std(axis=0)
