"""Stops at x_hat: gamma and beta are not applied."""

QUESTION = "batch_norm_eval"
LOSES = {"the running statistics normalize", "eps inside the square root", "gamma and beta go with the features"}
SAYS = "this is x_hat"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return (x - running_mean) / np.sqrt(running_var + eps)
