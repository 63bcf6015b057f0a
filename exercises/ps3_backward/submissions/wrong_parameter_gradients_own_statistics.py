"""Normalizes x with its own mean and variance, though others are given."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "eps inside the square root",
}
SAYS = "Use those that were given"


def parameter_gradients(dy, x, mean, var, eps):
    mean, var = x.mean(axis=0), x.var(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta
