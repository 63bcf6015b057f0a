"""Drops an exact number of values instead of tossing a coin for each."""

QUESTION = "dropout"
LOSES = {"every value has a coin of its own"}
SAYS = "Don't choose a fixed number of places"


def dropout(x, p, training, rng):
    if not training:
        return x
    kept = np.ones(x.size)
    kept[rng.permutation(x.size)[: round(p * x.size)]] = 0
    return x * kept.reshape(x.shape) / (1 - p)
