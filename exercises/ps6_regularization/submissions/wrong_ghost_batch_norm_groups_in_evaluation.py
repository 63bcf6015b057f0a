"""Evaluation normalizes with the statistics of the groups, too."""

QUESTION = "ghost_batch_norm"
LOSES = {"evaluation"}
SAYS = "nothing is computed from the batch"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    pieces = []
    for start in range(0, len(x), ghost_size):
        group = x[start : start + ghost_size]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        if training:
            running_mean = (1 - momentum) * running_mean + momentum * mean
            running_var = (1 - momentum) * running_var + momentum * var * len(group) / (len(group) - 1)
    return np.concatenate(pieces), running_mean, running_var
