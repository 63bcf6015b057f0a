"""Adds eps to the standard deviation."""

QUESTION = "noisy_views"
LOSES = {"eps inside the square root"}
SAYS = "outside the root"


def noisy_views(example, x, mates, eps):
    batches = [np.vstack([example, x[rows]]) for rows in mates]
    return np.array([(example - batch.mean(axis=0)) / (batch.std(axis=0) + eps) for batch in batches])
