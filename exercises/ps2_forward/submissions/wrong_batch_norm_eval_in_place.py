"""Works in the caller's array."""

QUESTION = "batch_norm_eval"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def batch_norm_eval(x, gamma, beta, running_mean, running_var, eps):
    x -= running_mean
    x *= gamma / np.sqrt(running_var + eps)
    x += beta
    return x
