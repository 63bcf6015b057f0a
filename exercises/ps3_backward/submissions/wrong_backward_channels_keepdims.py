"""Returns the sums with their extra axes."""

QUESTION = "backward_channels"
LOSES = {
    "dgamma and dbeta of images",
    "any number of position axes",
}
SAYS = "extra axes of length 1"


def backward_channels(dy, x, gamma, eps):
    axes = (0, *range(2, x.ndim))
    m = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(dbeta.shape) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma, dbeta
