"""Adds eps outside the root."""

QUESTION = "backward_eval"
LOSES = {
    "eps inside the square root",
}
SAYS = "outside the root"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / (np.sqrt(running_var) + eps)
    x_hat = (x - running_mean) * inv_std
    return dy * gamma * inv_std, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
