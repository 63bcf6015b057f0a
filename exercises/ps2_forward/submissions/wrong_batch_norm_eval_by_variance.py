"""Divides by the running variance."""

QUESTION = "batch_norm_eval"
LOSES = {"the running statistics normalize", "eps inside the square root"}
SAYS = "this divides by the variance"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return gamma * (x - running_mean) / (running_var + eps) + beta
