"""What is measured: the input of every batch normalization layer of real networks, and shapes that are awkward.

The lists follow torchvision's VGG-16-BN and ResNet-50 at 224 x 224 pixels; `tests/bnlab/test_benchmark.py` counts them
against the networks themselves.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The input of a layer.

    Attributes
    ----------
    channels : int
    positions : tuple of int
        Height and width, or whatever axes follow the channels; empty for plain features.
    layers : int
        How many layers of the network have it.
    examples : int or None
        The batch size, where the suite prescribes one.
    """

    channels: int
    positions: tuple[int, ...]
    layers: int = 1
    examples: int | None = None

    def of(self, batch_size: int) -> tuple[int, ...]:
        """The shape (N, C, ...) of a batch."""
        return (self.examples or batch_size, self.channels, *self.positions)


def _images(*rows: tuple[int, int, int]) -> tuple[Shape, ...]:
    return tuple(Shape(channels, (side, side), layers) for channels, side, layers in rows)


SUITES: dict[str, tuple[Shape, ...]] = {
    "vgg16": _images((64, 224, 2), (128, 112, 2), (256, 56, 3), (512, 28, 3), (512, 14, 3)),
    "resnet50": _images(
        (64, 112, 1),
        (64, 56, 6),
        (256, 56, 4),
        (128, 56, 1),
        (128, 28, 7),
        (512, 28, 5),
        (256, 28, 1),
        (256, 14, 11),
        (1024, 14, 7),
        (512, 14, 1),
        (512, 7, 5),
        (2048, 7, 4),
    ),
    "features": (
        Shape(256, (), examples=4096),
        Shape(1024, (), examples=1024),
        Shape(100, (), examples=10_000),
        Shape(64, (2048,), examples=32),
        Shape(512, (128,), examples=64),
    ),
    "awkward": (
        Shape(1, (224, 224), examples=32),
        Shape(3, (224, 224), examples=32),
        Shape(37, (13, 29), examples=19),
        Shape(2048, (1, 1), examples=64),
        Shape(16, (8, 8), examples=4),
        Shape(10, (), examples=8),
    ),
}
