"""Lets the batch into the running statistics before using them."""

QUESTION = "batch_norm_eval"
LOSES = {
    "the running statistics normalize",
    "eps inside the square root",
    "a batch of one example",
    "batch mates don't matter",
    "gamma and beta go with the features",
    "leaves its inputs as they were",
}
SAYS = "something is computed from the batch"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    mean = 0.9 * running_mean + 0.1 * x.mean(axis=0)
    var = 0.9 * running_var + 0.1 * x.var(axis=0)
    return gamma * (x - mean) / np.sqrt(var + eps) + beta
