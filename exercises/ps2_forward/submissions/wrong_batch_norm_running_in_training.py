"""Updates first, then normalizes with the running statistics in training, too."""

QUESTION = "batch_norm"
LOSES = {"y in training", "any number of position axes: y", "eps inside the square root"}
SAYS = "after their update"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    if training:
        m = x.size // x.shape[1]
        running_mean = (1 - momentum) * running_mean + momentum * x.mean(axis=axes)
        running_var = (1 - momentum) * running_var + momentum * x.var(axis=axes) * m / (m - 1)
    x_hat = (x - running_mean.reshape(shape)) / np.sqrt(running_var.reshape(shape) + eps)
    return gamma.reshape(shape) * x_hat + beta.reshape(shape), running_mean, running_var
