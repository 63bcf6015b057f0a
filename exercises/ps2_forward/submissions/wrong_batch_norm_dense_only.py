"""Averages over axis 0 alone and trusts broadcasting: right for dense inputs only."""

QUESTION = "batch_norm"
LOSES = {"any number of position axes: y", "any number of position axes: the running statistics after training"}
SAYS = "lines up shapes from the right"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    mean, var = running_mean, running_var
    if training:
        m = len(x)
        mean, var = x.mean(axis=0), x.var(axis=0)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * m / (m - 1)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta, running_mean, running_var
