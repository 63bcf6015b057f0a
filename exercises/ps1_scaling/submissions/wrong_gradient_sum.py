"""The gradient of a sum over the rows instead of a mean."""

QUESTION = "gradient"
LOSES = {"has the length of the slope", "one row, one feature"}
SAYS = "m times too large"


def gradient(w, x, y):
    return x.T @ (x @ w - y)
