"""Divides by m - 1."""

QUESTION = "channel_moments"
LOSES = {"variance of each channel of images", "any number of position axes"}
SAYS = "divides by m - 1"


def channel_moments(x):
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes), x.var(axis=axes, ddof=1)
