"""Ignores `streaming`: always the floor."""

QUESTION = "bn_bytes"
LOSES = {"large tensors, streaming"}
SAYS = "This is the floor"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2, "backward": 3}[step]
    return passes * n * c * h * w * itemsize, {"eval": 4, "forward": 8, "backward": 5}[step] * c * 4
