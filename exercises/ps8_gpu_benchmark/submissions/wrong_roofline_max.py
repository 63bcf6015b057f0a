"""Takes the higher of the two limits for the performance."""

QUESTION = "roofline"
LOSES = {
    "attainable performance where memory is the limit",
    "attainable performance where the peak is the limit",
}
SAYS = "take the min"


def roofline(flops, nbytes, bandwidth, peak):
    intensity = flops / nbytes
    return intensity, max(peak, intensity * bandwidth), max(nbytes / (bandwidth * 1e9), flops / (peak * 1e9))
