"""Subtracts the targets in the caller's array."""

QUESTION = "gradient"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input y in place"


def gradient(w, x, y):
    y -= x @ w
    return -x.T @ y / len(x)
