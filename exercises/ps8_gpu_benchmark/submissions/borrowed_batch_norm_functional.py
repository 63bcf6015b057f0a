"""Calls PyTorch's own batch_norm."""

QUESTION = "batch_norm"
FLAGS = "torch.nn.functional.batch_norm"


def batch_norm(x, gamma, beta, eps):
    return torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
