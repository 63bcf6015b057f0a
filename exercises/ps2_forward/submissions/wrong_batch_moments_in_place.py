"""Centers the caller's array in place."""

QUESTION = "batch_moments"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def batch_moments(x):
    mean = x.mean(axis=0)
    x -= mean
    return mean, (x**2).mean(axis=0)
