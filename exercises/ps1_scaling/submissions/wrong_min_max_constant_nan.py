"""Divides by the width as it is: 0/0 in a constant feature."""

QUESTION = "min_max"
LOSES = {"a constant feature becomes 0"}
SAYS = "0/0 is NaN"


def min_max(x, low, high, clip=False):
    x_scaled = (x - low) / (high - low)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
