"""Drops whole examples."""

QUESTION = "dropout"
LOSES = {"every value has a coin of its own"}
SAYS = "one coin was tossed for each example"


def dropout(x, p, training, rng):
    return x * (rng.random((len(x), 1)) >= p) / (1 - p) if training else x
