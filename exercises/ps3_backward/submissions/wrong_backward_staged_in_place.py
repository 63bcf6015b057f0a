"""Multiplies dy by gamma in place."""

QUESTION = "backward_staged"
LOSES = {
    "leaves its inputs as they were",
}
SAYS = "in place"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dy *= gamma
    dx_hat = dy
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).sum(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
