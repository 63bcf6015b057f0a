"""Sums where the formula has means."""

QUESTION = "split_gradient"
LOSES = {
    "the mean part",
    "the part along x_hat",
    "the rest",
    "where eps matters",
    "leaves its inputs as they were",
}
SAYS = "This is the sum"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.sum(axis=0)
    x_hat_part = x_hat * (dy * x_hat).sum(axis=0)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
