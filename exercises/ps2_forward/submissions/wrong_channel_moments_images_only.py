"""Works for images only: the axes are written down as (0, 2, 3)."""

QUESTION = "channel_moments"
LOSES = {"any number of position axes"}
SAYS = "find the axes from x.ndim"


def channel_moments(x):
    return x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
