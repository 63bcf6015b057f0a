"""bnlab, the batch normalization lab: a tested library behind the course, its experiments and its exercises.

``import bnlab`` is cheap and needs nothing but the standard library. What needs PyTorch is loaded when it is first
asked for::

    bnlab.BatchNorm2d(64)            # torch.nn.BatchNorm2d's drop-in, and 1d, 3d
    bnlab.functional.batch_norm(x, running_mean, running_var, training=True)
"""

from importlib import import_module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "__version__", "functional"]


def __getattr__(name):
    if name == "__version__":
        return _version()
    if name == "functional":
        return import_module("bnlab.functional")
    if name in __all__:
        return getattr(import_module("bnlab.modules"), name)
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
