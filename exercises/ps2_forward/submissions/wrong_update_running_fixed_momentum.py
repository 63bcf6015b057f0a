"""Writes 0.1 instead of the momentum that is given."""

QUESTION = "update_running"
LOSES = {"running variance, from the unbiased one", "any momentum"}
SAYS = "fixed at 0.1"


def update_running(running_mean, running_var, mean, var, m, momentum):
    return 0.9 * running_mean + 0.1 * mean, 0.9 * running_var + 0.1 * var * m / (m - 1)
