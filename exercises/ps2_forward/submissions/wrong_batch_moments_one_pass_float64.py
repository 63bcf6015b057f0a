"""E[x^2] - E[x]^2 in float64: it only takes a larger mean to break."""

QUESTION = "batch_moments"
LOSES = {"variance of a feature with a large mean"}
SAYS = "float64 keeps about 16 digits"


def batch_moments(x):
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    var = (x * x).mean(axis=0) - mean * mean
    return mean, np.maximum(var, 0)
