"""Divides the sums by m - 1."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "divided by m - 1"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / (m - 1) - x_hat * dgamma / (m - 1))
    return dx, dgamma, dbeta
