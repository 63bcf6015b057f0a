"""Forgets x_hat in dgamma: the gradient of beta, twice."""

QUESTION = "parameter_gradients"
LOSES = {
    "dgamma",
    "eps inside the square root",
}
SAYS = "x_hat is missing"


def parameter_gradients(dy, x, mean, var, eps):
    dgamma = dy.sum(axis=0)
    dbeta = dy.sum(axis=0)
    return dgamma, dbeta
