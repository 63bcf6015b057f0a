"""Normalizes with the statistics of all data, as evaluation would."""

QUESTION = "noisy_views"
LOSES = {
    "normalized by the statistics of its batch",
    "eps inside the square root",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "statistics of the whole of x"


def noisy_views(example, x, mates, eps):
    x_hat = (example - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return np.tile(x_hat, (len(mates), 1))
