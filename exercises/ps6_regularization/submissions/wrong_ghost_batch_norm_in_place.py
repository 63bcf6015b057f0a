"""Updates the caller's running statistics in place."""

QUESTION = "ghost_batch_norm"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input running_mean and running_var in place"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    if not training:
        return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, running_mean, running_var

    pieces = []
    for start in range(0, len(x), ghost_size):
        group = x[start : start + ghost_size]
        mean, var = group.mean(axis=0), group.var(axis=0)
        pieces.append(gamma * (group - mean) / np.sqrt(var + eps) + beta)
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * len(group) / (len(group) - 1) - running_var)
    return np.concatenate(pieces), running_mean, running_var
