"""Takes the mean for dmu, where the sum belongs."""

QUESTION = "backward_staged"
LOSES = {
    "dmu",
    "dx",
    "eps inside the square root",
}
SAYS = "take the sum here"


def backward_staged(dy, x, gamma, eps):
    m = len(x)
    centered = x - x.mean(axis=0)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=0) + eps)

    dx_hat = dy * gamma
    dvar = (dx_hat * centered).sum(axis=0) * -0.5 * inv_std**3
    dmu = -(dx_hat * inv_std).mean(axis=0)  # the way through the variance adds 0: centered sums to 0
    dx = dx_hat * inv_std + dvar * 2 * centered / m + dmu / m
    return dx_hat, dvar, dmu, dx
