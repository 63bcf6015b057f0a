"""Moves the entries of x itself and subtracts the step again."""

QUESTION = "numerical_gradient"
LOSES = {
    "float64 inside, whatever comes in",
    "leaves its inputs as they were",
}
SAYS = "in place"


def numerical_gradient(f, x, dy, h):
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        x[k] += h
        above = f(x)
        x[k] -= 2 * h
        below = f(x)
        x[k] += h
        dx[k] = (dy * (above - below)).sum() / (2 * h)
    return dx
