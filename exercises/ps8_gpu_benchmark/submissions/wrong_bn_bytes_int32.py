"""Multiplies in 32-bit integers, which overflow at 2 GB."""

QUESTION = "bn_bytes"
LOSES = {"tensors of more than 2**31 bytes"}
SAYS = "32-bit integer"


def bn_bytes(shape, itemsize, step, streaming):
    passes = {"eval": 2, "forward": 2 + streaming, "backward": 3 + 2 * streaming}[step]
    tensors = np.array([*shape, itemsize, passes], dtype=np.int32).prod(dtype=np.int32)
    return int(tensors), {"eval": 4, "forward": 8, "backward": 5}[step] * shape[1] * 4
