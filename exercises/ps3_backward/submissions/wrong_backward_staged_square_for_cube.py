"""Differentiates the root to the power -1."""

QUESTION = "backward_staged"
LOSES = {
    "dvar",
    "dx",
    "eps inside the square root",
}
SAYS = "Does dvar have inv_std**2"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**2
    dmu = -(dx_hat * inv_std).sum(axis=0)
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
