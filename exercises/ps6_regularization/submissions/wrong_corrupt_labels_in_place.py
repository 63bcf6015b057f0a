"""Writes the new labels into the caller's array."""

QUESTION = "corrupt_labels"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input y in place"


def corrupt_labels(y, classes, share, rng):
    chosen = rng.permutation(len(y))[: round(share * len(y))]
    corrupted = np.zeros(len(y), dtype=bool)
    corrupted[chosen] = True
    y[chosen] = (y[chosen] + rng.integers(1, classes, size=len(chosen))) % classes
    return y, corrupted
