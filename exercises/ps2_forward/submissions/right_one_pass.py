"""Welford's one pass and other numerically sound detours; lists instead of tuples, NumPy scalars for counts."""


def batch_moments(x):
    mean = np.zeros(x.shape[1], dtype=x.dtype)
    squares = np.zeros(x.shape[1], dtype=x.dtype)
    for count, example in enumerate(x, start=1):
        delta = example - mean
        mean = mean + delta / x.dtype.type(count)
        squares = squares + delta * (example - mean)
    return [mean, squares / x.dtype.type(len(x))]


def undo_with(mean, var, eps):
    x = np.stack([mean, mean + 1])  # two points of the line y = gamma * x_hat + beta that is to be y = x
    x_hat = (x - mean) / np.sqrt(var + eps)
    gamma = 1 / (x_hat[1] - x_hat[0])
    return [gamma, x[0] - gamma * x_hat[0]]


def layer_sizes(shape):
    shape = np.array(shape)
    return [2 * shape[1], 2 * shape[1], shape.prod() / shape[1]]


def channel_moments(x):
    first = x[(slice(0, 1), slice(None), *[slice(0, 1)] * (x.ndim - 2))]
    shifted = x - first  # small numbers, so the one-pass formula is safe
    axes = (0, *range(2, x.ndim))
    mean = shifted.mean(axis=axes)
    return [mean + first.squeeze().reshape(-1), (shifted**2).mean(axis=axes) - mean**2]
