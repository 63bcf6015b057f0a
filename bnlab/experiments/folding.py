"""What folding batch normalization away saves, and what it costs in accuracy.

Two measurements. *Latency*: one forward pass of the same network with its BN layers and after folding, in turns, and
as a control the network with BN against a copy of itself, which shows how far apart equal things lie here. *Formats*:
small convolutional networks trained on clothes, stored in fewer bits; how far the outputs move, and how many
predictions change, for the network with BN and for the folded one.

On a CPU, latency is the processor time of one thread: what other programs do to the clock on the wall is not in it.

What this isn't: a benchmark of inference engines, which fuse BN themselves, or of training (see
`bnlab.experiments.training_speed`).
"""

from __future__ import annotations

import copy
from time import perf_counter, thread_time

import numpy as np
import torch
from torch import nn

import bnlab.functional  # noqa: F401  before torch: it says what to install where torch is absent
from bnlab import datasets
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.models import MLP, SmallConv, small_vgg
from bnlab.retrofit import fold_batch_norm, recalibrate

EXPERIMENT = Experiment(
    name="folding",
    title="What folding saves, and what it costs in accuracy",
    claims=(),
    section="sec-folding-saves",
    fair="The same weights with BN and folded, in turns in one process, on one thread, against a control: the network "
    "with BN and its copy, in the same turns.",
)

# name -> (what it is, the shape of one input)
NETWORKS = {
    "dense": ("two dense layers of 512", (784,)),
    "small VGG": ("six 3x3 convolutions, 28x28", (1, 28, 28)),
    "VGG": ("VGG-16's first four convolutions, 32x32", (3, 32, 32)),
    "residual": ("three bottleneck blocks of ResNet-50, 14x14", (256, 14, 14)),
    "separable": ("five depthwise-separable blocks of MobileNet, 28x28", (64, 28, 28)),
}
FORMATS = ("float32", "bfloat16", "float16", "int8 by channel", "int8 by layer")
BUDGETS = {
    "small": {"batches": (1, 8), "turns": 9, "examples": 1000, "epochs": 2},
    "full": {"batches": (1, 8, 64), "turns": 41, "examples": 10_000, "epochs": 3},
}


class Bottleneck(nn.Module):
    """A residual block of ResNet-50 (He et al. 2016, figure 5 right): 1x1, 3x3, 1x1, each with BN."""

    def __init__(self, channels: int = 256, inner: int = 64):
        super().__init__()
        self.branch = nn.Sequential(
            *_conv_bn(channels, inner, 1),
            nn.ReLU(),
            *_conv_bn(inner, inner, 3),
            nn.ReLU(),
            *_conv_bn(inner, channels, 1),
        )

    def forward(self, x):
        return torch.relu(x + self.branch(x))


def build(network: str) -> nn.Module:
    """Make a network with BN whose statistics, gamma and beta are not those of the start, in evaluation mode.

    Parameters
    ----------
    network : str
        A key of `NETWORKS`.
    """
    if network == "dense":
        model = MLP([784, 512, 512, 10], nn.BatchNorm1d)
    elif network == "small VGG":
        model = small_vgg(nn.BatchNorm2d)
    elif network == "VGG":
        model = SmallConv(nn.BatchNorm2d, (64, 64, "M", 128, 128, "M"), size=32, in_channels=3)
    elif network == "residual":
        model = nn.Sequential(*[Bottleneck() for _ in range(3)])
    else:
        layers = []
        for _ in range(5):
            layers += [*_conv_bn(64, 64, 3, groups=64), nn.ReLU(), *_conv_bn(64, 64, 1), nn.ReLU()]
        model = nn.Sequential(*layers)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.3)
    return recalibrate(model, torch.randn(32, *NETWORKS[network][1])).eval()


def _conv_bn(channels, out, kernel, groups=1):
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)


