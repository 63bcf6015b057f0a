"""Works for images only."""

QUESTION = "backward_channels"
LOSES = {
    "any number of position axes",
}
SAYS = "as many 1s"


def backward_channels(dy, x, gamma, eps):
    axes = (0, 2, 3)
    m = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(dbeta.shape) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)
