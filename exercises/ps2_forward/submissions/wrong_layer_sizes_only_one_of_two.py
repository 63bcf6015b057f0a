"""Counts gamma and forgets beta, counts the mean and forgets the variance."""

QUESTION = "layer_sizes"
LOSES = {"learned parameters", "remembered statistics", "any number of position axes"}
SAYS = "this counts one"


def layer_sizes(shape):
    return shape[1], shape[1], int(np.prod(shape)) // shape[1]
