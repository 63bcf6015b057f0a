"""Takes out what training takes out, though the statistics are constants here."""

QUESTION = "backward_eval"
LOSES = {
    "dx",
    "a batch of one example",
    "eps inside the square root",
}
SAYS = "two terms of training"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    x_hat = (x - running_mean) * inv_std
    dx = gamma * inv_std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    return dx, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
