"""Takes all statistics and sums over the positions of each example."""

QUESTION = "backward_channels"
LOSES = {
    "dx of images",
    "dgamma and dbeta of images",
    "any number of position axes",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "example by example"


def backward_channels(dy, x, gamma, eps):
    axes = tuple(range(2, x.ndim))
    m = max(x[0, 0].size, 1)
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std

    dbeta = dy.sum(axis=axes, keepdims=True)
    dgamma = (dy * x_hat).sum(axis=axes, keepdims=True)
    dx = gamma.reshape(-1, *[1] * len(axes)) * inv_std * (dy - dbeta / m - x_hat * dgamma / m)
    return dx, dgamma.squeeze(axes), dbeta.squeeze(axes)
