"""Times clone, which also reserves the memory."""

QUESTION = "copy_bandwidth"
LOSES = {"times one copy of x, and nothing else"}
SAYS = "reserves new memory: clone"


def copy_bandwidth(x, timer):
    return 2 * x.nbytes / timer(lambda: x.clone()) / 1e9
