"""Multiplies by (m - 1) / m where m / (m - 1) is needed."""

QUESTION = "update_running"
LOSES = {"running variance, from the unbiased one"}
SAYS = "upside down"


def update_running(running_mean, running_var, mean, var, m, momentum):
    corrected = var * (m - 1) / m
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * corrected
