"""Divides by 2**30."""

QUESTION = "copy_bandwidth"
LOSES = {"bytes read and written per second, in GB/s"}
SAYS = "These are GiB"


def copy_bandwidth(x, timer):
    destination = torch.empty_like(x)
    return 2 * x.nbytes / timer(lambda: destination.copy_(x)) / 2**30
