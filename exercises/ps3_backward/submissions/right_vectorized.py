"""Numerical gradients without a loop over single entries in sight: vectorize, lists, closures; weird return kinds."""


def numerical_gradient(f, x, dy, h):
    x = np.asarray(x, dtype=float)

    def loss(point):
        return float((dy * f(point.reshape(x.shape))).sum())

    start = x.ravel()
    basis = np.identity(start.size)
    return np.array([loss(start + h * e) - loss(start - h * e) for e in basis]).reshape(x.shape) / h / 2


def gradient_error(f, x, dy, dx):
    # four points instead of two: more exact, so a larger step is fine
    if np.shape(dx) != x.shape or not np.isfinite(dx).all():
        return np.inf
    h, numeric = 1e-4 * np.std(x), np.empty_like(x)
    for k in np.ndindex(*x.shape):
        e = np.zeros_like(x)
        e[k] = h
        near, far = f(x + e) - f(x - e), f(x + 2 * e) - f(x - 2 * e)
        numeric[k] = np.sum(dy * (8 * near - far)) / (12 * h)
    largest = np.maximum(np.abs(dx), np.abs(numeric)).max()
    return 0 if largest == 0 else np.float64(np.abs(dx - numeric).max() / largest)
