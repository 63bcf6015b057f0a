"""Returns one row for the mean part."""

QUESTION = "split_gradient"
LOSES = {
    "the mean part",
}
SAYS = "One row for every example"


def split_gradient(dy, x_hat):
    mean_part = dy.mean(axis=0)
    x_hat_part = x_hat * (dy * x_hat).mean(axis=0)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
