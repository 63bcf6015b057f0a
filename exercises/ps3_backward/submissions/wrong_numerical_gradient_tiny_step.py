"""Takes a step of its own, so small that only rounding is left."""

QUESTION = "numerical_gradient"
LOSES = {
    "a step up, a step down",
    "close to the true gradient of BN",
    "an array with any number of axes",
    "float64 inside, whatever comes in",
    "leaves its inputs as they were",
}
SAYS = "nothing but rounding"


def numerical_gradient(f, x, dy, h):
    h = 1e-13
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)  # float64, and so is x + step
        step[k] = h
        dx[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return dx
