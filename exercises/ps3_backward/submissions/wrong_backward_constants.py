"""Treats mean and variance as constants: dy times the slope."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "treated as constants"


def backward(dy, x_hat, inv_std, gamma):
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * dy
    return dx, dgamma, dbeta
