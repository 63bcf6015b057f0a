"""Counts what is read and forgets what is written."""

QUESTION = "copy_bandwidth"
LOSES = {"bytes read and written per second, in GB/s"}
SAYS = "counts what is read only"


def copy_bandwidth(x, timer):
    destination = torch.empty_like(x)
    return x.nbytes / timer(lambda: destination.copy_(x)) / 1e9
