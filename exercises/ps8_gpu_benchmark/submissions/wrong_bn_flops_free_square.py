"""Counts no operation for the square."""

QUESTION = "bn_flops"
LOSES = {"forward: operations per element"}
SAYS = "It is a multiplication"


def bn_flops(shape, step):
    n, c, h, w = shape
    return {"eval": 2, "forward": 1 + 2 + 2, "backward": 8}[step] * n * c * h * w
