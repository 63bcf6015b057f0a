"""Forgets gamma."""

QUESTION = "backward_eval"
LOSES = {
    "dx",
    "a batch of one example",
    "eps inside the square root",
}
SAYS = "gamma is missing"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    x_hat = (x - running_mean) * inv_std
    return dy * inv_std, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
