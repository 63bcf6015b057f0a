"""Takes the sums of dx_hat = gamma * dy in the bracket, with gamma in front."""

QUESTION = "backward"
LOSES = {
    "dx",
    "where eps matters",
}
SAYS = "gamma is in it twice"


def backward(dy, x_hat, inv_std, gamma):
    dbeta = dy.sum(axis=0)
    dgamma = (dy * x_hat).sum(axis=0)
    dx_hat = gamma * dy
    dx = gamma * inv_std * (dx_hat - dx_hat.mean(axis=0) - x_hat * (dx_hat * x_hat).mean(axis=0))
    return dx, dgamma, dbeta
