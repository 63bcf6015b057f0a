"""Cuts as many whole groups as fit and loses the examples that are left over."""

QUESTION = "ghost_batch_norm"
LOSES = {
    "y in training, with a smaller last group",
    "running statistics after training",
    "one group for all where ghost_size is large",
}
SAYS = "the last, smaller group is lost"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    pieces = []
    for g in range(len(x) // ghost_size):
        group = x[g * ghost_size : (g + 1) * ghost_size]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * len(group) / (len(group) - 1)
    return np.concatenate([np.empty((0, x.shape[1])), *pieces]), running_mean, running_var
