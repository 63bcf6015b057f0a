"""Streaming backward reads x again, and forgets that dy went into the sums as well."""

QUESTION = "bn_bytes"
LOSES = {"large tensors, streaming"}
SAYS = "Only one of the tensors is read again"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2, "backward": 3}[step]
    if streaming and step != "eval":
        passes += 1
    return passes * n * c * h * w * itemsize, {"eval": 4, "forward": 8, "backward": 5}[step] * c * 4
