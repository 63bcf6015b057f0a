"""Replaces the labels of the first examples."""

QUESTION = "corrupt_labels"
LOSES = {"a random choice, drawn from rng"}
SAYS = "no random choice"


def corrupt_labels(y, classes, share, rng):
    corrupted = np.arange(len(y)) < round(share * len(y))
    return np.where(corrupted, (y + rng.integers(1, classes, size=len(y))) % classes, y), corrupted
