"""Takes the mean over the examples in place of the sum."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "dbeta",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "take the sum"


def parameter_gradients(dy, x, mean, var, eps):
    x_hat = (x - mean) / np.sqrt(var + eps)
    dgamma = (dy * x_hat).mean(axis=0)
    dbeta = dy.mean(axis=0)
    return dgamma, dbeta
