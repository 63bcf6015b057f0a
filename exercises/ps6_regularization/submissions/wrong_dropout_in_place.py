"""Zeroes the caller's array."""

QUESTION = "dropout"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x in place"


def dropout(x, p, training, rng):
    if not training:
        return x
    x[rng.random(x.shape) < p] = 0
    return x / (1 - p)
