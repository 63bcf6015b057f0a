"""Cuts by a reshape, which needs groups of equal size."""

QUESTION = "ghost_batch_norm"
LOSES = {
    "y in training, with a smaller last group",
    "running statistics after training",
    "one group for all where ghost_size is large",
}
SAYS = "can't be cut by a reshape"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    groups = x.reshape(-1, ghost_size, x.shape[1])
    mean, var = groups.mean(axis=1, keepdims=True), groups.var(axis=1, keepdims=True)
    y = gamma * (groups - mean) / np.sqrt(var + eps) + beta
    for new_mean, new_var in zip(mean[:, 0], var[:, 0], strict=True):
        running_mean = (1 - momentum) * running_mean + momentum * new_mean
        running_var = (1 - momentum) * running_var + momentum * new_var * ghost_size / (ghost_size - 1)
    return y.reshape(x.shape), running_mean, running_var
