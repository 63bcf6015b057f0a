"""The residual has the wrong sign."""

QUESTION = "gradient"
LOSES = {
    "points straight uphill",
    "has the length of the slope",
    "one row, one feature",
    "leaves its inputs as they were",
}
SAYS = "It points downhill"


def gradient(w, x, y):
    return x.T @ (y - x @ w) / len(x)
