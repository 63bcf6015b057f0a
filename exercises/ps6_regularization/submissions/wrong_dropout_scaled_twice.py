"""Scales in training, and in evaluation once more."""

QUESTION = "dropout"
LOSES = {"evaluation leaves the values as they are"}
SAYS = "multiplies by 1 - p in evaluation"


def dropout(x, p, training, rng):
    if training:
        return x * (rng.random(x.shape) >= p) / (1 - p)
    return x * (1 - p)
