"""Plain batch normalization: ghost_size is ignored."""

QUESTION = "ghost_batch_norm"
LOSES = {
    "y in training, groups of equal size",
    "y in training, with a smaller last group",
    "running statistics after training",
}
SAYS = "Each group has its own"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    mean, var, m = x.mean(axis=0), x.var(axis=0), len(x)
    y = gamma * (x - mean) / np.sqrt(var + eps) + beta
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    return y, running_mean, running_var
