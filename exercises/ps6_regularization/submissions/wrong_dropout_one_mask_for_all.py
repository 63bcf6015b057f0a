"""One mask for all examples of the batch."""

QUESTION = "dropout"
LOSES = {"every value has a coin of its own"}
SAYS = "one mask was drawn for all examples"


def dropout(x, p, training, rng):
    return x * (rng.random(x.shape[1]) >= p) / (1 - p) if training else x
