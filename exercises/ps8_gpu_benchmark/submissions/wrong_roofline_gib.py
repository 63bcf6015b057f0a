"""Takes a GB for 2**30 bytes."""

QUESTION = "roofline"
LOSES = {"shortest time where memory is the limit"}
SAYS = "2**30 is a GiB"


def roofline(flops, nbytes, bandwidth, peak):
    intensity = flops / nbytes
    return intensity, min(peak, intensity * bandwidth), max(nbytes / (bandwidth * 2**30), flops / (peak * 1e9))
