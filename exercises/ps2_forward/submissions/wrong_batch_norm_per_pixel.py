"""Normalizes every pixel over the examples; only the running statistics are per channel."""

QUESTION = "batch_norm"
LOSES = {"any number of position axes: y"}
SAYS = "those of every pixel"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, var = running_mean.reshape(shape), running_var.reshape(shape)
    if training:
        m = x.size // x.shape[1]
        mean, var = x.mean(axis=0), x.var(axis=0)
        running_mean = (1 - momentum) * running_mean + momentum * x.mean(axis=axes)
        running_var = (1 - momentum) * running_var + momentum * x.var(axis=axes) * m / (m - 1)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma.reshape(shape) * x_hat + beta.reshape(shape), running_mean, running_var
