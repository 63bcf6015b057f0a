"""Returns the positions of the replaced labels instead of a mask."""

QUESTION = "corrupt_labels"
LOSES = {"tells which labels were replaced"}
SAYS = "a mask is asked"


def corrupt_labels(y, classes, share, rng):
    chosen = rng.permutation(len(y))[: round(share * len(y))]
    labels = y.copy()
    labels[chosen] = (y[chosen] + rng.integers(1, classes, size=len(chosen))) % classes
    return labels, chosen
