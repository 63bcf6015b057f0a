"""Makes a generator with a fixed seed in every call: the same mask for ever."""

QUESTION = "dropout"
LOSES = {"draws from rng, anew in every call"}
SAYS = "is a seed set in the function"


def dropout(x, p, training, rng):
    return x * (np.random.default_rng(0).random(x.shape) >= p) / (1 - p) if training else x
