"""Written for images: axes (0, 2, 3), and the shape (1, C, 1, 1) everywhere."""

QUESTION = "batch_norm"
LOSES = {
    "any number of position axes: y",
    "any number of position axes: the running statistics after training",
}
SAYS = "(1, C, 1, 1) fits images only: take as many 1s as x has position axes"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    mean, var = running_mean, running_var
    if training:
        m = x.size // x.shape[1]
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    x_hat = (x - mean.reshape(1, -1, 1, 1)) / np.sqrt(var.reshape(1, -1, 1, 1) + eps)
    return gamma.reshape(1, -1, 1, 1) * x_hat + beta.reshape(1, -1, 1, 1), running_mean, running_var
