"""bnlab.trained: the small VGG that comes with the package, and files that are not what they should be."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bnlab import models, trained  # noqa: E402
from bnlab.datasets import fashion  # noqa: E402
from bnlab.trained import SMALL_VGG, TrainedWeightsError  # noqa: E402
from bnlab.training import evaluate  # noqa: E402


@pytest.fixture
def arrays():
    with np.load(SMALL_VGG, allow_pickle=False) as file:
        return dict(file)


def test_it_has_the_keys_and_shapes_of_the_network_without_batch_normalization():
    model = trained.small_vgg()
    expected = models.small_vgg().state_dict()
    given = model.state_dict()
    assert {k: v.shape for k, v in given.items()} == {k: v.shape for k, v in expected.items()}
    assert all(v.dtype == torch.float32 for v in given.values())
    assert not model.training and not any(m.training for m in model.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_it_is_as_good_as_the_record_says():
    data, record = fashion(10_000, 2_000), trained.record()
    loss, error = evaluate(trained.small_vgg(), data.x_test, data.y_test)
    assert abs(1 - error - record["test_accuracy"]) <= 2 / 2000  # another order of summation may tip an image
    assert abs(loss - record["test_loss"]) < 1e-3
    assert record["test_accuracy"] > 0.87


def test_the_record_says_how_it_was_made():
    record = trained.record()
    assert record["recipe"]["seed"] == 0 and record["recipe"]["steps"] > 0 and "fashion" in record["data"]
    provenance = record["provenance"]
    assert provenance["command"] == "python scripts/train_small_vgg.py"
    assert {"commit", "date", "machine", "torch", "numpy", "python"} <= provenance.keys()


def test_it_is_small_enough_to_ship():
    assert SMALL_VGG.stat().st_size < 3_000_000


def test_every_call_gives_a_new_network():
    first, second = trained.small_vgg(), trained.small_vgg()
    with torch.no_grad():
        first.classifier.bias.fill_(7)
    assert not (second.classifier.bias == 7).any()


def test_a_missing_file_says_what_to_do(tmp_path):
    for read in (trained.small_vgg, trained.record):
        with pytest.raises(FileNotFoundError, match=r"no file .*gone\.npz.*train_small_vgg"):
            read(tmp_path / "gone.npz")


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.7, 0.99, 0.999])
def test_a_truncated_file_says_so(tmp_path, share):
    content = SMALL_VGG.read_bytes()
    file = tmp_path / "cut.npz"
    file.write_bytes(content[: int(share * len(content))])
    for read in (trained.small_vgg, trained.record):
        with pytest.raises(TrainedWeightsError, match=r"cut\.npz can't be read.*truncated or damaged.*train_small_vgg"):
            read(file)


def test_a_damaged_byte_is_found(tmp_path):
    content = bytearray(SMALL_VGG.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "bit.npz").write_bytes(content)
    with pytest.raises(TrainedWeightsError, match="can't be read"):
        trained.small_vgg(tmp_path / "bit.npz")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def test_nothing_in_the_file_is_run(tmp_path, arrays):
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(tmp_path / "exploded")
    np.savez(tmp_path / "bomb.npz", **(arrays | {"classifier.bias": bomb}))
    with pytest.raises(TrainedWeightsError, match="can't be read"):
        trained.small_vgg(tmp_path / "bomb.npz")
    assert not (tmp_path / "exploded").exists()


def test_another_networks_weights_are_refused(tmp_path, arrays):
    def saved(**changed):
        np.savez(tmp_path / "other.npz", **{k: v for k, v in (arrays | changed).items() if v is not None})
        return tmp_path / "other.npz"

    with pytest.raises(TrainedWeightsError, match=r"has no classifier\.bias"):
        trained.small_vgg(saved(**{"classifier.bias": None}))
    with pytest.raises(TrainedWeightsError, match=r"has features\.1\.running_mean besides"):
        trained.small_vgg(saved(**{"features.1.running_mean": np.zeros(16, np.float32)}))
    with pytest.raises(
        TrainedWeightsError, match=r"classifier.bias .* shape \(9,\), expected float32 of shape \(10,\)"
    ):
        trained.small_vgg(saved(**{"classifier.bias": np.zeros(9, np.float32)}))
    with pytest.raises(TrainedWeightsError, match=r"classifier\.bias .* is float64"):
        trained.small_vgg(saved(**{"classifier.bias": np.zeros(10)}))
    with pytest.raises(TrainedWeightsError, match="holds NaN or inf"):
        trained.small_vgg(saved(**{"classifier.bias": np.full(10, np.nan, np.float32)}))
    for nothing in (None, np.array("no json"), np.zeros(3)):
        with pytest.raises(TrainedWeightsError, match="no record"):
            trained.record(saved(record=nothing))
    assert json.loads(arrays["record"].item()) == trained.record()
