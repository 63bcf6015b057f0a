"""Lets NumPy line gamma up with the last axis."""

QUESTION = "backward_channels"
LOSES = {
    "dx of images",
    "dgamma and dbeta of images",
    "any number of position axes",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "lines up shapes from the right"


def backward_channels(dy, x, gamma, eps):
    axes = (0, *range(2, x.ndim))
    m = x.size // x.shape[1]
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.reshape(-1), dbeta.reshape(-1)
