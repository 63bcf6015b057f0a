"""Adds to the running statistics without letting the old value fade."""

QUESTION = "update_running"
LOSES = {"running mean", "running variance, from the unbiased one", "any momentum", "leaves its inputs as they were"}
SAYS = "the old value must fade"


def update_running(running_mean, running_var, mean, var, m, momentum):
    return running_mean + momentum * mean, running_var + momentum * var * m / (m - 1)
