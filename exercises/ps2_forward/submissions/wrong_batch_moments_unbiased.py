"""Divides by m - 1: the unbiased variance, where the transform wants the biased one."""

QUESTION = "batch_moments"
LOSES = {"variance of each feature, divided by m"}
SAYS = "divides by m - 1"


def batch_moments(x):
    mean = x.mean(axis=0)
    var = x.var(axis=0, ddof=1)
    return mean, var
