"""Adds the work per channel, which was to be left out."""

QUESTION = "bn_flops"
LOSES = {"eval: operations per element", "forward: operations per element", "backward: operations per element"}
SAYS = "Leave it out"


def bn_flops(shape, step):
    n, c, h, w = shape
    return {"eval": 2, "forward": 6, "backward": 8}[step] * n * c * h * w + c
