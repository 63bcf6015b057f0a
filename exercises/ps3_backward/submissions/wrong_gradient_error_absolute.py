"""The absolute difference alone."""

QUESTION = "gradient_error"
LOSES = {
    "the error of a wrong one",
    "the size of the gradient doesn't matter",
    "a zero gradient agrees with zero alone",
    "the size of x doesn't matter",
}
SAYS = "absolute difference"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return np.abs(dx - numeric).max()
