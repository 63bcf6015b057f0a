"""The variance within each image, averaged over the images."""

QUESTION = "channel_moments"
LOSES = {"variance of each channel of images", "any number of position axes"}
SAYS = "mean of the variances within each example"


def channel_moments(x):
    axes = tuple(range(2, x.ndim))
    if not axes:
        return x.mean(axis=0), x.var(axis=0)
    return x.mean(axis=(0, *axes)), x.var(axis=axes).mean(axis=0)
