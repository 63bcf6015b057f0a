"""Tosses a coin for every label: the share is right on average only."""

QUESTION = "corrupt_labels"
LOSES = {"exactly the share asked for is wrong"}
SAYS = "coin tossed for every label"


def corrupt_labels(y, classes, share, rng):
    corrupted = rng.random(len(y)) < share
    labels = np.where(corrupted, (y + rng.integers(1, classes, size=len(y))) % classes, y)
    return labels, corrupted
