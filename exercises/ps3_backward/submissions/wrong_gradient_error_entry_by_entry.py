"""Compares every entry with itself."""

QUESTION = "gradient_error"
LOSES = {
    "the error of a wrong one",
}
SAYS = "compares every entry with itself"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    sizes = np.maximum(np.abs(dx), np.abs(numeric))
    return (np.abs(dx - numeric) / np.where(sizes > 0, sizes, 1)).max()
