"""Divides 0 by 0 where both gradients are zero."""

QUESTION = "gradient_error"
LOSES = {
    "a zero gradient agrees with zero alone",
}
SAYS = "0/0"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    largest = max(np.abs(dx).max(), np.abs(numeric).max())
    return np.abs(dx - numeric).max() / largest
