"""Leaves the mean of dy in."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "way through the mean is missing"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - x_hat * dgamma / m)
    return dx, dgamma, dbeta
