"""Takes all statistics and sums over the examples only."""

QUESTION = "backward_channels"
LOSES = {
    "dx of images",
    "dgamma and dbeta of images",
    "any number of position axes",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "pixel by pixel"


def backward_channels(dy, x, gamma, eps):
    axes = 0
    m = len(x)
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(-1, *[1] * (x.ndim - 2)) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma[0], dbeta[0]
