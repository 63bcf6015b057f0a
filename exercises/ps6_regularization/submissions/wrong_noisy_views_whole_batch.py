"""Returns the whole batch, normalized."""

QUESTION = "noisy_views"
LOSES = {
    "eps inside the square root",
    "normalized by the statistics of its batch",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "only the row of the example is asked"


def noisy_views(example, x, mates, eps):
    batches = [np.vstack([example, x[rows]]) for rows in mates]
    return np.array([(batch - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + eps) for batch in batches])
