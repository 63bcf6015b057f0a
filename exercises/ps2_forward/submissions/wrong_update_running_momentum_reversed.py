"""Takes momentum for the weight of the past, as in Keras and Flax."""

QUESTION = "update_running"
LOSES = {"running mean", "any momentum"}
SAYS = "the other way round"


def update_running(running_mean, running_var, mean, var, m, momentum):
    unbiased = var * m / (m - 1)
    return momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * unbiased
