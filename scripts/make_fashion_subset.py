"""Make the part of Fashion-MNIST that bnlab ships, from the original files.

    python scripts/make_fashion_subset.py [DIRECTORY]

The directory holds the four IDX files of Fashion-MNIST, plain or as .gz; by default it is where Debian's package
`dataset-fashion-mnist` puts them. From the training set, the first 1,000 images of each class are taken in their
order, from the test set the first 200, and interleaved: class 0, 1, ..., 9, 0, 1, ... There is no randomness, so the
arrays are the same every time.

Fashion-MNIST is under the MIT license, copyright (c) 2017 Zalando SE: see bnlab/datasets/FASHION_MNIST_LICENSE.
"""

import sys
from pathlib import Path

import numpy as np

from bnlab.datasets.bundled import FASHION_SUBSET
from bnlab.datasets.files import fashion_bytes

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def balanced(images, labels, per_class):
    """Take the first `per_class` examples of each class, in turn: class 0, 1, ..., 9, 0, 1, ..."""
    chosen = np.stack([np.flatnonzero(labels == label)[:per_class] for label in range(10)], axis=1).ravel()
    return images[chosen], labels[chosen]


def make(directory):
    """Choose the images: arrays of bytes by name."""
    x_train, y_train, x_test, y_test = fashion_bytes(directory)
    arrays = {}
    arrays["x_train"], arrays["y_train"] = balanced(x_train, y_train, 1000)
    arrays["x_test"], arrays["y_test"] = balanced(x_test, y_test, 200)
    return arrays


if __name__ == "__main__":
    np.savez_compressed(FASHION_SUBSET, **make(Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN))
    print(f"{FASHION_SUBSET}: {FASHION_SUBSET.stat().st_size / 1e6:.2f} MB")
