"""The gradient of the mean squared error without its half."""

QUESTION = "gradient"
LOSES = {"has the length of the slope", "one row, one feature"}
SAYS = "Twice too large"


def gradient(w, x, y):
    return 2 * x.T @ (x @ w - y) / len(x)
