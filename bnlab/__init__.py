"""bnlab, the batch normalization lab: a tested library behind the course, its experiments and its exercises.

``import bnlab`` is cheap and needs nothing but the standard library. What needs PyTorch is loaded when it is first
asked for::

    bnlab.BatchNorm2d(64)            # torch.nn.BatchNorm2d's drop-in, and 1d, 3d
    bnlab.functional.batch_norm(x, running_mean, running_var, training=True)
    bnlab.GhostBatchNorm2d(64, ghost_size=32)      # and the other relatives
    bnlab.use_backend("numba")       # compiled loops on the CPU, wherever they can be used; else the fastest is taken
"""

from importlib import import_module

LAYERS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")
RELATIVES = (
    "BatchRenorm1d",
    "BatchRenorm2d",
    "FrozenBatchNorm2d",
    "GhostBatchNorm1d",
    "GhostBatchNorm2d",
    "RenormSchedule",
    "SyncBatchNorm",
    "convert_sync_batch_norm",
    "freeze_batch_norm",
)
__all__ = ["__version__", "functional", "use_backend", *LAYERS, *RELATIVES]


def __getattr__(name):
    if name == "__version__":
        return _version()
    if name == "functional":
        return import_module("bnlab.functional")
    if name == "use_backend":
        return import_module("bnlab.functional").use_backend
    if name in LAYERS:
        return getattr(import_module("bnlab.modules"), name)
    if name in RELATIVES:
        return getattr(import_module("bnlab.relatives"), name)
    raise AttributeError(f"module 'bnlab' has no attribute {name!r}")


def _version():
    # Imported here because it takes longer than all the rest of `import bnlab`.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bnlab")
    except PackageNotFoundError:  # sources that were copied, not installed
        return "0+unknown"


def __dir__():
    return sorted({*globals(), *__all__})
