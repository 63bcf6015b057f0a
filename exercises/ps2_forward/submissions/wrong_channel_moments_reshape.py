"""Reshapes to C rows without moving the channels to the front."""

QUESTION = "channel_moments"
LOSES = {
    "mean of each channel of images",
    "variance of each channel of images",
    "one number per channel: shape (C,)",
    "any number of position axes",
    "leaves its inputs as they were",
}
SAYS = "which doesn't swap axes"


def channel_moments(x):
    rows = x.reshape(x.shape[1], -1)
    return rows.mean(axis=1), rows.var(axis=1)
