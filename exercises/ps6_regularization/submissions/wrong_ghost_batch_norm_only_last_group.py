"""Updates from the old running statistics in every round, so only the last group counts."""

QUESTION = "ghost_batch_norm"
LOSES = {"running statistics after training"}
SAYS = "only the last group counts"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    pieces = []
    for start in range(0, len(x), ghost_size):
        group = x[start : start + ghost_size]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        new_mean = (1 - momentum) * running_mean + momentum * mean
        new_var = (1 - momentum) * running_var + momentum * var * len(group) / (len(group) - 1)
    return np.concatenate(pieces), new_mean, new_var
