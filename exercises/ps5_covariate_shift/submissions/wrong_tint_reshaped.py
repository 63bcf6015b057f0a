"""reshape(3, N) instead of a transpose: colors go to the wrong images."""

QUESTION = "tint"
LOSES = {"each image has a color of its own"}
SAYS = "does not swap axes"


def tint(images, colors):
    channels = [images * channel.reshape(-1, 1, 1, 1) for channel in colors.reshape(3, -1)]
    return torch.cat(channels, dim=1)
