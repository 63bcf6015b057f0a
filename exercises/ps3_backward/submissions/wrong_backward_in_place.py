"""Subtracts the sums from dy in place."""

QUESTION = "backward"
LOSES = {
    "leaves its inputs as they were",
}
SAYS = "in place"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dy -= dbeta / m
    dy -= x_hat * dgamma / m
    dx = gamma * inv_std * dy
    return dx, dgamma, dbeta
