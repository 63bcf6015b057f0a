"""Leaves the mean part in the rest."""

QUESTION = "split_gradient"
LOSES = {
    "the rest",
}
SAYS = "mean part is still in it"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = x_hat * (dy * x_hat).mean(axis=0)
    return mean_part, x_hat_part, dy - x_hat_part
