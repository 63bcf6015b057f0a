"""Treats mean and variance as constants."""

QUESTION = "backward_channels"
LOSES = {
    "dx of images",
    "any number of position axes",
    "eps inside the square root",
}
SAYS = "treated as constants"


def backward_channels(dy, x, gamma, eps):
    axes = (0, *range(2, x.ndim))
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(dbeta.shape) * inv_std * dy
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)
