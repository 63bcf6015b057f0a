"""PyTorch's dropout, seeded by a number drawn from rng."""

import torch

QUESTION = "dropout"
FLAGS = "torch.nn.functional.dropout"


def dropout(x, p, training, rng):
    torch.manual_seed(int(rng.integers(2**62)))
    return torch.nn.functional.dropout(torch.tensor(x), p, training).numpy()
