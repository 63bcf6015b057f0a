"""Both conventions of Keras at once: momentum for the past, biased variance."""

QUESTION = "update_running"
LOSES = {"running mean", "running variance, from the unbiased one", "any momentum", "leaves its inputs as they were"}
SAYS = "the biased variance went in"


def update_running(running_mean, running_var, mean, var, m, momentum):
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * var
