"""Corrects the variance with m = N, also for images."""

QUESTION = "batch_norm"
LOSES = {"any number of position axes: the running statistics after training"}
SAYS = "m counts all values of a channel"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, var = running_mean, running_var
    if training:
        m = len(x)
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    x_hat = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return gamma.reshape(shape) * x_hat + beta.reshape(shape), running_mean, running_var
