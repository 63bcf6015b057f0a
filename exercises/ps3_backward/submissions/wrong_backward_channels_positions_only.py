"""Adds dgamma and dbeta up over the positions of each example only."""

QUESTION = "backward_channels"
LOSES = {
    "dgamma and dbeta of images",
    "any number of position axes",
}
SAYS = "This sums over the positions only"


def backward_channels(dy, x, gamma, eps):
    axes = (0, *range(2, x.ndim))
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std
    level, slope = dy.mean(axis=axes, keepdims=True), (dy * x_hat).mean(axis=axes, keepdims=True)
    dx = gamma.reshape(level.shape) * inv_std * (dy - level - x_hat * slope)
    return dx, (dy * x_hat).sum(axis=axes[1:]), dy.sum(axis=axes[1:])
