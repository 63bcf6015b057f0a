"""Divides by the number of features."""

QUESTION = "backward_staged"
LOSES = {
    "dx",
    "eps inside the square root",
}
SAYS = "divided by x.shape[1], the number of features"


def backward_staged(dy, x, gamma, eps):
    m = x.shape[1]
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
