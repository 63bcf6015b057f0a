"""Takes any claim of zero for right, without a look at the numerical gradient."""

QUESTION = "gradient_error"
LOSES = {
    "a zero gradient agrees with zero alone",
}
SAYS = "dx is 0 everywhere, but the numerical gradient isn't"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    if (dx == 0).all():
        return 0.0
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return np.abs(dx - numeric).max() / max(np.abs(dx).max(), np.abs(numeric).max())
