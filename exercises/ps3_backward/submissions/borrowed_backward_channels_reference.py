"""Lets the course's own reference do the work."""

from bnlab.reference import batch_norm_backward, batch_norm_forward

QUESTION = "backward_channels"
FLAGS = "bnlab.reference"


def backward_channels(dy, x, gamma, eps):
    _, cache = batch_norm_forward(x, gamma, np.zeros_like(gamma), eps=eps)
    gradients = batch_norm_backward(dy, cache)
    return gradients.dx, gradients.dgamma, gradients.dbeta
