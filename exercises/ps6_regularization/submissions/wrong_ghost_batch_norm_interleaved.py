"""Deals the examples to the groups in turn, like cards, instead of cutting consecutive groups."""

QUESTION = "ghost_batch_norm"
LOSES = {
    "y in training, groups of equal size",
    "y in training, with a smaller last group",
    "running statistics after training",
}
SAYS = "take every G-th example"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    y = np.empty_like(x)
    count = -(-len(x) // ghost_size)
    for g in range(count):
        group = x[g::count]
        mean, var = group.mean(axis=0), group.var(axis=0)
        y[g::count] = gamma * (group - mean) / np.sqrt(var + eps) + beta
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * len(group) / (len(group) - 1)
    return y, running_mean, running_var
