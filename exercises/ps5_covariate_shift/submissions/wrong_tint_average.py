"""Multiplies by the brightness of the color: the images stay gray."""

QUESTION = "tint"
LOSES = {"one image, one color", "each image has a color of its own", "leaves its inputs as they were"}
SAYS = "the images are still gray"


def tint(images, colors):
    return (images * colors.mean(dim=1)[:, None, None, None]).expand(-1, 3, -1, -1)
