"""Lets another shape through, as NumPy broadcasts it."""

QUESTION = "gradient_error"
LOSES = {
    "NaN, infinity and other shapes are infinitely wrong",
}
SAYS = "shape"


def gradient_error(f, x, dy, dx):
    if not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    largest = max(np.abs(dx).max(), np.abs(numeric).max())
    return np.abs(dx - numeric).max() / largest if largest > 0 else 0.0
