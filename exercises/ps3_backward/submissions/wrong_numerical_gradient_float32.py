"""Computes in the dtype of x."""

QUESTION = "numerical_gradient"
LOSES = {
    "float64 inside, whatever comes in",
}
SAYS = "x is float32"


def numerical_gradient(f, x, dy, h):
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[k] = h
        dx[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return dx
