"""Subtracts the mean of x itself and divides by the variance."""

QUESTION = "normalize"
LOSES = {"subtracts the mean, divides by the standard deviation", "eps inside the square root"}
SAYS = "two slips: this subtracts the mean of x itself"


def normalize(x, mean, var, eps):
    return (x - x.mean(axis=0)) / (var + eps)
