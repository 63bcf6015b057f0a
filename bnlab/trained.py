"""A small VGG that is trained already: what a retrofit needs to begin with, without a download or an hour of waiting.

`small_vgg` gives the network, `record` says how it was made and how well it does. The weights come with the package, in
`trained_small_vgg.npz` beside this file; ``python scripts/train_small_vgg.py`` in the repository makes that file anew.

What this isn't: a model zoo. For real VGG-16 weights see `bnlab.pretrained`.
"""

import json  # noqa: I001  bnlab.functional comes before torch
import zipfile
import zlib
from pathlib import Path

import numpy as np

import bnlab.functional  # noqa: F401  it says what to install where torch is absent
import torch

from bnlab import models

__all__ = ["TrainedWeightsError", "record", "small_vgg"]

SMALL_VGG = Path(__file__).with_name("trained_small_vgg.npz")
RECORD = "record"  # the entry of the file that is not a weight
REMEDY = "install bnlab again, or in its repository run: python scripts/train_small_vgg.py"


class TrainedWeightsError(ValueError):
    """A file that does not hold what it should. The message says what is wrong and what to do."""


def small_vgg(file=None):
    """Load a small VGG without batch normalization, trained to tell the clothes of Fashion-MNIST apart.

    It is `bnlab.models.small_vgg()`: six convolutions of 3x3 with biases, each followed by a ReLU, three poolings, one
    dense layer. It was trained on the first 8,000 training images of ``bnlab.datasets.fashion(10_000, 2_000)``. So the
    last 2,000, ``x_train[8000:]``, are new to it: use them to calibrate or to fine-tune. `record` has the rest.

    Parameters
    ----------
    file : str or Path, optional
        By default the file that comes with the package.

    Returns
    -------
    bnlab.models.SmallConv
        In evaluation mode, float32, on the CPU; every call gives a new one. Input (N, 1, 28, 28), gray levels in
        [0, 1]; output (N, 10): logits.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TrainedWeightsError
        If the file is truncated or damaged, or isn't one that ``scripts/train_small_vgg.py`` has made: weights are
        missing or left over, have another shape or dtype, or hold NaN or inf.

    Examples
    --------
    >>> model = small_vgg()
    >>> model(torch.zeros(2, 1, 28, 28)).shape, model.training
    (torch.Size([2, 10]), False)
    """
    file = Path(file or SMALL_VGG)
    arrays = _read(file)
    model = models.small_vgg()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: array.shape for name, array in arrays.items() if name != RECORD}
    missing, extra = sorted(expected.keys() - given), sorted(given.keys() - expected)
    if missing or extra:
        what = [f"has no {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(extra)} besides"] * bool(extra)
        raise TrainedWeightsError(f"{file} {' and '.join(what)}, so it isn't this network's: {REMEDY}")
    for name, shape in expected.items():
        if given[name] != shape or arrays[name].dtype != np.float32:
            raise TrainedWeightsError(
                f"{name} in {file} is {arrays[name].dtype} of shape {given[name]}, expected float32 of shape {shape}: "
                f"{REMEDY}"
            )
        if not np.isfinite(arrays[name]).all():
            raise TrainedWeightsError(f"{name} in {file} holds NaN or inf: {REMEDY}")
    model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in expected})
    return model.eval()


def record(file=None):
    """Return how the small VGG was made, and how well it does.

    Parameters
    ----------
    file : str or Path, optional
        By default the file that comes with the package.

    Returns
    -------
    dict
        ``recipe`` (seed, steps, learning rate ...), ``data``, ``test_accuracy`` and ``test_loss`` on all 2,000 test
        images, ``provenance`` (command, commit, date, machine, versions).

    Raises
    ------
    FileNotFoundError, TrainedWeightsError
        As `small_vgg`.
    """
    file = Path(file or SMALL_VGG)
    arrays = _read(file)
    try:
        return json.loads(arrays[RECORD].item())
    except (KeyError, ValueError, TypeError):
        raise TrainedWeightsError(f"{file} has no record of how it was made: {REMEDY}") from None


def _read(file):
    """The arrays of an .npz file, without running anything that is in it."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: {REMEDY}")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise TrainedWeightsError(f"{file} can't be read ({error}); it is truncated or damaged: {REMEDY}") from None
