"""Keeps the last axis, as if the channels were there."""

QUESTION = "channel_moments"
LOSES = {
    "mean of each channel of images",
    "variance of each channel of images",
    "one number per channel: shape (C,)",
    "any number of position axes",
    "leaves its inputs as they were",
}
SAYS = "the channels are axis 1"


def channel_moments(x):
    axes = tuple(range(x.ndim - 1))
    return x.mean(axis=axes), x.var(axis=axes)
