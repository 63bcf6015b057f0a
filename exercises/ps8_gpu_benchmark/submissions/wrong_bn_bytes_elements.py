"""Counts elements where bytes are asked."""

QUESTION = "bn_bytes"
LOSES = {"large tensors, at the floor", "large tensors, streaming", "tensors of more than 2**31 bytes"}
SAYS = "This counts elements"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2 + streaming, "backward": 3 + 2 * streaming}[step]
    return passes * n * c * h * w, {"eval": 4, "forward": 8, "backward": 5}[step] * c * 4
