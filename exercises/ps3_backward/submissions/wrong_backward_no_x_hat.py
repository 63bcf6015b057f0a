"""Forgets x_hat in dgamma."""

QUESTION = "backward"
LOSES = {
    "dx",
    "dgamma",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "x_hat is missing"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = dy.sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma, dbeta
