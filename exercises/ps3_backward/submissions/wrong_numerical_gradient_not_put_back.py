"""Moves the entries of a copy and never puts them back."""

QUESTION = "numerical_gradient"
LOSES = {
    "a step up, a step down",
    "close to the true gradient of BN",
    "an array with any number of axes",
    "float64 inside, whatever comes in",
    "leaves its inputs as they were",
}
SAYS = "stays moved"


def numerical_gradient(f, x, dy, h):
    dx, x = np.zeros(x.shape), x.astype(np.float64)
    for k in np.ndindex(x.shape):
        x[k] += h
        above = f(x)
        x[k] -= 2 * h
        dx[k] = (dy * (above - f(x))).sum() / (2 * h)
    return dx
