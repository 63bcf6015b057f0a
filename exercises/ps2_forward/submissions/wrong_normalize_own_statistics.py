"""Ignores the statistics it is given and takes those of x."""

QUESTION = "normalize"
LOSES = {"subtracts the mean, divides by the standard deviation", "eps inside the square root"}
SAYS = "use the mean and var that were given"


def normalize(x, mean, var, eps):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
