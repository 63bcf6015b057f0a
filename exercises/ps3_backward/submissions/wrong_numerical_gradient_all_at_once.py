"""Moves all entries at the same time."""

QUESTION = "numerical_gradient"
LOSES = {
    "a step up, a step down",
    "close to the true gradient of BN",
    "an array with any number of axes",
    "float64 inside, whatever comes in",
    "leaves its inputs as they were",
}
SAYS = "at the same time"


def numerical_gradient(f, x, dy, h):
    return dy * (f(x + h) - f(x - h)) / (2 * h)
