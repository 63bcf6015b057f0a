"""Converts bytes to bits."""

QUESTION = "roofline"
LOSES = {
    "arithmetic intensity",
    "attainable performance where memory is the limit",
    "shortest time where memory is the limit",
}
SAYS = "nbytes counts bytes"


def roofline(flops, nbytes, bandwidth, peak):
    bits = 8 * nbytes
    intensity = flops / bits
    return intensity, min(peak, intensity * bandwidth), max(bits / (bandwidth * 1e9), flops / (peak * 1e9))
