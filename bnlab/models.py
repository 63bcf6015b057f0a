"""The networks that the experiments share: MLPs of any depth, small convolutional nets, and VGG as torchvision has it.

Each takes its normalization layer as an argument: `norm` is None or anything that makes a layer from a number of
channels (``torch.nn.BatchNorm2d``, ``bnlab.BatchNorm2d``, ``lambda c: torch.nn.GroupNorm(8, c)``). The layer stands
after the linear part and before the activation, where Ioffe and Szegedy (2015, section 3.2) put it.

Three things hold for every network here:

- **Fair initialization, in every arm.** Convolutions: Kaiming normal with ``fan_out`` and zero biases, as torchvision's
  VGG. Dense layers: see each class. PyTorch's own default would leave a deep net without normalization at chance,
  which makes a straw man of it.
- **The same seed gives the same weights,** whatever the norm, and with or without biases: normalization layers draw no
  random numbers, and layers are made without the default initialization, so nothing else draws any.
- **The bias before a normalization layer stays,** though batch normalization subtracts it again and its gradient is
  zero: published checkpoints have it, and folding and insertion need a place for beta. `MLP` can leave it out.

What this isn't: a model zoo, or a training loop (`bnlab.training`).

Sources: Simonyan and Zisserman (2015), table 1, for VGG; He et al. (2015), section 2.2, and Glorot and Bengio (2010),
equation 12, for the initializations.
"""

from collections.abc import Callable, Sequence  # noqa: I001  bnlab.functional comes before torch
from itertools import pairwise
from math import sqrt

import bnlab.functional  # noqa: F401  it says what to install where torch is absent
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

__all__ = ["MLP", "VGG", "SmallConv", "small_vgg"]

Norm = Callable[[int], nn.Module]

# "M" is a 2x2 max pooling, a number is a 3x3 convolution with that many channels: columns A, B, D, E of the paper.
VGG_PLANS = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    13: (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", *3 * [256], "M", *3 * [512], "M", *3 * [512], "M"),
    19: (64, 64, "M", 128, 128, "M", *4 * [256], "M", *4 * [512], "M", *4 * [512], "M"),
}
HE_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Mish)


