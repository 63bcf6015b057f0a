"""Implementations of batch normalization for torch tensors, and the one place that chooses between them.

A backend is a module with three functions. They know nothing of autograd or argument checks: `bnlab.functional` does
that, once, for every backend.

``forward(x, gamma, beta, mean, var, eps, residual=None, relu=False, running=None) -> y, mean, var``
    Normalize `x`, shape (N, C, ...), per channel. With ``mean=None, var=None`` by the statistics of this batch (`var`
    biased, divided by m), which are returned in at least float32; else by the given ones. `gamma`, `beta` may be None.
    Then add `residual`, and let a ReLU follow. `running`, a mean, a variance and a momentum, follows the batch.
``backward(dy, x, gamma, mean, var, eps, training) -> dx, dgamma, dbeta``
    The gradients at the `mean` and `var` that `forward` returned. With `training` these are functions of `x`, so
    gradient flows through them; without, they are constants.
``backward_relu(dy, x, gamma, beta, mean, var, eps, training, residual) -> dx, dgamma, dbeta, dresidual``
    The same where a ReLU followed.

`eager` runs wherever torch runs and is differentiable itself, so higher derivatives always go through it. `native` is
what torch has, for large tensors where nothing of ours is faster. All but `eager` also have ``takes(x)``, which says
whether they can read a tensor. To add one, put its file beside ``eager.py``, its name into `BACKENDS`, and into
`FASTEST` where a benchmark has shown that it is.
"""

import importlib
import warnings

import torch

from bnlab.backends import eager, native

BACKENDS = ("auto", "eager", "native", "numba", "triton")
FASTEST = {"cpu": "numba"}  # by device; where there is none, or it is not installed, torch's own
SMALL = 32768  # values below which speed gains nothing that accuracy is to be given up for

_wanted = "auto"


class use_backend:
    """Choose the backend of all batch normalization that follows, or, as a context manager, of a block.

    Parameters
    ----------
    name : {"auto", "eager", "native", "numba", "triton"}
        "auto", which holds from the start, takes the fastest that can normalize a tensor, and for small tensors the
        most accurate. Another name is used wherever it can be; where it can't, `eager` is, with one warning.

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> with use_backend("eager"):
    ...     batch_norm(torch.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """

    def __init__(self, name: str):
        global _wanted
        if name not in BACKENDS:
            raise ValueError(f"there is no backend {name!r}: give one of {', '.join(BACKENDS)}")
        self._earlier, _wanted = _wanted, name

    def __enter__(self):
        return self

    def __exit__(self, *error):
        global _wanted
        _wanted = self._earlier


def choose(x, *others):
    """Return the backend that normalizes this tensor: the wanted one, or the fastest.

    Parameters
    ----------
    x : torch.Tensor
        The input, shape (N, C, ...). Its device and size decide.
    *others : torch.Tensor or None
        What else takes part. Under a transform of `torch.func`, each may be something that has no memory to point at.

    Returns
    -------
    module
        One with the functions `forward` and `backward` described above.
    """
    if torch.compiler.is_compiling() or _wanted == "eager" or (_wanted == "auto" and x.numel() < SMALL):
        return eager
    if not _are_plain([v for v in (x, *others) if v is not None]):
        return eager
    name = FASTEST.get(x.device.type) if _wanted == "auto" else _wanted
    found = _load(name) if name else None
    if found and found.takes(x):
        return found
    if _wanted == "auto":
        return native if native.takes(x) else eager
    _warn_once(f"the backend {_wanted!r} can't be used for a tensor on {x.device.type}: 'eager' is used instead")
    return eager


_PLAIN = {torch.Tensor, torch.nn.Parameter}


def _are_plain(tensors):
    """Whether tensors have memory to point at: no subclasses, and none that a transform of torch.func has wrapped."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return _PLAIN.issuperset(map(type, tensors)) and not any(map(wrapped, tensors))


_loaded = {}


def _load(name):
    """The module of a backend, or None where what it needs is not installed."""
    if name not in _loaded:
        try:
            _loaded[name] = importlib.import_module(f"bnlab.backends.{name}")
        except ImportError as error:
            _loaded[name] = None
            if _wanted == name:
                _warn_once(f"the backend {name!r} needs {error.name}: pip install {error.name}")
    return _loaded[name]


_warned = set()


def _warn_once(text):
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=3)
