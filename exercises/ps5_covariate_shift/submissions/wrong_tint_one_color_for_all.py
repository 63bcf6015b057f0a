"""All images get the color of the first."""

QUESTION = "tint"
LOSES = {"each image has a color of its own"}
SAYS = "the color of the first one"


def tint(images, colors):
    return images * colors[0][:, None, None]
