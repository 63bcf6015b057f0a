"""What the explorable `ghost` must compute."""

import numpy as np
import torch

from bnlab.reference import batch_norm_forward
from bnlab.relatives import GhostBatchNorm1d, ghost_batches


def oracle(state, data):
    x = np.array(data["batches"][int(state["batch"]) - 1])[:, None]
    full = batch_norm_forward(x, eps=data["eps"])[0]

    def ghosts(size):
        layer = GhostBatchNorm1d(1, eps=data["eps"], ghost_size=size, affine=False, dtype=torch.float64)
        return layer(torch.tensor(x)).numpy()

    def error(size):
        return np.sqrt(((ghosts(size) - full) ** 2).mean())

    sizes = [len(part) for part in ghost_batches(torch.tensor(x), state["size"])]
    return {
        "full": full[:, 0],
        "ghost": ghosts(state["size"])[:, 0],
        "number": np.repeat(np.arange(len(sizes)), sizes),
        "sizes": sizes,
        "error": error(state["size"]),
        "curve": [{"size": size, "error": error(size)} for size in (2, 4, 8, 16, 32, 64, 128)],
    }
