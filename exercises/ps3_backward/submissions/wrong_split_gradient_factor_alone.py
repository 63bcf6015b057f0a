"""Forgets to multiply the factor by x_hat."""

QUESTION = "split_gradient"
LOSES = {
    "the part along x_hat",
    "the rest",
    "where eps matters",
}
SAYS = "factor alone"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = np.zeros_like(dy) + (dy * x_hat).mean(axis=0)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
