"""Stores the vectors in the format of x, float16 included."""

QUESTION = "bn_bytes"
LOSES = {"the vectors are float32"}
SAYS = "float32, 4 bytes, whatever x is"


def bn_bytes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    passes = {"eval": 2, "forward": 2 + streaming, "backward": 3 + 2 * streaming}[step]
    vectors = {"eval": 4, "forward": 8, "backward": 5}[step]
    return passes * n * c * h * w * itemsize, vectors * c * itemsize
