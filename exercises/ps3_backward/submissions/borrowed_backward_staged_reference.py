"""Reads every intermediate from the course's own reference."""

import bnlab.reference

QUESTION = "backward_staged"
FLAGS = "bnlab.reference"


def backward_staged(dy, x, gamma, eps):
    _, cache = bnlab.reference.batch_norm_forward(x, gamma, eps=eps)
    stages = bnlab.reference.batch_norm_backward_staged(dy, cache)
    return stages.dx_hat, stages.dvar, stages.dmu, stages.dx
