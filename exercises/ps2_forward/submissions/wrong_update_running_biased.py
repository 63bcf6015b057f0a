"""Averages the biased variance in, as Keras and Flax do."""

QUESTION = "update_running"
LOSES = {"running variance, from the unbiased one"}
SAYS = "the biased variance went in"


def update_running(running_mean, running_var, mean, var, m, momentum):
    return (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var
