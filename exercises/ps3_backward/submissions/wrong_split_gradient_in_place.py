"""Subtracts the parts from dy in place."""

QUESTION = "split_gradient"
LOSES = {
    "leaves its inputs as they were",
}
SAYS = "in place"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = x_hat * (dy * x_hat).mean(axis=0)
    dy -= mean_part
    dy -= x_hat_part
    return mean_part, x_hat_part, dy
