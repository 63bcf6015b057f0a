"""Calls the copy and gives the timer its result."""

QUESTION = "copy_bandwidth"
LOSES = {
    "bytes read and written per second, in GB/s",
    "times one copy of x, and nothing else",
    "leaves its inputs as they were",
}
SAYS = "a timer is given the function itself"


def copy_bandwidth(x, timer):
    destination = torch.empty_like(x)
    return 2 * x.nbytes / timer(destination.copy_(x)) / 1e9
