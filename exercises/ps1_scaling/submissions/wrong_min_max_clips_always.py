"""Clips although nobody asked: a value that was never seen loses its place."""

QUESTION = "min_max"
LOSES = {"unseen values keep their place outside 0 to 1"}
SAYS = "You clip, but clip is False"


def min_max(x, low, high, clip=False):
    width = high - low
    constant = width == 0
    return np.clip(np.where(constant, 0.0, (x - low) / np.where(constant, 1.0, width)), 0, 1)
