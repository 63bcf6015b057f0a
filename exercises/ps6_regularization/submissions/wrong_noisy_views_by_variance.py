"""Divides by the variance."""

QUESTION = "noisy_views"
LOSES = {
    "normalized by the statistics of its batch",
    "eps inside the square root",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "divides by the variance"


def noisy_views(example, x, mates, eps):
    batches = [np.vstack([example, x[rows]]) for rows in mates]
    return np.array([(example - batch.mean(axis=0)) / (batch.var(axis=0) + eps) for batch in batches])
