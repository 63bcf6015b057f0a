"""Forgets the targets."""

QUESTION = "gradient"
LOSES = {
    "points straight uphill",
    "has the length of the slope",
    "one row, one feature",
    "leaves its inputs as they were",
}
SAYS = "and the targets, too"


def gradient(w, x, y):
    return x.T @ (x @ w) / len(x)
