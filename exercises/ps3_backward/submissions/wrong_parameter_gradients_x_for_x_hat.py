"""Multiplies dy by x in place of x_hat."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "eps inside the square root",
}
SAYS = "multiplies dy by x."


def parameter_gradients(dy, x, mean, var, eps):
    dgamma = (dy * x).sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta
