"""Divides by the number of features."""

QUESTION = "gradient"
LOSES = {"has the length of the slope", "one row, one feature"}
SAYS = "You divide by the number of features"


def gradient(w, x, y):
    return x.T @ (x @ w - y) / len(w)
