"""One gamma and one beta per example instead of per feature."""

QUESTION = "batch_norm_eval"
LOSES = {
    "the running statistics normalize",
    "eps inside the square root",
    "a batch of one example",
    "batch mates don't matter",
    "gamma and beta go with the features",
    "leaves its inputs as they were",
}
SAYS = "gamma and beta went with the examples"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    x_hat = (x - running_mean) / np.sqrt(running_var + eps)
    return gamma[:, np.newaxis] * x_hat + beta[:, np.newaxis]
