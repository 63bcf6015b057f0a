"""`bnlab.datasets`: what the sets hold, that they are always the same, and that damaged files are named."""

import gzip
import importlib.util
import pickle
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bnlab import datasets
from bnlab.datasets.bundled import FASHION_SUBSET
from bnlab.datasets.files import read_idx

ROOT = Path(__file__).parents[2]
FULL_FASHION = Path("/usr/share/datasets/fashion-mnist")


def check(data, shape, classes=10):
    """What every Dataset promises."""
    assert len(data.classes) == classes == len(set(data.classes))
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == np.float32 and y.dtype == np.int64
        assert x.shape == (len(y), *shape)
        assert np.isfinite(x).all() and set(np.unique(y)) == set(range(classes))


# --- bundled ---------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_split_by_class():
    from sklearn.datasets import load_digits

    bunch, data = load_digits(), datasets.digits()
    check(data, (64,))
    assert (len(data.y_train), len(data.y_test)) == (1442, 355)
    ours = Counter((y, x.tobytes()) for x, y in zip(np.float32(bunch.data / 16), bunch.target, strict=True))
    rows = zip(np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test]), strict=True)
    assert Counter((y, x.tobytes()) for x, y in rows) == ours  # every image once, with its class
    share = np.bincount(data.y_test) / np.bincount(bunch.target)
    assert share.min() > 0.19 and share.max() <= 0.2


def test_centered_digits_are_centered_by_the_training_set_and_keep_their_proportions():
    data, raw = datasets.centered_digits(), datasets.digits()
    check(data, (64,))
    assert np.abs(data.x_train.mean(axis=0)).max() < 1e-5
    assert data.x_train.std() == pytest.approx(1, abs=1e-5)
    assert 1e-3 < np.abs(data.x_test.mean(axis=0)).max() < 0.5  # close to the training set's, but its own
    factor = np.ptp(data.x_train, axis=0) / np.maximum(np.ptp(raw.x_train, axis=0), 1e-9)
    np.testing.assert_allclose(factor[np.ptp(raw.x_train, axis=0) > 0], factor.max(), rtol=1e-5)
    # the same map for test images
    shift = raw.x_test * factor.max() - data.x_test
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-5)


def test_fashion_holds_what_its_documentation_says():
    data = datasets.fashion(10_000, 2_000)
    check(data, (1, 28, 28))
    assert data.x_train.min() == 0 and data.x_train.max() == 1
    np.testing.assert_array_equal(data.y_train, np.arange(10_000) % 10)
    np.testing.assert_array_equal(data.y_test, np.arange(2_000) % 10)
    assert data.classes[0] == "T-shirt/top" and data.classes[9] == "Ankle boot"
    # trousers are two legs: in the lowest rows, the column in the middle is darker than those beside it
    legs = data.x_train[data.y_train == 1][:, 0, 20:26].mean(axis=(0, 1))
    assert legs[14] < 0.5 * max(legs[11], legs[17])
    assert FASHION_SUBSET.stat().st_size < 8_000_000
    assert "Copyright © 2017 Zalando SE" in FASHION_SUBSET.with_name("FASHION_MNIST_LICENSE").read_text("utf-8")


@given(n_train=st.integers(1, 600), n_test=st.integers(1, 600))
@settings(max_examples=20)
def test_a_smaller_fashion_is_a_balanced_prefix(n_train, n_test):
    large, small = datasets.fashion(600, 600), datasets.fashion(n_train, n_test)
    for whole, part in zip(large[:4], small[:4], strict=True):
        np.testing.assert_array_equal(part, whole[: len(part)])
    counts = np.bincount(small.y_train, minlength=10)
    assert counts.max() - counts.min() <= 1 and counts.sum() == n_train and len(small.y_test) == n_test


@pytest.mark.parametrize("asked", [{"n_train": 10_001}, {"n_train": 0}, {"n_test": 2_001}, {"n_test": -5}])
def test_fashion_refuses_more_than_there_is(asked):
    (name, number), limit = next(iter(asked.items())), {"n_train": "10,000", "n_test": "2,000"}
    with pytest.raises(ValueError, match=f"{name} is {number}.*{limit[name]}.*fashion_full"):
        datasets.fashion(**asked)


def test_changing_what_fashion_returned_does_not_change_what_it_returns_next():
    first = datasets.fashion(20, 20)
    before = first.x_train.copy()
    for array in first[:4]:
        array[:] = 0
    np.testing.assert_array_equal(datasets.fashion(20, 20).x_train, before)
    assert datasets.fashion(20, 20).y_train[7] == 7


