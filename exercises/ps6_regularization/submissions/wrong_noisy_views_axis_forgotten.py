"""Takes mean and variance over all numbers of a batch."""

QUESTION = "noisy_views"
LOSES = {
    "eps inside the square root",
    "normalized by the statistics of its batch",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "taken over all numbers of the batch"


def noisy_views(example, x, mates, eps):
    batches = [np.vstack([example, x[rows]]) for rows in mates]
    return np.array([(example - batch.mean()) / np.sqrt(batch.var() + eps) for batch in batches])
