"""Counts a pair for every position of every channel, as after flattening."""

QUESTION = "layer_sizes"
LOSES = {"learned parameters", "remembered statistics", "any number of position axes"}
SAYS = "every position of every channel"


def layer_sizes(shape):
    n, *features = shape
    count = 2 * int(np.prod(features))
    return count, count, n * int(np.prod(shape[2:]))
