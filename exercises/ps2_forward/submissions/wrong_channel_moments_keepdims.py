"""Returns the shape (1, C, 1, 1) that is handy inside."""

QUESTION = "channel_moments"
LOSES = {"one number per channel: shape (C,)"}
SAYS = "extra axes of length 1"


def channel_moments(x):
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
