"""Looks for the channels in the last axis."""

QUESTION = "layer_sizes"
LOSES = {"learned parameters", "remembered statistics", "values behind one statistic", "any number of position axes"}
SAYS = "the channels are axis 1"


def layer_sizes(shape):
    c = shape[-1]
    return 2 * c, 2 * c, int(np.prod(shape)) // c
