"""Normalizes with the statistics of the batch, as in training."""

QUESTION = "batch_norm_eval"
LOSES = {
    "the running statistics normalize",
    "eps inside the square root",
    "a batch of one example",
    "batch mates don't matter",
    "gamma and beta go with the features",
    "leaves its inputs as they were",
}
SAYS = "normalizes with the statistics of x itself"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps) + beta
