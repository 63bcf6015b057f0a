"""Sums over the features: one number per example."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "dbeta",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "sums over the features"


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=1)
    dbeta = dy.sum(axis=1)
    return dgamma, dbeta
