"""Forgets that the forward pass saves the batch's statistics for the backward pass."""

QUESTION = "bn_bytes"
LOSES = {"the vectors are float32"}
SAYS = "writes them down for the backward pass"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2 + streaming, "backward": 3 + 2 * streaming}[step]
    return passes * n * c * h * w * itemsize, {"eval": 4, "forward": 6, "backward": 5}[step] * c * 4
