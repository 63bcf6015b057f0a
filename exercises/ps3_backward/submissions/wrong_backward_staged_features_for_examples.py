"""Takes the statistics of each example."""

QUESTION = "backward_staged"
LOSES = {
    "dvar",
    "dmu",
    "dx",
    "eps inside the square root",
}
SAYS = "The mean and the variance are taken over the features"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=1, keepdims=True)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=1, keepdims=True) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
