"""Accepts clip and does nothing with it."""

QUESTION = "min_max"
LOSES = {"clips when asked"}
SAYS = "With clip=True nothing may leave the range"


def min_max(x, low, high, clip=False):
    width = high - low
    constant = width == 0
    return np.where(constant, 0.0, (x - low) / np.where(constant, 1.0, width))