@pytest.mark.skipif(not FULL_FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_shipped_fashion_is_what_the_script_makes_of_the_original():
    spec = importlib.util.spec_from_file_location("make_fashion_subset", ROOT / "scripts" / "make_fashion_subset.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.make(FULL_FASHION)
    with np.load(FASHION_SUBSET, allow_pickle=False) as shipped:
        assert set(shipped) == set(made)
        for name, array in made.items():
            assert shipped[name].dtype == array.dtype == np.uint8
            np.testing.assert_array_equal(shipped[name], array, err_msg=name)
    full = datasets.fashion_full(FULL_FASHION)
    check(full, (1, 28, 28))
    assert (len(full.y_train), len(full.y_test)) == (60_000, 10_000)
    np.testing.assert_array_equal(np.bincount(full.y_train), 6000)


def test_mnist1d_is_the_papers_and_leaves_the_random_states_alone():
    pytest.importorskip("mnist1d", reason="the package mnist1d is not installed")
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    state = random.getstate(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    data = datasets.mnist1d()
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == state  # noqa: NPY002
    check(data, (40,))
    assert (len(data.y_train), len(data.y_test)) == (4000, 1000)
    everything = np.concatenate([data.x_train, data.x_test]).astype(np.float64)
    assert abs(everything.mean()) < 1e-6 and abs(everything.std() - 1) < 1e-6
    counts = np.bincount(np.concatenate([data.y_train, data.y_test]))
    np.testing.assert_array_equal(counts, 500)
    np.random.seed(8)  # noqa: NPY002
    np.testing.assert_array_equal(datasets.mnist1d().x_train, data.x_train)  # whatever the state before


# --- without what isn't needed ---------------------------------------------------------------------------------------


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_datasets_work_without_torch_and_pillow():
    result = run(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'PIL'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"  # None in sys.modules, as below, would confuse scikit-learn
        "from bnlab import datasets\n"
        "print(datasets.fashion(10, 10).x_train.shape, datasets.digits().x_train.shape)"
    )
    assert result.returncode == 0 and result.stdout.strip() == "(10, 1, 28, 28) (1442, 64)", result.stderr


@pytest.mark.parametrize(
    ("missing", "call", "requirement"),
    [
        ("sklearn", "digits()", "scikit-learn"),
        ("mnist1d", "mnist1d()", "mnist1d"),
        ("torch", "image_folder('.')", "torch"),
        ("PIL", "image_folder('.')", "pillow"),
    ],
)
def test_what_is_missing_is_named_with_what_to_type(missing, call, requirement):
    result = run(f"import sys; sys.modules['{missing}'] = None\nfrom bnlab import datasets; datasets.{call}")
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and f'pip install "{requirement}' in last, last


# --- IDX -------------------------------------------------------------------------------------------------------------


def idx(array, code=8):
    """An IDX file of bytes, written from the format's description."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion_files(tmp_path):
    """A directory with 20 + 10 made-up images; two files packed, two plain."""
    rng = np.random.default_rng(0)
    truth = {}
    for part, n in (("train", 20), ("t10k", 10)):
        x, y = rng.integers(0, 256, (n, 28, 28), np.uint8), np.uint8(np.arange(n) % 10)
        truth[part] = x, y
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))
    return tmp_path, truth


def test_fashion_full_reads_packed_and_plain_files(fashion_files):
    directory, truth = fashion_files
    data = datasets.fashion_full(str(directory))
    check(data, (1, 28, 28))
    np.testing.assert_allclose(data.x_train[:, 0], truth["train"][0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(data.y_test, truth["t10k"][1])


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_read_idx_gives_back_what_was_written(tmp_path_factory, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(path, ndim=len(shape)), array)
    assert read_idx(path, ndim=len(shape)).shape == array.shape


def damage_plain(change):
    def apply(directory):
        path = directory / "train-labels-idx1-ubyte"
        path.write_bytes(change(path.read_bytes()))

    return apply


def damage_packed(change):
    def apply(directory):
        path = directory / "train-images-idx3-ubyte.gz"
        path.write_bytes(change(path.read_bytes()))

    return apply


def relabel(data):
    return data[:-1] + bytes([10])


DAMAGES = {
    "missing": (
        lambda d: (d / "train-labels-idx1-ubyte").unlink(),
        FileNotFoundError,
        r"neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte\.gz",
    ),
    "cut short": (damage_plain(lambda b: b[:-3]), ValueError, r"labels.*shape \(20,\).*28 bytes, but has 25"),
    "too long": (damage_plain(lambda b: b + b"x"), ValueError, "28 bytes, but has 29"),
    "header cut short": (damage_plain(lambda b: b[:6]), ValueError, "header has 8 bytes, found 6"),
    "empty": (damage_plain(lambda b: b""), ValueError, r"begins with the bytes \(none\)"),
    "wrong magic": (
        damage_plain(lambda b: b"\x7fELF" + b[4:]),
        ValueError,
        "begins with the bytes 7f 45 4c 46.*00 00 08 01",
    ),
    "another type": (damage_plain(lambda b: b"\0\0\x0d" + b[3:]), ValueError, "00 00 0d 01"),
    "a huge header": (damage_plain(lambda b: b[:4] + b"\xff" * 4 + b[8:]), ValueError, "4,294,967,303 bytes"),
    "a class too many": (damage_plain(relabel), ValueError, "class 10, but there are 10"),
    "packed, cut short": (
        damage_packed(lambda b: b[: len(b) // 2]),
        ValueError,
        "images-idx3-ubyte.gz.*can't be unpacked",
    ),
    "packed, not gzip": (damage_packed(lambda b: b"not gzip"), ValueError, "can't be unpacked"),
    "packed, bits flipped": (
        damage_packed(lambda b: b[:100] + bytes([b[100] ^ 255]) + b[101:]),
        ValueError,
        "can't be unpacked",
    ),
    "labels and images differ": (
        damage_plain(lambda b: idx(np.zeros(19, np.uint8))),
        ValueError,
        "20 train images but 19",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_fashion_file_is_named(fashion_files, damage):
    apply, error, message = DAMAGES[damage]
    apply(fashion_files[0])
    with pytest.raises(error, match=message):
        datasets.fashion_full(fashion_files[0])


@pytest.mark.parametrize(("shape", "found"), [((0, 28, 28), "0 train images of 28 x 28"), ((20, 27, 28), "27 x 28")])
def test_fashion_full_wants_images_of_28_by_28(fashion_files, shape, found):
    packed = gzip.compress(idx(np.zeros(shape, np.uint8)))
    (fashion_files[0] / "train-images-idx3-ubyte.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=f"{found} pixels, but Fashion-MNIST has thousands of 28 x 28"):
        datasets.fashion_full(fashion_files[0])


@pytest.mark.parametrize("reader", [datasets.fashion_full, datasets.cifar10, datasets.image_folder])
def test_a_directory_that_is_not_there(reader, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a directory"):
        reader(tmp_path / "nowhere")


# --- CIFAR-10 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cifar_files(tmp_path):
    """Six files of 4 made-up images each, and the records in them."""
    rng = np.random.default_rng(0)
    truth = {}
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        truth[name] = rng.integers(0, 256, (4, 3073), np.uint8)
        truth[name][:, 0] %= 10
        truth[name].tofile(tmp_path / f"{name}.bin")
    return tmp_path, truth


def test_cifar10_reads_every_file_in_its_order(cifar_files):
    directory, truth = cifar_files
    data = datasets.cifar10(directory, images_per_file=4)
    assert data.x_train.shape == (20, 3, 32, 32) and data.x_test.shape == (4, 3, 32, 32)
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int64
    third = truth["data_batch_3"][1]
    assert data.y_train[9] == third[0]
    for channel, row, column in ((0, 0, 0), (1, 0, 5), (2, 31, 30)):  # byte by byte, as the format's page has it
        assert data.x_train[9, channel, row, column] == np.float32(
            third[1 + 1024 * channel + 32 * row + column]
        ) / np.float32(255)
    np.testing.assert_array_equal(data.y_test, truth["test_batch"][:, 0])
    assert data.classes[3] == "cat" and len(data.classes) == 10


@pytest.mark.parametrize(
    ("length", "words"),
    [(4 * 3073 - 1, "cut short"), (3 * 3073, "cut short"), (0, "cut short"), (4 * 3073 + 1, "too long")],
)
def test_a_cifar_file_of_another_length_is_named_with_both_numbers(cifar_files, length, words):
    path = cifar_files[0] / "data_batch_4.bin"
    path.write_bytes((path.read_bytes() + b"x")[:length])
    with pytest.raises(ValueError, match=rf"data_batch_4\.bin must have 12,292 bytes.*found {length:,}.*{words}"):
        datasets.cifar10(cifar_files[0], images_per_file=4)


def test_cifar10_expects_the_originals_length(cifar_files):
    with pytest.raises(ValueError, match=r"30,730,000 bytes.*found 12,292"):
        datasets.cifar10(cifar_files[0])


@pytest.mark.parametrize("number", [0, -1])
def test_cifar10_expects_images(cifar_files, number):
    with pytest.raises(ValueError, match=f"images_per_file is {number}: give how many"):
        datasets.cifar10(cifar_files[0], images_per_file=number)


def test_a_missing_cifar_file_and_a_wrong_class(cifar_files):
    directory, truth = cifar_files
    truth["test_batch"][2, 0] = 77
    truth["test_batch"].tofile(directory / "test_batch.bin")
    with pytest.raises(ValueError, match=r"test_batch\.bin holds the class 77"):
        datasets.cifar10(directory, images_per_file=4)
    (directory / "data_batch_2.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_2\.bin isn't there"):
        datasets.cifar10(directory, images_per_file=4)


# --- folders of images -----------------------------------------------------------------------------------------------

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def folders(tmp_path):
    """Two classes: three cats of several sizes and modes, one dog in a subfolder, and things to be skipped."""
    rng = np.random.default_rng(0)
    for name, shape in (("cat/b.png", (40, 60, 3)), ("cat/a.JPG", (300, 280, 3)), ("dog/deep/c.png", (64, 64, 3))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    Image.fromarray(np.full((50, 50), 128, np.uint8)).save(tmp_path / "cat" / "gray.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._b.png").write_text("what macOS leaves behind")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_image_folder_lists_classes_and_images(folders):
    data = datasets.image_folder(folders)
    assert data.classes == ("cat", "dog") and len(data) == 4
    assert [(path.name, label) for path, label in data.samples] == [
        ("a.JPG", 0),
        ("b.png", 0),
        ("gray.png", 0),
        ("c.png", 1),
    ]


def test_an_image_comes_out_as_imagenets_evaluation_wants_it(folders):
    import torch

    data = datasets.image_folder(folders, size=24, resize=32)
    for image, label in (data[0], data[1], data[3]):
        assert image.shape == (3, 24, 24) and image.dtype == torch.float32 and isinstance(label, int)
    gray, _ = data[2]
    np.testing.assert_allclose(
        gray.numpy().transpose(1, 2, 0), np.broadcast_to((128 / 255 - MEAN) / STD, (24, 24, 3)), atol=1e-6
    )


def test_nothing_is_resampled_where_the_size_fits_already(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 45, 3), np.uint8)
    (tmp_path / "only").mkdir()
    Image.fromarray(pixels).save(tmp_path / "only" / "x.png")
    image, label = datasets.image_folder(tmp_path, size=24, resize=32)[0]
    expected = (
        pixels[4:28, 10:34] / 255 - MEAN
    ) / STD  # (45 - 24) / 2 = 10.5 rounds to 10, as Python and torchvision do
    np.testing.assert_allclose(image.numpy().transpose(1, 2, 0), expected, atol=1e-6)
    assert label == 0


def test_a_resized_ramp_stays_a_ramp(tmp_path):
    (tmp_path / "only").mkdir()
    ramp = np.broadcast_to(np.uint8(np.arange(0, 240, 2))[None, :, None], (60, 120, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "only" / "x.png")
    image, _ = datasets.image_folder(tmp_path, size=20, resize=30)[0]  # 60 x 120 becomes 30 x 60: 4 gray levels a pixel
    levels = (image.numpy().transpose(1, 2, 0) * STD + MEAN)[..., 0] * 255
    np.testing.assert_allclose(np.diff(levels, axis=1), 4, atol=1.1)  # whole gray levels
    np.testing.assert_allclose(levels[0, 0], 2 * (2 * 20 + 0.5), atol=1.1)  # pixel 20 covers columns 40 and 41


def test_image_folder_feeds_a_data_loader(folders):
    from torch.utils.data import DataLoader

    images, labels = next(iter(DataLoader(datasets.image_folder(folders, 8, 8), batch_size=4)))
    assert images.shape == (4, 3, 8, 8) and labels.tolist() == [0, 0, 0, 1]
    assert len(pickle.loads(pickle.dumps(datasets.image_folder(folders)))) == 4  # workers get it that way


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"], ids=["empty", "text", "cut short"])
def test_a_corrupt_image_is_named_when_it_is_asked_for(folders, content):
    path = folders / "cat" / "b.png"
    path.write_bytes(path.read_bytes()[:500] if content == "cut" else content)
    data = datasets.image_folder(folders)
    data[0]  # the others still work
    with pytest.raises(ValueError, match=r"b\.png can't be decoded as an image"):
        data[1]


def test_no_class_an_empty_class_and_impossible_sizes(folders, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    (empty / "photo.png").write_bytes(b"")
    with pytest.raises(ValueError, match="has no subfolders"):
        datasets.image_folder(empty)
    (folders / "bird").mkdir()
    with pytest.raises(ValueError, match="bird has no images"):
        datasets.image_folder(folders)
    with pytest.raises(ValueError, match="size is 300 and resize is 256"):
        datasets.image_folder(folders, size=300)
