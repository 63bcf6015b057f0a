"""Forgets the sums over the batch and counts the last formula only."""

QUESTION = "bn_flops"
LOSES = {"forward: operations per element", "backward: operations per element"}
SAYS = "The sums are missing"


def bn_flops(shape, step):
    n, c, h, w = shape
    return {"eval": 2, "forward": 2, "backward": 4}[step] * n * c * h * w