class MLP(nn.Sequential):
    """Dense layers, each but the last followed by the norm and the activation.

    Weights start as He normal, ``N(0, 2 / fan_in)``, before activations of the ReLU family, as Glorot normal,
    ``N(0, 2 / (fan_in + fan_out))``, before others (sigmoid, tanh), and as ``N(0, 1 / fan_in)`` in the last layer,
    which nothing follows (the second argument of N is the variance). Biases start as zero.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, of units in every hidden layer, of outputs: ``(64, 100, 100, 10)`` has two hidden layers.
    norm : callable or None, default None
        Makes a layer from a number of features, for example `torch.nn.BatchNorm1d`.
    activation : callable, default torch.nn.ReLU
        Makes the activation; called once for each hidden layer.
    bias : bool, default True
        Whether the hidden layers have a bias. No effect before batch normalization. The last layer always has one.

    Raises
    ------
    ValueError
        With fewer than two sizes.

    Notes
    -----
    Input (N, sizes[0]), output (N, sizes[-1]): logits. Images need ``x.flatten(1)`` first.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        norm: Norm | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        bias: bool = True,
    ):
        if len(sizes) < 2:
            raise ValueError(f"sizes has {len(sizes)} numbers: give at least two, of the inputs and of the outputs")
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes[:-1]):
            linear, act = _make(nn.Linear, fan_in, fan_out, bias=bias), activation()
            if isinstance(act, HE_ACTIVATIONS):
                nn.init.normal_(linear.weight, std=sqrt(2 / fan_in))
            else:
                nn.init.xavier_normal_(linear.weight)
            layers += [linear, *([norm(fan_out)] if norm else []), act]
        last = _make(nn.Linear, sizes[-2], sizes[-1])
        nn.init.normal_(last.weight, std=sqrt(1 / sizes[-2]))
        super().__init__(*layers, last)

    def __getitem__(self, index):
        """One layer, or a `torch.nn.Sequential` of several (which torch would make by calling this class)."""
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)


class VGG(nn.Module):
    """VGG-11, 13, 16 or 19, with torchvision's state_dict keys and shapes, with and without normalization.

    ``features`` is one flat `torch.nn.Sequential` of convolution (3x3, padding 1, with bias), norm, ReLU and pooling;
    ``avgpool`` brings any image to 7x7; ``classifier`` holds the three dense layers at positions 0, 3 and 6. So a
    checkpoint of torchvision's ``vgg16`` loads into ``VGG(16)``, and one of ``vgg16_bn`` into
    ``VGG(16, norm=torch.nn.BatchNorm2d)``, with ``load_state_dict(state, strict=True)``.

    The convolutions' biases stay before a norm, where they have no effect, because the checkpoints have them.
    Initialization is torchvision's: convolutions Kaiming normal (``fan_out``), dense weights normal with standard
    deviation 0.01, biases 0.

    Parameters
    ----------
    depth : {11, 13, 16, 19}
        Layers with weights.
    norm : callable or None, default None
        Makes a layer from a number of channels, for example `torch.nn.BatchNorm2d`.
    num_classes : int, default 1000
    dropout : float, default 0.5
        Probability of dropping a unit after each of the first two dense layers.

    Raises
    ------
    ValueError
        With another depth.

    Notes
    -----
    Input (N, 3, H, W) with H and W at least 32, output (N, num_classes): logits. VGG-16 has 138 million parameters
    (528 MiB in float32); made under ``with torch.device("meta"):`` it takes no memory.
    """

    def __init__(self, depth: int, norm: Norm | None = None, num_classes: int = 1000, dropout: float = 0.5):
        if depth not in VGG_PLANS:
            raise ValueError(f"There is no VGG of depth {depth!r}: choose from {', '.join(map(str, VGG_PLANS))}")
        super().__init__()
        self.features = _features(VGG_PLANS[depth], 3, norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            _make(nn.Linear, 512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            _make(nn.Linear, 4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            _make(nn.Linear, 4096, num_classes),
        )
        for layer in self.classifier[::3]:
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class SmallConv(nn.Module):
    """A few 3x3 convolutions (each with norm and ReLU) and poolings, then one dense layer: for images of 28x28 or so.

    Convolutions start as in `VGG`; the dense layer's weights as ``N(0, 1 / fan_in)``; all biases as zero.

    Parameters
    ----------
    norm : callable or None, default None
        Makes a layer from a number of channels, for example `torch.nn.BatchNorm2d`.
    plan : sequence of int or "M", default (16, "M", 32, "M")
        The layers of ``features`` in their order: a convolution with that many channels, or a 2x2 max pooling.
    size : int, default 28
        Height and width of the images.
    in_channels : int, default 1
    num_classes : int, default 10

    Raises
    ------
    ValueError
        If the poolings leave nothing of the image.

    Notes
    -----
    Input (N, in_channels, size, size), output (N, num_classes): logits.
    """

    def __init__(
        self,
        norm: Norm | None = None,
        plan: Sequence[int | str] = (16, "M", 32, "M"),
        *,
        size: int = 28,
        in_channels: int = 1,
        num_classes: int = 10,
    ):
        side = size >> list(plan).count("M")
        if side < 1:
            raise ValueError(
                f"An image of {size}x{size} has nothing left after {list(plan).count('M')} poolings by 2: pool less"
            )
        super().__init__()
        self.features = _features(plan, in_channels, norm)
        channels = [in_channels, *(width for width in plan if width != "M")][-1]
        self.classifier = _make(nn.Linear, channels * side * side, num_classes)
        nn.init.normal_(self.classifier.weight, std=sqrt(1 / self.classifier.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, size, size)."""
        return self.classifier(self.features(x).flatten(1))


def small_vgg(
    norm: Norm | None = None, width: int = 16, *, size: int = 28, in_channels: int = 1, num_classes: int = 10
) -> SmallConv:
    """Make a VGG for small images: three pairs of convolutions, each pair followed by a pooling, and one dense layer.

    Parameters
    ----------
    norm : callable or None, default None
        Makes a layer from a number of channels, for example `torch.nn.BatchNorm2d`.
    width : int, default 16
        Channels of the first pair; the others have 2 and 4 times as many.
    size, in_channels, num_classes : int
        As for `SmallConv`.

    Returns
    -------
    SmallConv
        With 6 convolutions; 77,562 parameters by default, and 448 more with batch normalization.
    """
    plan = (width, width, "M", 2 * width, 2 * width, "M", 4 * width, 4 * width, "M")
    return SmallConv(norm, plan, size=size, in_channels=in_channels, num_classes=num_classes)


def _features(plan: Sequence[int | str], in_channels: int, norm: Norm | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in plan:
        if width == "M":
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
            continue
        conv = _make(nn.Conv2d, in_channels, width, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, *([norm(width)] if norm else []), nn.ReLU()]
        in_channels = width
    return nn.Sequential(*layers)


def _make(layer, *args, **kwargs):
    """Make a layer without its default initialization, and so without random numbers; its bias is zero."""
    made = skip_init(layer, *args, device=torch.get_default_device(), **kwargs)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made
