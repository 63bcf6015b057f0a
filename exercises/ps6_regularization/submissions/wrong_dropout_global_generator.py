"""Draws from NumPy's global generator, not from the one that was given."""

QUESTION = "dropout"
LOSES = {"draws from rng, anew in every call"}
SAYS = "another source of random numbers"


def dropout(x, p, training, rng):
    return x * (np.random.rand(*x.shape) >= p) / (1 - p) if training else x
