"""Multiplies dy and x_hat example by example and stops there."""

QUESTION = "split_gradient"
LOSES = {
    "the part along x_hat",
    "the rest",
    "where eps matters",
}
SAYS = "example by example"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = dy * x_hat
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