def latency(network: str, batch: int, seed: int, turns: int, device: str = "cpu") -> dict:
    """Time the network with BN, its copy, and the folded network, in turns.

    Returns
    -------
    dict
        ``bn_ms``, ``folded_ms``: medians over the turns, in milliseconds. ``saved``: BN / folded, its median over the
        turns, with the quartiles ``saved_low`` and ``saved_high``. ``control``: BN / copy of it, likewise.
    """
    torch.manual_seed(seed)
    model = build(network).to(device)
    arms = {"bn": model, "copy": copy.deepcopy(model), "folded": fold_batch_norm(model)}
    x = torch.randn(batch, *NETWORKS[network][1], device=device)
    seconds = {arm: [] for arm in arms}
    order, clock = np.random.default_rng(seed), perf_counter if x.is_cuda else thread_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for turn in range(turns + 2):
                for arm in order.permutation(list(arms)):
                    start = clock()
                    arms[arm](x)
                    if x.is_cuda:
                        torch.cuda.synchronize()
                    if turn >= 2:  # the first two warm up
                        seconds[arm].append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    taken = {arm: np.array(values) for arm, values in seconds.items()}
    row = {"bn_ms": 1e3 * np.median(taken["bn"]), "folded_ms": 1e3 * np.median(taken["folded"])}
    for name, other in (("saved", "folded"), ("control", "copy")):
        low, middle, high = np.quantile(taken["bn"] / taken[other], [0.25, 0.5, 0.75])
        row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
    return {"what": "latency", **row}


def formats(seed: int, examples: int, epochs: int, device: str = "cpu") -> list[dict]:
    """Train a small VGG, fold it, and store both in fewer bits.

    Returns
    -------
    list of dict
        One row for each of `FORMATS` and each of "bn", "folded": ``error``, the largest difference of the logits from
        those of the network with BN in float64, relative to the largest of those; ``changed``, the fraction of test
        images whose class changes; ``accuracy``; ``spread``, the ratio of the largest to the smallest output channel's
        largest weight, median over the layers.
    """
    model = _trained(seed, examples, epochs, device)
    data = datasets.fashion(n_train=10, n_test=500)
    x, y = torch.from_numpy(data.x_test).to(device), torch.from_numpy(data.y_test).to(device)
    rows = []
    with torch.inference_mode():
        truth = copy.deepcopy(model).double()(x.double())
        for arm, network in (("bn", model), ("folded", fold_batch_norm(model))):
            weights = [m.weight.flatten(1).abs().amax(1) for m in network.modules() if isinstance(m, nn.Conv2d)]
            spread = np.median([(w.max() / w.clamp(min=1e-12).min()).item() for w in weights])
            for name in FORMATS:
                logits = stored(network, name)(x).double()
                rows.append(
                    {
                        "what": "format",
                        "arm": arm,
                        "format": name,
                        "error": ((logits - truth).abs().max() / truth.abs().max()).item(),
                        "changed": (logits.argmax(1) != truth.argmax(1)).double().mean().item(),
                        "accuracy": (logits.argmax(1) == y).double().mean().item(),
                        "spread": float(spread),
                    }
                )
    return rows


def stored(model: nn.Module, name: str) -> nn.Module:
    """Return a copy whose convolutions and dense layers have weights that fit a format.

    In bfloat16 and float16, outputs of these layers are rounded, too; the arithmetic in between is that of float32, as
    in the units of a GPU. int8 means 255 values, equally far apart, from minus to plus the largest weight of the layer
    or of the output channel, and rounds weights only. BN parameters stay in float32, as is usual.
    """
    model = copy.deepcopy(model)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        weight = layer.weight.data
        if name.startswith("int8"):
            axes = tuple(range(1, weight.dim())) if name == "int8 by channel" else tuple(range(weight.dim()))
            step = weight.abs().amax(axes, keepdim=True).clamp(min=1e-30) / 127
            layer.weight.data = (weight / step).round() * step
        elif dtype:
            layer.weight.data = weight.to(dtype).float()
            layer.register_forward_hook(lambda layer, args, y: y.to(dtype).float())
    return model


