"""One-sided differences, right to five digits."""

QUESTION = "gradient_error"
LOSES = {
    "a right gradient has a small error",
    "the size of x doesn't matter",
}
SAYS = "one-sided"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x))).sum() / h
    largest = max(np.abs(dx).max(), np.abs(numeric).max())
    return np.abs(dx - numeric).max() / largest if largest > 0 else 0.0
