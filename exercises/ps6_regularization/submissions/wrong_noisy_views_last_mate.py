"""Puts the example on top of the batch and returns the last row, a mate."""

QUESTION = "noisy_views"
LOSES = {
    "eps inside the square root",
    "normalized by the statistics of its batch",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "this is a mate of the example"


def noisy_views(example, x, mates, eps):
    views = []
    for rows in mates:
        batch = np.vstack([example, x[rows]])
        x_hat = (batch - batch.mean(axis=0)) / np.sqrt(batch.var(axis=0) + eps)
        views.append(x_hat[-1])
    return np.array(views)
