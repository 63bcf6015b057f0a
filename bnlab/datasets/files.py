"""Readers for data on your disk: Fashion-MNIST's IDX files, CIFAR-10's binary files, folders of images (ImageNet).

Every reader checks what it reads. A file that is missing, cut short or of another kind is named in the error, with what
was expected and what was found.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from bnlab.datasets.bundled import FASHION_CLASSES, Dataset, scale_images

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_RECORD = 1 + 3 * 32 * 32  # one byte for the class, then red, green and blue, row by row


def fashion_full(directory) -> Dataset:
    """Read the full Fashion-MNIST, 60,000 + 10,000 images, from its four IDX files.

    Parameters
    ----------
    directory : str or path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each as it is or as ``.gz``. Debian's package ``dataset-fashion-mnist`` puts them
        into ``/usr/share/datasets/fashion-mnist``. (MNIST's files have the same names and format.)

    Returns
    -------
    Dataset
        x of shape (N, 1, 28, 28), in [0, 1]: 220 MB in all.

    Raises
    ------
    FileNotFoundError
        If the directory or one of the files isn't there.
    ValueError
        If a file is damaged or of another kind, there is no image, or one that isn't 28x28, or the images and labels
        don't belong together.
    """
    x_train, y_train, x_test, y_test = fashion_bytes(directory)
    return Dataset(
        scale_images(x_train[:, None]),
        np.int64(y_train),
        scale_images(x_test[:, None]),
        np.int64(y_test),
        FASHION_CLASSES,
    )


def fashion_bytes(directory) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the full Fashion-MNIST as the files have it; parameters and errors as for `fashion_full`.

    Returns
    -------
    x_train, y_train, x_test, y_test : numpy.ndarray of uint8
        Images of shape (N, 28, 28) and classes of shape (N,).
    """
    directory = _existing(directory)
    arrays = []
    for part in ("train", "t10k"):
        images = read_idx(_plain_or_gz(directory, f"{part}-images-idx3-ubyte"), ndim=3)
        labels = read_idx(_plain_or_gz(directory, f"{part}-labels-idx1-ubyte"), ndim=1)
        if not len(images) or images.shape[1:] != (28, 28):
            raise ValueError(
                f"{directory} has {len(images)} {part} images of {' x '.join(map(str, images.shape[1:]))} pixels, but "
                "Fashion-MNIST has thousands of 28 x 28: is it the right directory?"
            )
        if len(images) != len(labels):
            raise ValueError(f"{directory} has {len(images)} {part} images but {len(labels)} labels: they don't match")
        _check_labels(labels, len(FASHION_CLASSES), directory / f"{part}-labels-idx1-ubyte")
        arrays += [images, labels]
    return tuple(arrays)


def read_idx(path, ndim: int) -> np.ndarray:
    """Read an array of bytes from an IDX file, as MNIST and Fashion-MNIST use it.

    Parameters
    ----------
    path : str or path
        The file; unpacked first if its name ends in ``.gz``.
    ndim : int
        How many dimensions the array must have: 3 for images, 1 for labels.

    Returns
    -------
    numpy.ndarray of uint8
        With `ndim` dimensions.

    Raises
    ------
    FileNotFoundError
        If the file isn't there.
    ValueError
        If its first four bytes aren't those of such a file (0, 0, 8 for bytes, ndim), or its length isn't what its
        header says.
    """
    path = Path(path)
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} ({len(data):,} bytes) can't be unpacked ({error}): get the file again") from error
    magic, header = bytes((0, 0, 8, ndim)), 4 + 4 * ndim
    if data[:4] != magic:
        raise ValueError(
            f"{path} begins with the bytes {data[:4].hex(' ') or '(none)'}, but an IDX file of bytes in {ndim} "
            f"dimensions with {magic.hex(' ')}: is it the right file?"
        )
    if len(data) < header:
        raise ValueError(f"{path} is cut short: its header has {header} bytes, found {len(data)}: get the file again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", ndim, offset=4))
    expected = header + int(np.prod(shape, dtype=object))  # Python integers: a damaged header must not overflow
    if len(data) != expected:
        raise ValueError(
            f"{path} announces an array of shape {shape}, which makes {expected:,} bytes, but has {len(data):,}: "
            "get the file again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def cifar10(directory, images_per_file: int = 10_000) -> Dataset:
    """Read CIFAR-10 from the files of its binary version.

    Parameters
    ----------
    directory : str or path
        Holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin`` (the folder
        ``cifar-10-batches-bin`` of the archive).
    images_per_file : int, default 10_000
        What each file must hold, at least 1. The original's number is the default; another is for parts of it.

    Returns
    -------
    Dataset
        x of shape (N, 3, 32, 32), in [0, 1], channels red, green, blue: 50,000 + 10,000 images, 740 MB.

    Raises
    ------
    FileNotFoundError
        If the directory or one of the files isn't there.
    ValueError
        If `images_per_file` is below 1, a file's length isn't that number times 3,073 bytes, or it holds a class above
        9.

    References
    ----------
    Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images, and the format's description on
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    if images_per_file < 1:
        raise ValueError(
            f"images_per_file is {images_per_file}: give how many images each file holds, 10,000 originally"
        )
    directory = _existing(directory)
    train = [_cifar_file(directory / f"data_batch_{k}.bin", images_per_file) for k in range(1, 6)]
    test = _cifar_file(directory / "test_batch.bin", images_per_file)
    arrays = []
    for records in (np.concatenate(train), test):
        arrays += [scale_images(records[:, 1:]).reshape(-1, 3, 32, 32), np.int64(records[:, 0])]
    return Dataset(*arrays, CIFAR10_CLASSES)


def image_folder(directory, size: int = 224, resize: int = 256):
    """Read a directory with one subfolder of images per class, such as ImageNet's validation set, image by image.

    Each image goes through what is usual for evaluation on ImageNet: RGB, shorter side resized to `resize` (bilinear,
    antialiased), the central `size` x `size` cut out, scaled to [0, 1], then per channel minus mean and divided by
    standard deviation (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225).

    Parameters
    ----------
    directory : str or path
        Its subfolders, in alphabetical order, are the classes; their images may lie in further subfolders. Names that
        begin with a dot are skipped, and so are files whose names don't end like an image's.
    size : int, default 224
        Height and width of what comes out, in pixels.
    resize : int, default 256
        Length of the shorter side before cutting, in pixels, at least `size`.

    Returns
    -------
    bnlab.datasets.folders.ImageFolder
        A `torch.utils.data.Dataset` of pairs (image of shape (3, size, size), class), with the attributes `classes`
        (names) and `samples` (pairs of path and class). Images are opened when asked for.

    Raises
    ------
    FileNotFoundError
        If the directory isn't there.
    ValueError
        If it has no subfolder, or a subfolder without images. Later, when an image is asked for that can't be decoded,
        with its path.
    ModuleNotFoundError
        Without torch or Pillow.
    """
    from bnlab.datasets.folders import ImageFolder  # here, because it needs torch

    return ImageFolder(_existing(directory), size, resize)


def _cifar_file(path, images):
    if not path.is_file():
        raise FileNotFoundError(f"{path} isn't there: give the directory with CIFAR-10's binary files (*.bin)")
    expected, found = images * CIFAR10_RECORD, path.stat().st_size
    if found != expected:
        raise ValueError(
            f"{path} must have {expected:,} bytes ({images:,} images of {CIFAR10_RECORD:,}), found {found:,}: it is "
            f"{'cut short' if found < expected else 'too long'}; get the file again"
        )
    records = np.fromfile(path, np.uint8).reshape(images, CIFAR10_RECORD)
    _check_labels(records[:, 0], len(CIFAR10_CLASSES), path)
    return records


def _check_labels(labels, classes, path):
    if labels.size and labels.max() >= classes:
        raise ValueError(f"{path} holds the class {labels.max()}, but there are {classes} (0 to {classes - 1})")


def _existing(directory):
    directory = Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is not a directory: give the one that holds the data files")
    return directory


def _plain_or_gz(directory, name):
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{directory} has neither {name} nor {name}.gz: give the directory with the four IDX files")
