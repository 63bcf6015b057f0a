"""Adds a tiny number to the width: an unseen value of a constant feature becomes huge."""

QUESTION = "min_max"
LOSES = {"a constant feature becomes 0"}
SAYS = "A tiny number added to the width will not do"


def min_max(x, low, high, clip=False):
    x_scaled = (x - low) / (high - low + 1e-12)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
