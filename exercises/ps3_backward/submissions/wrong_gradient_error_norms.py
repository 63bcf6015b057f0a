"""Compares norms instead of largest entries."""

QUESTION = "gradient_error"
LOSES = {
    "the error of a wrong one",
}
SAYS = "norm"


def gradient_error(f, x, dy, dx):
    if dx.shape != x.shape or not np.isfinite(dx).all():
        return np.inf
    h = 1e-5 * x.std()
    numeric = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        numeric[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    largest = max(np.linalg.norm(dx), np.linalg.norm(numeric))
    return np.linalg.norm(dx - numeric) / largest if largest > 0 else 0.0
