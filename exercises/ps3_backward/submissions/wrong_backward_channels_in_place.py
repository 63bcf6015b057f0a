"""Normalizes x in place."""

QUESTION = "backward_channels"
LOSES = {
    "leaves its inputs as they were",
}
SAYS = "in place"


def backward_channels(dy, x, gamma, eps):
    axes = (0, *range(2, x.ndim))
    m = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x -= x.mean(axis=axes, keepdims=True)
    x *= inv_std
    x_hat = x

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(dbeta.shape) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)
