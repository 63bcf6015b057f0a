"""Data that needs no file of yours: scikit-learn's digits, the shipped part of Fashion-MNIST, and generated MNIST-1D.

`fashion_mnist_12k.npz` beside this file holds the shipped part; ``scripts/make_fashion_subset.py`` made it, and its
license lies next to it (``FASHION_MNIST_LICENSE``).
"""

import contextlib
import random
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_SUBSET = Path(__file__).with_name("fashion_mnist_12k.npz")


class Dataset(NamedTuple):
    """Training set and test set of a classification problem, and the names of the classes.

    Attributes
    ----------
    x_train, x_test : numpy.ndarray of float32, shape (N, ...)
        Inputs. Images are (N, C, H, W).
    y_train, y_test : numpy.ndarray of int64, shape (N,)
        Classes, as positions in `classes`.
    classes : tuple of str
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]


def digits() -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits of 8x8 pixels, with a fixed stratified split.

    Of each class, in scikit-learn's order, every fifth image is for testing: 1,442 and 355 images. The order goes from
    writer to writer, so both sets have images by the same people: the test error says how well a net does on new
    digits of these writers.

    Returns
    -------
    Dataset
        x of shape (N, 64), in [0, 1] (gray levels divided by 16).

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn.

    References
    ----------
    Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
    """
    bunch = _import("sklearn.datasets", "scikit-learn>=1.4", "digits()").load_digits()
    x, y = np.float32(bunch.data / 16), np.int64(bunch.target)
    test = np.zeros(len(y), bool)
    for label in range(10):
        test[np.flatnonzero(y == label)[4::5]] = True
    return Dataset(x[~test], y[~test], x[test], y[test], tuple("0123456789"))


def centered_digits() -> Dataset:
    """Load `digits`, less the mean of each pixel, divided by one number: the standard deviation of all that is left.

    Both are those of the training set. Inputs that are all positive cost a network without batch normalization steps
    (LeCun et al. 1998, section 4.3); so experiments that compare it with one with batch normalization, which centers
    them by itself after the first layer, give these to both.

    Returns
    -------
    Dataset
        x of shape (N, 64). Pixels keep their proportions: one that is always black stays constant, 0.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn.
    """
    data = digits()
    mu = data.x_train.mean(axis=0)
    sigma = (data.x_train - mu).std()
    return data._replace(x_train=(data.x_train - mu) / sigma, x_test=(data.x_test - mu) / sigma)


def fashion(n_train: int = 5000, n_test: int = 1000) -> Dataset:
    """Load the shipped part of Fashion-MNIST: 28x28 gray images of clothes in 10 classes.

    It holds the first 1,000 images of each class of the original training set and the first 200 of each class of the
    original test set, in turn: class 0, 1, ..., 9, 0, 1, ... So any prefix is balanced to within one image per class, a
    smaller set is part of every larger one, and a slice of what is left over serves as a balanced validation set.

    Parameters
    ----------
    n_train : int, default 5000
        Training images, 1 to 10,000.
    n_test : int, default 1000
        Test images, 1 to 2,000.

    Returns
    -------
    Dataset
        x of shape (N, 1, 28, 28), in [0, 1] (gray levels divided by 255; the background is 0).

    Raises
    ------
    ValueError
        If fewer than 1 or more images than there are are asked for.

    References
    ----------
    Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.
    MIT license, copyright (c) 2017 Zalando SE.
    """
    parts = _fashion_subset()
    for name, asked, there in (("n_train", n_train, len(parts[1])), ("n_test", n_test, len(parts[3]))):
        if not 1 <= asked <= there:
            raise ValueError(
                f"{name} is {asked}, but the shipped part of Fashion-MNIST has {there:,} such images: ask for 1 to "
                f"{there:,}, or read the full set with fashion_full(directory)"
            )
    x_train, y_train = parts[0][:n_train], parts[1][:n_train]
    x_test, y_test = parts[2][:n_test], parts[3][:n_test]
    return Dataset(
        scale_images(x_train[:, None]),
        np.int64(y_train),
        scale_images(x_test[:, None]),
        np.int64(y_test),
        FASHION_CLASSES,
    )


def mnist1d() -> Dataset:
    """Generate MNIST-1D: 5,000 noisy signals of 40 values in 10 classes, in about a second.

    The `mnist1d` package's own generator with its own settings makes them (seed 42), so these are the 4,000 training
    and 1,000 test signals of the paper, without its download. NumPy's and Python's global random states, which the
    generator sets, are as before afterwards.

    Returns
    -------
    Dataset
        x of shape (N, 40); over all signals together, mean 0 and standard deviation 1.

    Raises
    ------
    ModuleNotFoundError
        Without mnist1d.

    References
    ----------
    Graydanus and Kobak (2024), Scaling Down Deep Learning with MNIST-1D, ICML.
    """
    generator = _import("mnist1d.data", "mnist1d>=0.0.2", "mnist1d()")
    with _random_states_kept():
        data = generator.make_dataset(generator.get_dataset_args())
    return Dataset(
        np.float32(data["x"]),
        np.int64(data["y"]),
        np.float32(data["x_test"]),
        np.int64(data["y_test"]),
        tuple("0123456789"),
    )


def scale_images(images: np.ndarray) -> np.ndarray:
    """Divide bytes by 255: float32 in [0, 1], of the same shape."""
    return images.astype(np.float32) / np.float32(255)


@lru_cache(maxsize=1)  # unpacking takes 0.1 s, and an experiment asks often
def _fashion_subset() -> tuple[np.ndarray, ...]:
    with np.load(FASHION_SUBSET, allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))


@contextlib.contextmanager
def _random_states_kept():
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  it is the generator that uses them
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _import(module, requirement, what):
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"bnlab.datasets.{what} needs {error.name}, which is not installed here. Install it with: "
            f'python -m pip install "{requirement}"',
            name=error.name,
        ) from error
