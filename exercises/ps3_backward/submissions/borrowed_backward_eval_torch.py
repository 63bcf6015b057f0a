"""Lets PyTorch's batch_norm and its autograd do the work."""

import torch

QUESTION = "backward_eval"
FLAGS = "torch.nn.functional.batch_norm"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    x, gamma = (torch.tensor(a, requires_grad=True) for a in (x, gamma))
    beta = torch.zeros_like(gamma, requires_grad=True)
    statistics = torch.tensor(running_mean), torch.tensor(running_var)
    y = torch.nn.functional.batch_norm(x, *statistics, gamma, beta, training=False, eps=eps)
    y.backward(torch.tensor(dy))
    return x.grad.numpy(), gamma.grad.numpy(), beta.grad.numpy()
