"""Returns the mask as zeros and ones."""

QUESTION = "corrupt_labels"
LOSES = {"tells which labels were replaced"}
SAYS = "Make it bool"


def corrupt_labels(y, classes, share, rng):
    count = round(share * len(y))
    chosen = rng.permutation(len(y))[:count]
    labels, corrupted = y.copy(), np.zeros(len(y), dtype=int)
    labels[chosen] = (y[chosen] + rng.integers(1, classes, size=count)) % classes
    corrupted[chosen] = True
    return labels, corrupted
