"""Averages over the features of each example."""

QUESTION = "split_gradient"
LOSES = {
    "the mean part",
    "the part along x_hat",
    "the rest",
    "where eps matters",
    "leaves its inputs as they were",
}
SAYS = "over the examples, axis 0"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=1, keepdims=True)
    x_hat_part = x_hat * (dy * x_hat).mean(axis=1, keepdims=True)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
