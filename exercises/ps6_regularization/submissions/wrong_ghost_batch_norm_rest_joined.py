"""Joins the examples that are left over to the group before."""

QUESTION = "ghost_batch_norm"
LOSES = {"y in training, with a smaller last group", "running statistics after training"}
SAYS = "joins them to the group before"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    pieces = []
    starts = [g * ghost_size for g in range(max(1, len(x) // ghost_size))]
    for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
        group = x[start:stop]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * len(group) / (len(group) - 1)
    return np.concatenate(pieces), running_mean, running_var
