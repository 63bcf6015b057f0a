"""Adds the time for moving and the time for computing."""

QUESTION = "roofline"
LOSES = {"shortest time where memory is the limit", "shortest time where the peak is the limit"}
SAYS = "adds the two times up"


def roofline(flops, nbytes, bandwidth, peak):
    intensity = flops / nbytes
    return intensity, min(peak, intensity * bandwidth), nbytes / (bandwidth * 1e9) + flops / (peak * 1e9)
