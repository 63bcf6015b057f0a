"""The data that the experiments share: what comes with the package, and readers for files that you name.

Nothing here downloads anything. `digits`, `centered_digits`, `fashion` and `mnist1d` work everywhere; `fashion_full`,
`cifar10` and `image_folder` read from a directory on your disk. All but the last return a `Dataset` of NumPy arrays, in
the same order and split every time, and need no torch; `image_folder` returns a `torch.utils.data.Dataset`.

What this isn't: augmentation, shuffling or batching. Those belong to an experiment, which has the seed.
"""

from bnlab.datasets.bundled import FASHION_CLASSES, Dataset, centered_digits, digits, fashion, mnist1d
from bnlab.datasets.files import cifar10, fashion_full, image_folder

__all__ = [
    "FASHION_CLASSES",
    "Dataset",
    "centered_digits",
    "cifar10",
    "digits",
    "fashion",
    "fashion_full",
    "image_folder",
    "mnist1d",
]
