"""Returns the view of the first batch for all of them: the statistics are computed once."""

QUESTION = "noisy_views"
LOSES = {
    "normalized by the statistics of its batch",
    "eps inside the square root",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "every row is the same"


def noisy_views(example, x, mates, eps):
    batch = np.vstack([example, x[mates[0]]])
    return np.array([(example - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + eps) for _ in mates])
