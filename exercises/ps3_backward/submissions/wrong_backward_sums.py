"""Forgets to divide the sums by m."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "must be divided by m"


def backward(dy, x_hat, inv_std, gamma):
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta - x_hat * dgamma)
    return dx, dgamma, dbeta
