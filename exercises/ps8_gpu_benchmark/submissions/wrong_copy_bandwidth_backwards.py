"""Copies the empty tensor into x."""

QUESTION = "copy_bandwidth"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input x"


def copy_bandwidth(x, timer):
    destination = torch.zeros_like(x)
    return 2 * x.nbytes / timer(lambda: x.copy_(destination)) / 1e9
