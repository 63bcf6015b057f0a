"""Evaluation updates the running statistics, too."""

QUESTION = "batch_norm"
LOSES = {"evaluation leaves the running statistics"}
SAYS = "evaluation only reads"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    m = x.size // x.shape[1]
    batch_mean, batch_var = x.mean(axis=axes), x.var(axis=axes)
    mean, var = (batch_mean, batch_var) if training else (running_mean, running_var)
    x_hat = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    running_mean = (1 - momentum) * running_mean + momentum * batch_mean
    running_var = (1 - momentum) * running_var + momentum * batch_var * m / (m - 1)
    return gamma.reshape(shape) * x_hat + beta.reshape(shape), running_mean, running_var
