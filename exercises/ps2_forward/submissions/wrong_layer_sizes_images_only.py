"""Unpacks four sizes: right for images only."""

QUESTION = "layer_sizes"
LOSES = {"any number of position axes"}
SAYS = "It should work for (N, C)"


def layer_sizes(shape):
    N, C, H, W = shape
    return 2 * C, 2 * C, N * H * W
