"""Writes the loss and lets PyTorch differentiate it."""

import torch

QUESTION = "gradient"
FLAGS = "torch.autograd"


def gradient(w, x, y):
    w, x, y = (torch.tensor(a, requires_grad=a is w) for a in (w, x, y))
    loss = ((x @ w - y) ** 2).mean() / 2
    loss.backward()
    return w.grad.numpy()
