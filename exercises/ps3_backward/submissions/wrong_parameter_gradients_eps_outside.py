"""Adds eps outside the root."""

QUESTION = "parameter_gradients"
LOSES = {
    "eps inside the square root",
}
SAYS = "outside the root"


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) / (np.sqrt(var) + eps)
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta
