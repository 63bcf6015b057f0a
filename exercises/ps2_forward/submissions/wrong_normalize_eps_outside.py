"""Adds eps to the standard deviation instead of the variance."""

QUESTION = "normalize"
LOSES = {"eps inside the square root"}
SAYS = "outside the root"


def normalize(x, mean, var, eps):
    return (x - mean) / (np.sqrt(var) + eps)
