"""Counts one example instead of the batch."""

QUESTION = "bn_flops"
LOSES = {"eval: operations per element", "forward: operations per element", "backward: operations per element"}
SAYS = "one example of the batch"


def bn_flops(shape, step):
    _, c, h, w = shape
    return {"eval": 2, "forward": 6, "backward": 8}[step] * c * h * w
