"""Adds eps to the standard deviation."""

QUESTION = "batch_norm_eval"
LOSES = {"eps inside the square root"}
SAYS = "outside the root"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    return gamma * (x - running_mean) / (np.sqrt(running_var) + eps) + beta
