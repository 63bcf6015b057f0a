"""Leaves the way through the variance out of dx."""

QUESTION = "backward_staged"
LOSES = {
    "dx",
    "eps inside the square root",
}
SAYS = "way through the variance is missing"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std + dmu / m
    return dx_hat, dvar, dmu, dx
