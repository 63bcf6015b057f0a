"""m is the number of examples, also where each of them has many positions."""

QUESTION = "layer_sizes"
LOSES = {"values behind one statistic", "any number of position axes"}
SAYS = "brings all its positions"


def layer_sizes(shape):
    return 2 * shape[1], 2 * shape[1], shape[0]
