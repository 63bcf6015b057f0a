"""Hands everything to PyTorch."""

import torch

QUESTION = "batch_norm"
FLAGS = "torch.nn.functional.batch_norm"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps):
    x, gamma, beta, running_mean, running_var = map(torch.tensor, (x, gamma, beta, running_mean, running_var))
    y = torch.nn.functional.batch_norm(x, running_mean, running_var, gamma, beta, training, momentum, eps)
    return y.numpy(), running_mean.numpy(), running_var.numpy()
