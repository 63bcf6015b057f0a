"""Bytes per flop."""

QUESTION = "roofline"
LOSES = {
    "arithmetic intensity",
    "attainable performance where memory is the limit",
    "attainable performance where the peak is the limit",
}
SAYS = "upside down: bytes per flop"


def roofline(flops, nbytes, bandwidth, peak):
    intensity = nbytes / flops
    return intensity, min(peak, intensity * bandwidth), max(nbytes / (bandwidth * 1e9), flops / (peak * 1e9))
