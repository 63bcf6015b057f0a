"""Every replaced label moves to the next class."""

QUESTION = "corrupt_labels"
LOSES = {"every other class is equally likely"}
SAYS = "same neighbor"


def corrupt_labels(y, classes, share, rng):
    corrupted = np.zeros(len(y), dtype=bool)
    corrupted[rng.permutation(len(y))[: round(share * len(y))]] = True
    return np.where(corrupted, (y + 1) % classes, y), corrupted
