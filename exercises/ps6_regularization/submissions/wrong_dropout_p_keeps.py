"""Takes p for the probability of being kept."""

QUESTION = "dropout"
LOSES = {"drops a share p of the values", "scales what is left"}
SAYS = "probability to be kept"


def dropout(x, p, training, rng):
    return x * (rng.random(x.shape) < p) / p if training else x
