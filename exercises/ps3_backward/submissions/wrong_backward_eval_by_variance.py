"""Divides by the variance."""

QUESTION = "backward_eval"
LOSES = {
    "dx",
    "dgamma and dbeta",
    "a batch of one example",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "by the variance"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / (running_var + eps)
    x_hat = (x - running_mean) * inv_std
    return dy * gamma * inv_std, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
