"""Takes out the exact projection on x_hat."""

QUESTION = "backward"
LOSES = {
    "where eps matters",
}
SAYS = "exact projection on x_hat"


def backward(dy, x_hat, inv_std, gamma):
    m = len(dy)
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / (x_hat**2).sum(axis=0))
    return dx, dgamma, dbeta
