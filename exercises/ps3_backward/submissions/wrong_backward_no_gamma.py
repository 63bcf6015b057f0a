"""Forgets gamma."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
}
SAYS = "gamma is missing"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma, dbeta
