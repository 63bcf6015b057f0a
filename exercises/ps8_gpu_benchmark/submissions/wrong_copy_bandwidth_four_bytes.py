"""Takes every tensor for float32."""

QUESTION = "copy_bandwidth"
LOSES = {"bytes read and written per second, in GB/s"}
SAYS = "x isn't float32"


def copy_bandwidth(x, timer):
    destination = torch.empty_like(x)
    return 2 * 4 * x.numel() / timer(lambda: destination.copy_(x)) / 1e9
