"""m counts the values of all channels."""

QUESTION = "layer_sizes"
LOSES = {"values behind one statistic", "any number of position axes"}
SAYS = "counts the values of all channels"


def layer_sizes(shape):
    return 2 * shape[1], 2 * shape[1], int(np.prod(shape))
