"""Calls the course's own batch_norm."""

QUESTION = "batch_norm"
FLAGS = "bnlab.functional"


def batch_norm(x, gamma, beta, eps):
    from bnlab.functional import batch_norm as library

    return library(x, None, None, gamma, beta, training=True, eps=eps)
