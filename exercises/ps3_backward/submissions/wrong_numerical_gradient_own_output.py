"""Looks only at the output with the same index as the entry that moves."""

QUESTION = "numerical_gradient"
LOSES = {
    "a step up, a step down",
    "close to the true gradient of BN",
    "an array with any number of axes",
    "float64 inside, whatever comes in",
    "leaves its inputs as they were",
}
SAYS = "sum dy * (f(x + step) - f(x - step)) over all of them"


def numerical_gradient(f, x, dy, h):
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        dx[k] = dy[k] * (f(x + step) - f(x - step))[k] / (2 * h)
    return dx