def _trained(seed, examples, epochs, device):
    data = datasets.fashion(n_train=examples, n_test=10)
    x, y = torch.from_numpy(data.x_train).to(device), torch.from_numpy(data.y_train).to(device)
    torch.manual_seed(seed)
    model = small_vgg(nn.BatchNorm2d, width=8).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return recalibrate(model, x.split(250)).eval()


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Time every network at every batch size, and store every trained network in every format, once per seed."""
    plan = BUDGETS.get(budget, BUDGETS["small"])  # conduct refuses an unknown budget
    units = [
        {"network": network, "batch": batch, "seed": seed}
        for seed in seeds
        for network in NETWORKS
        for batch in plan["batches"]
    ]
    units += [{"network": "trained", "seed": seed} for seed in seeds]

    def measure(unit):
        if unit["network"] == "trained":
            return formats(unit["seed"], plan["examples"], plan["epochs"], device)
        return latency(unit["network"], unit["batch"], unit["seed"], plan["turns"], device)

    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=plan, journal=journal
    )


def saving(result: Result, network: str, batch: int, what: str = "saved") -> Estimate:
    """How many times longer the network with BN takes than the folded one (or, ``what="control"``, than its copy)."""
    return Estimate.of(result.column(what, network=network, batch=batch))


def verdicts(result: Result) -> list[Verdict]:
    """No claim is judged here: what inference costs is one part of C16, which `training_speed` judges."""
    return []


def plot(result: Result):
    """Draw how many times longer inference takes with BN than folded, with the control."""
    import matplotlib.pyplot as plt

    batches = sorted({row["batch"] for row in result.select(what="latency")})
    fig, axes = plt.subplots(len(batches), 1, figsize=(6.4, 0.9 + 2.1 * len(batches)), sharex=True, squeeze=False)
    for ax, batch in zip(axes[:, 0], batches, strict=True):
        for shift, what, marker, color, label in (
            (-0.15, "saved", "o", "C0", "BN / folded"),
            (0.15, "control", "x", "black", "control: BN / its copy"),
        ):
            found = [saving(result, network, batch, what) for network in NETWORKS]
            middle = np.array([e.median for e in found])
            ends = np.array([middle - [e.low for e in found], [e.high for e in found] - middle])
            where = np.arange(len(NETWORKS)) + shift
            ax.errorbar(middle, where, xerr=ends, fmt=marker, color=color, capsize=3, label=label)
        ax.axvline(1, color="black", lw=0.8)
        ax.set(yticks=range(len(NETWORKS)), yticklabels=NETWORKS, title=f"batch of {batch}")
        ax.invert_yaxis()
        ax.grid(False, axis="y")
    axes[0, 0].legend(loc="best")
    axes[-1, 0].set_xlabel("time of one forward pass, ratio")
    return fig


def plot_formats(result: Result):
    """Draw the error of the logits in every format, with BN and folded."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for shift, arm, marker, color in ((-0.12, "bn", "s", "C1"), (0.12, "folded", "o", "C0")):
        found = [Estimate.of(result.column("error", arm=arm, format=name)) for name in FORMATS]
        middle = np.array([e.median for e in found])
        ends = np.array([middle - [e.low for e in found], [e.high for e in found] - middle])
        label = "with BN" if arm == "bn" else "folded"
        ax.errorbar(np.arange(len(FORMATS)) + shift, middle, yerr=ends, fmt=marker, color=color, capsize=3, label=label)
    ax.set(xticks=range(len(FORMATS)), yscale="log", ylabel="largest error of the logits,\nrelative to the largest")
    ax.set_xticklabels([name.replace(" ", "\n", 1) for name in FORMATS])
    ax.grid(False, axis="x")
    ax.legend()
    return fig
