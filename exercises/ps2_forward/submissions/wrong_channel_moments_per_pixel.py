"""Averages over the examples only: the statistics of every pixel."""

QUESTION = "channel_moments"
LOSES = {
    "mean of each channel of images",
    "variance of each channel of images",
    "one number per channel: shape (C,)",
    "any number of position axes",
    "leaves its inputs as they were",
}
SAYS = "statistic of every pixel"


def channel_moments(x):
    return x.mean(axis=0), x.var(axis=0)
