"""Corrects the average, and so the old running variance, too."""

QUESTION = "update_running"
LOSES = {"running variance, from the unbiased one"}
SAYS = "the old running_var was corrected as well"


def update_running(running_mean, running_var, mean, var, m, momentum):
    blended = (1 - momentum) * running_var + momentum * var
    return (1 - momentum) * running_mean + momentum * mean, blended * m / (m - 1)
