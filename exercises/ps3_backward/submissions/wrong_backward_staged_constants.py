"""Treats mean and variance as constants in dx: the gradient through a detached graph."""

QUESTION = "backward_staged"
LOSES = {
    "dx",
    "eps inside the square root",
}
SAYS = "treated as constants"


def backward_staged(dy, x, gamma, eps):
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std
    return dx_hat, dvar, dmu, dx
