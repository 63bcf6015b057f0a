"""Updates the caller's arrays."""

QUESTION = "update_running"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input running_mean and running_var in place"


def update_running(running_mean, running_var, mean, var, m, momentum):
    running_mean *= 1 - momentum
    running_mean += momentum * mean
    running_var *= 1 - momentum
    running_var += momentum * var * m / (m - 1)
    return running_mean, running_var
