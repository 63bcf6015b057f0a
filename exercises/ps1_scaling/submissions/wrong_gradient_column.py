"""Makes y a column, so the residual becomes a square matrix."""

QUESTION = "gradient"
LOSES = {
    "points straight uphill",
    "has the length of the slope",
    "one row, one feature",
    "leaves its inputs as they were",
}
SAYS = "y became a column"


def gradient(w, x, y):
    return x.T @ (x @ w - y.reshape(-1, 1)) / len(x)
