"""Training steps of whole networks: what batch normalization takes of them, and what a faster one gives.

The same network, batch and optimizer for everybody, in turns. One of them has no normalization at all: what a step
takes beyond its time is what normalization costs.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import nn

import bnlab
from bnlab.benchmark.layers import Contender
from bnlab.benchmark.measure import Plan, in_turns
from bnlab.models import small_vgg


class ResNet20(nn.Module):
    """The residual network of 20 layers for small images of He et al. (2016), section 4.2.

    Parameters
    ----------
    norm : callable or None
        Makes a layer from a number of channels; None leaves normalization out.
    fused : bool
        Whether the layers are asked to add the residual and to apply the ReLU.

    References
    ----------
    He, Zhang, Ren & Sun (2016), Deep residual learning for image recognition. https://arxiv.org/abs/1512.03385
    """

    def __init__(self, norm: Callable[[int], nn.Module] | None, fused: bool = False):
        super().__init__()
        self.fused = fused
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.first_norm = norm(16) if norm else nn.Identity()
        widths = (16, 16, 16, 32, 32, 32, 64, 64, 64)
        self.blocks = nn.ModuleList(
            _Block(before, width, norm, fused) for before, width in zip((16, *widths), widths, strict=False)
        )
        self.dense = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores, shape (N, 10), of images, shape (N, 3, H, W)."""
        x = _normalized(self.first_norm, self.first(x), None, self.fused)
        for block in self.blocks:
            x = block(x)
        return self.dense(x.mean(dim=(2, 3)))


class _Block(nn.Module):
    """Two convolutions of 3 by 3 beside a shortcut, which pads channels with zeros where there are more of them."""

    def __init__(self, before: int, width: int, norm: Callable[[int], nn.Module] | None, fused: bool):
        super().__init__()
        self.stride, self.more, self.fused = 1 if before == width else 2, width - before, fused
        self.conv1 = nn.Conv2d(before, width, 3, self.stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1, self.norm2 = (norm(width) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x
        if self.more:
            shortcut = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        x = _normalized(self.norm1, self.conv1(x), None, self.fused)
        return _normalized(self.norm2, self.conv2(x), shortcut, self.fused)


def _normalized(norm: nn.Module, x: torch.Tensor, residual: torch.Tensor | None, fused: bool) -> torch.Tensor:
    if fused:
        return norm(x, residual=residual, relu=True)
    x = norm(x)
    return torch.relu_(x if residual is None else x + residual)


NETWORKS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "small VGG": (lambda norm, fused: small_vgg(norm), (1, 28, 28)),
    "ResNet-20": (ResNet20, (3, 32, 32)),
}
WITHOUT = "no normalization"


@dataclass
class StepTiming:
    """What training steps of a network take.

    Attributes
    ----------
    network : str
    implementation : str
    layout, dtype, device : str
    batch_size : int
    milliseconds : float
        Of a step, forward, backward and update: median.
    spread : float
        Distance between the quartiles, of the median.
    images_per_second : float
    share : float
        Part of the step that is there for normalization.
    turns : int
    """

    network: str
    implementation: str
    layout: str
    dtype: str
    device: str
    batch_size: int
    milliseconds: float
    spread: float
    images_per_second: float
    share: float
    turns: int

    def to_dict(self) -> dict:
        """As plain values."""
        return asdict(self)


def contenders(network: str, device: str) -> list[tuple[Contender, Callable | None, bool]]:
    """Who takes part: its name and backend, its layer, and whether that fuses.

    Parameters
    ----------
    network : str
        One of `NETWORKS`.
    device : str

    Returns
    -------
    list of (Contender, callable or None, bool)
    """
    found = [(Contender(WITHOUT, None), None, False), (Contender("torch", None), nn.BatchNorm2d, False)]
    for name, kind in (("numba", "cpu"), ("triton", "cuda")):
        if device.startswith(kind) and importlib.util.find_spec(name):
            found.append((Contender(f"bnlab {name}", None, name), bnlab.BatchNorm2d, False))
            if network != "small VGG":
                found.append((Contender(f"bnlab {name}, fused", None, name), bnlab.BatchNorm2d, True))
    return found


def measure_steps(plan: Plan) -> Iterator[list[StepTiming]]:
    """Time training steps of every network, in every layout.

    Parameters
    ----------
    plan : Plan
        Its device, dtypes (float32 alone is used), layouts, batch size, turns and seconds count.

    Yields
    ------
    list of StepTiming
        All implementations in one network and layout.
    """
    for network, (make, shape) in NETWORKS.items():
        for layout in plan.layouts:
            calls = {}
            for one, norm, fused in contenders(network, plan.device):
                calls[one.name] = one, _training_step(make(norm, fused), shape, layout, plan)
            turns = in_turns(calls, plan, plan.device)
            seconds = {name: [again for _, again in its] for name, its in turns.items()}
            without = statistics.median(seconds[WITHOUT])
            timings = []
            for name, its in seconds.items():
                middle, quartiles = statistics.median(its), statistics.quantiles(its, n=4)
                timings.append(
                    StepTiming(
                        network,
                        name,
                        layout,
                        "float32",
                        plan.device,
                        plan.batch_size,
                        1e3 * middle,
                        (quartiles[2] - quartiles[0]) / middle,
                        plan.batch_size / middle,
                        1 - without / middle,
                        len(its),
                    )
                )
            yield timings


def _training_step(network: nn.Module, shape: tuple[int, ...], layout: str, plan: Plan) -> Callable[[], torch.Tensor]:
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(plan.batch_size, *shape, generator=generator).to(plan.device, memory_format=form)
    labels = torch.randint(10, (plan.batch_size,), generator=generator).to(plan.device)
    network = network.to(plan.device, memory_format=form).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
