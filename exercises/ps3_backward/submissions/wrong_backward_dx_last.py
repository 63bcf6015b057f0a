"""Returns the three gradients in another order."""

QUESTION = "backward"
LOSES = {
    "dx",
    "dgamma",
    "dbeta",
    "where eps matters",
    "a batch of two passes nothing",
    "leaves its inputs as they were",
}
SAYS = "Return dx first"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dgamma, dbeta, dx
