"""Averages the statistics of the groups and updates the running ones once."""

QUESTION = "ghost_batch_norm"
LOSES = {"running statistics after training"}
SAYS = "by the mean of the groups' statistics"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    groups = [x[start : start + ghost_size] for start in range(0, len(x), ghost_size)]
    y = [gamma * (g - g.mean(axis=0)) / np.sqrt(g.var(axis=0) + eps) + beta for g in groups]
    mean = np.mean([g.mean(axis=0) for g in groups], axis=0)
    var = np.mean([g.var(axis=0, ddof=1) for g in groups], axis=0)
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var
    return np.concatenate(y), running_mean, running_var
