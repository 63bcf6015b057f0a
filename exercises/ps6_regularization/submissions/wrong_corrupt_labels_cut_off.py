"""Cuts off what is behind the point instead of rounding."""

QUESTION = "corrupt_labels"
LOSES = {"exactly the share asked for is wrong"}
SAYS = "cut off what is behind the point"


def corrupt_labels(y, classes, share, rng):
    count = int(share * len(y))
    chosen = rng.permutation(len(y))[:count]
    labels, corrupted = y.copy(), np.zeros(len(y), dtype=bool)
    labels[chosen] = (y[chosen] + rng.integers(1, classes, size=count)) % classes
    corrupted[chosen] = True
    return labels, corrupted
