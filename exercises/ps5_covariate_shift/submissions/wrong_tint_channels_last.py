"""Puts the channels last, as image files have them."""

QUESTION = "tint"
LOSES = {"one image, one color", "each image has a color of its own", "leaves its inputs as they were"}
SAYS = "channels are the last axis"


def tint(images, colors):
    return images[:, 0, :, :, None] * colors[:, None, None, :]
