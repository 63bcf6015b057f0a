"""Counts a multiplication with the addition behind it as one operation."""

QUESTION = "bn_flops"
LOSES = {"eval: operations per element", "forward: operations per element", "backward: operations per element"}
SAYS = "two operations: a multiplication and an addition"


def bn_flops(shape, step):
    n, c, h, w = shape
    return {"eval": 1, "forward": 4, "backward": 5}[step] * n * c * h * w
