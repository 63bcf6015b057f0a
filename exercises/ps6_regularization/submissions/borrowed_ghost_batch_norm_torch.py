"""Gives every group to PyTorch's batch normalization."""

import torch

QUESTION = "ghost_batch_norm"
FLAGS = "torch.nn.functional.batch_norm"


def ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    x, gamma, beta = torch.tensor(x), torch.tensor(gamma), torch.tensor(beta)
    mean, var = torch.tensor(running_mean), torch.tensor(running_var)  # copies, which PyTorch updates in place
    y = [
        torch.nn.functional.batch_norm(group, mean, var, gamma, beta, training, momentum, eps)
        for group in x.split(ghost_size)
    ]
    return torch.cat(y).numpy(), mean.numpy(), var.numpy()
