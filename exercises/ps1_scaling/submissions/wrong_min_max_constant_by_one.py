"""Divides by 1 where the width is 0, so an unseen value of a constant feature keeps its size."""

QUESTION = "min_max"
LOSES = {"a constant feature becomes 0"}
SAYS = "This is x - low for feature"


def min_max(x, low, high, clip=False):
    width = high - low
    x_scaled = (x - low) / np.where(width == 0, 1.0, width)
    return np.clip(x_scaled, 0, 1) if clip else x_scaled
