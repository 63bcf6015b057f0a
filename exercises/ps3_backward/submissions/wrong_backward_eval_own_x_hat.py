"""Takes the batch's own x_hat for dgamma."""

QUESTION = "backward_eval"
LOSES = {
    "dgamma and dbeta",
}
SAYS = "statistics of x itself"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    x_hat = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return dy * gamma * inv_std, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
