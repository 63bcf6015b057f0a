"""Normalizes with the unbiased variance."""

QUESTION = "backward_staged"
LOSES = {
    "dvar",
    "dmu",
    "dx",
    "eps inside the square root",
}
SAYS = "unbiased variance"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt(x.var(axis=0, ddof=1) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
