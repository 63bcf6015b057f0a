"""Uses the running statistics only where the batch is too small for its own."""

QUESTION = "batch_norm_eval"
LOSES = {
    "the running statistics normalize",
    "eps inside the square root",
    "batch mates don't matter",
    "gamma and beta go with the features",
}
SAYS = "normalizes with the statistics of x itself"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    mean, var = (x.mean(axis=0), x.var(axis=0)) if len(x) > 1 else (running_mean, running_var)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta
