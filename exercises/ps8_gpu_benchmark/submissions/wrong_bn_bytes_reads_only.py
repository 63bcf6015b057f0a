"""Counts what is read and forgets what is written."""

QUESTION = "bn_bytes"
LOSES = {"large tensors, at the floor", "large tensors, streaming", "tensors of more than 2**31 bytes"}
SAYS = "forgets what is written"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    reads = {"eval": 1, "forward": 1, "backward": 2}[step]
    if streaming and step != "eval":
        reads *= 2
    vectors = {"eval": 4, "forward": 8, "backward": 5}[step]
    return reads * n * c * h * w * itemsize, vectors * c * 4
