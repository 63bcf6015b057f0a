"""Returns dbeta first."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "dbeta",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "swapped"


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dbeta, dgamma
