"""Normalizes with the unbiased variance."""

QUESTION = "noisy_views"
LOSES = {
    "normalized by the statistics of its batch",
    "eps inside the square root",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "divides by m - 1"


def noisy_views(example, x, mates, eps):
    x_hat = []
    for rows in mates:
        batch = np.vstack([example, x[rows]])
        x_hat.append((example - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0, ddof=1) + eps))
    return np.array(x_hat)
