"""The statistics of the mates alone: the example is missing from its own batch."""

QUESTION = "noisy_views"
LOSES = {
    "normalized by the statistics of its batch",
    "eps inside the square root",
    "batches of two",
    "leaves its inputs as they were",
}
SAYS = "example itself is missing"


def noisy_views(example, x, mates, eps):
    company = x[mates]
    return (example - company.mean(axis=1)) / np.sqrt(company.var(axis=1) + eps)
