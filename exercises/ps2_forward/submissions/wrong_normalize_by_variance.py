"""Divides by the variance, as some texts say."""

QUESTION = "normalize"
LOSES = {"subtracts the mean, divides by the standard deviation", "eps inside the square root"}
SAYS = "this divides by the variance"


def normalize(x, mean, var, eps):
    return (x - mean) / (var + eps)
