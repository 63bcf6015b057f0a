"""Adds the color, so black turns bright."""

QUESTION = "tint"
LOSES = {"one image, one color", "each image has a color of its own", "leaves its inputs as they were"}
SAYS = "multiply, so that black stays black"


def tint(images, colors):
    return images + colors[:, :, None, None]
