"""Draws from NumPy's global generator, not from the one that was given."""

QUESTION = "corrupt_labels"
LOSES = {"a random choice, drawn from rng"}
SAYS = "another source of random numbers"


def corrupt_labels(y, classes, share, rng):
    chosen = np.random.permutation(len(y))[: round(share * len(y))]
    labels = y.copy()
    labels[chosen] = (y[chosen] + np.random.randint(1, classes, size=len(chosen))) % classes
    return labels, labels != y
