"""Looks at the first row only, as a stochastic step would."""

QUESTION = "gradient"
LOSES = {
    "points straight uphill",
    "has the length of the slope",
    "one row, one feature",
    "leaves its inputs as they were",
}
SAYS = "All rows enter"


def gradient(w, x, y):
    return x[0] * (x[0] @ w - y[0])
