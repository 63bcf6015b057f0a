"""Makes a table without moving the channels to the end first."""

QUESTION = "backward_channels"
LOSES = {
    "dx of images",
    "dgamma and dbeta of images",
    "any number of position axes",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "in the order of memory"


def backward_channels(dy, x, gamma, eps):
    table, gradient = x.reshape(-1, x.shape[1]), dy.reshape(-1, x.shape[1])
    inv_std = 1 / np.sqrt(table.var(axis=0) + eps)
    x_hat = (table - table.mean(axis=0)) * inv_std
    level, slope = gradient.mean(axis=0), (gradient * x_hat).mean(axis=0)
    dx = gamma * inv_std * (gradient - level - x_hat * slope)
    return dx.reshape(x.shape), len(table) * slope, len(table) * level
