"""Returns the labels as floating-point numbers."""

QUESTION = "corrupt_labels"
LOSES = {"labels stay integers"}
SAYS = "Labels are used as an index"


def corrupt_labels(y, classes, share, rng):
    count = round(share * len(y))
    chosen = rng.permutation(len(y))[:count]
    labels, corrupted = y.astype(float), np.zeros(len(y), dtype=bool)
    labels[chosen] = (y[chosen] + rng.integers(1, classes, size=count)) % classes
    corrupted[chosen] = True
    return labels, corrupted
