"""The original dropout: scales by 1 - p in evaluation instead of in training."""

QUESTION = "dropout"
LOSES = {"scales what is left", "evaluation leaves the values as they are"}
SAYS = "in evaluation"


def dropout(x, p, training, rng):
    if training:
        return x * (rng.random(x.shape) >= p)
    return x * (1 - p)
