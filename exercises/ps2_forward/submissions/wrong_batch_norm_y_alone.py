"""Returns y alone."""

QUESTION = "batch_norm"
LOSES = {
    "y in training",
    "y in evaluation",
    "the running statistics after training",
    "evaluation leaves the running statistics",
    "eps inside the square root",
    "any number of position axes: y",
    "any number of position axes: the running statistics after training",
    "leaves its inputs as they were",
}
SAYS = "expected 3 values"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    mean, var = running_mean, running_var
    if training:
        m = x.size // x.shape[1]
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    x_hat = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return gamma.reshape(shape) * x_hat + beta.reshape(shape)
