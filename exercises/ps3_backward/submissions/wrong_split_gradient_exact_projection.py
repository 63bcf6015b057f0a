"""Projects on x_hat exactly, dividing by the sum of its squares."""

QUESTION = "split_gradient"
LOSES = {
    "where eps matters",
}
SAYS = "projects on x_hat exactly"


def split_gradient(dy, x_hat):
    mean_part = np.zeros_like(dy) + dy.mean(axis=0)
    x_hat_part = x_hat * (dy * x_hat).sum(axis=0) / (x_hat**2).sum(axis=0)
    return mean_part, x_hat_part, dy - mean_part - x_hat_part
