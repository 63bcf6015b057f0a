"""Takes gamma * x_hat, the output, for x_hat."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
    "a batch of two passes nothing",
}
SAYS = "the output y, in the place of x_hat"


def backward(dy, x_hat, inv_std, gamma):
    m, y = len(dy), gamma * x_hat
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / m - y * (dy * y).mean(axis=0))
    return dx, dgamma, dbeta
