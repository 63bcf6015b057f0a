"""Who competes: layers that are called alike, each made for a number of channels.

All are `torch.nn.Module` with ``weight`` and ``bias``, in training mode, with running statistics that they update:
what a training step pays is what is measured.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import bnlab


class UnusableLayer(Exception):
    """A layer cannot take part: why, and what to do."""


@dataclass(frozen=True)
class Contender:
    """An implementation.

    Attributes
    ----------
    name : str
    make : callable
        ``make(channels, dims, device, dtype)`` returns a layer for inputs of `dims` axes.
    backend : str
        The backend that bnlab uses meanwhile, forward and backward.
    fuses : bool
        Whether its layers take a residual and a ReLU.
    """

    name: str
    make: Callable[[int, int, str, torch.dtype], torch.nn.Module]
    backend: str = "auto"
    fuses: bool = False

    def call(
        self, layer: torch.nn.Module, x: torch.Tensor, residual: torch.Tensor | None = None, relu: bool = False
    ) -> torch.Tensor:
        """The layer's output, with the residual added and a ReLU applied: by the layer, or after it and in place."""
        if self.fuses:
            return layer(x, residual=residual, relu=relu)
        y = layer(x)
        y = y if residual is None else y.add_(residual)
        return y.relu_() if relu else y


TORCH_LAYERS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


def _torch(channels, dims, device, dtype):
    layer = TORCH_LAYERS[dims](channels, device=device)
    return layer.to(dtype) if dtype == torch.float64 else layer


class _Cudnn(torch.nn.BatchNorm2d):
    """cuDNN's batch normalization, whatever torch would choose for this input."""

    def forward(self, x):
        statistics = self.running_mean, self.running_var, self.training, self.momentum, self.eps
        return torch.cudnn_batch_norm(x, self.weight, self.bias, *statistics)[0]


def _bnlab(channels, dims, device, dtype):
    layer = {2: bnlab.BatchNorm1d, 3: bnlab.BatchNorm1d, 4: bnlab.BatchNorm2d, 5: bnlab.BatchNorm3d}[dims](channels)
    return layer.to(device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)


def contenders(device: str, with_compile: bool = False) -> list[Contender]:
    """Return the implementations that are there: torch's, and every backend of bnlab that can run on this device.

    Parameters
    ----------
    device : str
    with_compile : bool
        Also torch's layer through `torch.compile`. It compiles anew for every shape, which takes seconds each.
    """
    found = [Contender("torch", _torch)]
    if with_compile:
        found.append(Contender("torch.compile", lambda *options: torch.compile(_torch(*options), dynamic=False)))
    if device.startswith("cuda") and torch.backends.cudnn.is_available():
        found.append(Contender("cuDNN", lambda channels, dims, device, dtype: _Cudnn(channels, device=device)))
    found.append(Contender("bnlab eager", _bnlab, "eager", fuses=True))
    for name, kind in (("numba", "cpu"), ("triton", "cuda")):
        if device.startswith(kind) and importlib.util.find_spec(name):
            found.append(Contender(f"bnlab {name}", _bnlab, name, fuses=True))
    return found


def from_file(where: str) -> Contender:
    """Take a student's layer.

    Parameters
    ----------
    where : str
        ``path.py:Class``; the class takes the number of channels, and has a ``weight`` and a ``bias``.

    Returns
    -------
    Contender

    Raises
    ------
    UnusableLayer
        There is no such file or class, or the file fails.
    """
    path, _, name = where.rpartition(":")
    if not path or not name:
        raise UnusableLayer(f"--module is {where!r}, expected FILE.py:CLASS, such as solution.py:BatchNorm")
    if not Path(path).is_file():
        raise UnusableLayer(f"there is no file {path}: --module takes FILE.py:CLASS")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UnusableLayer(f"{path} raised {type(error).__name__} when it was imported: {error}") from error
    finally:
        sys.path.pop(0)
    layer = getattr(module, name, None)
    if not isinstance(layer, type):
        known = [
            key for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == spec.name
        ]
        raise UnusableLayer(f"{path} has no class {name!r}, it has {', '.join(known) or 'none'}")

    def make(channels, dims, device, dtype):
        made = layer(channels)
        return made.to(device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)

    return Contender(name, make)
