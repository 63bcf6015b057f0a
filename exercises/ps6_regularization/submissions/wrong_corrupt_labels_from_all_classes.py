"""Draws the new label from all classes: some stay as they were."""

QUESTION = "corrupt_labels"
LOSES = {"exactly the share asked for is wrong", "tells which labels were replaced"}
SAYS = "replaced by themselves"


def corrupt_labels(y, classes, share, rng):
    chosen = rng.permutation(len(y))[: round(share * len(y))]
    labels, corrupted = y.copy(), np.zeros(len(y), dtype=bool)
    labels[chosen] = rng.integers(classes, size=len(chosen))
    corrupted[chosen] = True
    return labels, corrupted
