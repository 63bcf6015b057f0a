"""Parity of the frameworks with float64, translation of conventions and checkpoints, and the verdict on C22."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import framework_parity as parity  # noqa: E402
from bnlab.reference import RunningStatistics  # noqa: E402

INSTALLED = [name for name in parity.RUNNERS if not parity.missing(name)]
needs_keras = pytest.mark.skipif(bool(parity.missing("keras")), reason="Keras is not installed")
needs_flax = pytest.mark.skipif(bool(parity.missing("flax nnx")), reason="Flax is not installed")
needs_onnx = pytest.mark.skipif(bool(parity.missing("onnx")), reason="ONNX is not installed")


# -- the oracle


@pytest.mark.parametrize("network", parity.NETWORKS)
def test_reference_agrees_with_autograd_in_float64(network):
    case = parity.make_case(network, 0)
    expected = parity.run_reference(case)
    weight, gamma, beta, x = (
        torch.tensor(a, requires_grad=True) for a in (case["weight"], case["gamma"], case["beta"], case["batches"][0])
    )
    z = nn.functional.linear(x, weight) if network == "dense" else nn.functional.conv2d(x, weight)
    y = nn.functional.batch_norm(z, None, None, gamma, beta, training=True).tanh()
    grads = torch.autograd.grad(y, [x, weight, gamma, beta], torch.tensor(case["dy"]))
    np.testing.assert_allclose(expected["train output"], y.detach(), atol=1e-13)
    for name, grad in zip(("x", "weight", "gamma", "beta"), grads, strict=True):
        np.testing.assert_allclose(expected["gradients"][name], grad, atol=1e-11)


# -- parity


@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize("network", parity.NETWORKS)
def test_translated_frameworks_agree_with_float64(framework, network):
    case = parity.make_case(network, 3)
    expected = parity.run_reference(case)
    outcome = parity.RUNNERS[framework](case)
    if framework != "torch":
        outcome["running var"] = outcome["running var"]  # already translated by the runner
    assert set(parity.STAGES) - set(outcome) == ({"gradients"} if framework == "onnx" else set())
    for stage in outcome:
        assert parity._distance(outcome[stage], expected[stage])[1] < parity.ROUNDING, stage


@pytest.mark.parametrize("framework", [name for name in INSTALLED if name != "torch"])
def test_untranslated_variance_is_off_by_what_the_formula_says(framework):
    case = parity.make_case("dense", 1)
    unbiased = parity.run_reference(case)["running var"]
    kept = parity.RUNNERS[framework](case, unbiased=False)["running var"]
    assert np.abs(kept / unbiased - 1).max() > 0.03
    expected = parity.biased_running_var(unbiased, case["m"], parity.BATCHES, parity.MOMENTUM)
    np.testing.assert_allclose(kept, expected, rtol=1e-5)


@settings(max_examples=50)
@given(
    m=st.integers(2, 50),
    updates=st.integers(0, 30),
    momentum=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_running_variance_is_translated_exactly(m, updates, momentum, seed):
    batches = np.random.default_rng(seed).normal(2, 3, (updates, m, 2))
    running, biased = RunningStatistics(2, momentum), np.ones(2)
    for x in batches:
        running.update(x.mean(axis=0), x.var(axis=0), m)
        biased = (1 - momentum) * biased + momentum * x.var(axis=0)
    options = (m, updates, momentum)
    np.testing.assert_allclose(parity.unbiased_running_var(biased, *options), running.var, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parity.biased_running_var(running.var, *options), biased, rtol=1e-9, atol=1e-12)


def test_one_value_has_no_unbiased_variance():
    with pytest.raises(ValueError, match="m is 1"):
        parity.unbiased_running_var([1.0], m=1, updates=3, momentum=0.1)


def test_defaults_are_those_of_the_documentation():
    documented = {
        "torch": (0.1, 1e-5, 0.1),
        "keras": (0.99, 1e-3, 0.01),
        "flax nnx": (0.99, 1e-5, 0.01),
        "flax linen": (0.99, 1e-5, 0.01),
        "onnx": (0.9, 1e-5, 0.1),
    }
    for framework in INSTALLED:
        found = parity.defaults(framework)
        assert (found["momentum"], found["eps"], found["newest"]) == pytest.approx(documented[framework]), framework


# -- checkpoints


def torch_model(seed=0, flatten=True):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3, eps=1e-4, momentum=0.2),
        nn.ReLU(),
        nn.Flatten() if flatten else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(3 * 5 * 4 if flatten else 3, 4),
        nn.BatchNorm1d(4),
    )
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 1, 7, 6) * 2 + 1)
        for norm in (model[1], model[-1]):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    return model.eval()


def keras_model(flatten=True):
    layers = parity.import_keras().layers
    between = layers.Flatten() if flatten else layers.GlobalAveragePooling2D()
    return parity.import_keras().Sequential(
        [
            parity.import_keras().Input((7, 6, 1)),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            between,
            layers.Dense(4),
            layers.BatchNormalization(),
        ]
    )


def flax_model():
    jax, nnx, _ = parity.import_flax()

    class Net(nnx.Module):
        def __init__(self, rngs):  # not in the order of the alphabet
            self.filters = nnx.Conv(1, 3, (3, 3), padding="VALID", rngs=rngs)
            self.after = nnx.BatchNorm(3, rngs=rngs)
            self.readout = nnx.Linear(60, 4, rngs=rngs)
            self.last = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            x = jax.nn.relu(self.after(self.filters(x)))
            return self.last(self.readout(x.reshape(len(x), -1)))

    return Net(nnx.Rngs(0))


X = np.random.default_rng(5).normal(1, 2, (6, 1, 7, 6)).astype(np.float32)
SPACE = (3, 5, 4)


@needs_keras
@pytest.mark.parametrize("flatten", [True, False])
def test_keras_answers_as_torch_does_and_back(flatten):
    source, target = torch_model(flatten=flatten), keras_model(flatten)
    parity.torch_to_keras(source, target, SPACE if flatten else None)
    with torch.no_grad():
        answer = target(torch.tensor(parity.channels_last(X)), training=False)
        np.testing.assert_allclose(answer, source(torch.tensor(X)), atol=2e-5)
    assert target.layers[1].momentum == pytest.approx(0.8) and target.layers[1].epsilon == 1e-4
    copy = torch_model(seed=1, flatten=flatten)
    parity.keras_to_torch(target, copy, SPACE if flatten else None)
    for name, value in source.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], value, rtol=0, atol=0)
    assert (copy[1].eps, copy[1].momentum) == (1e-4, pytest.approx(0.2))


@needs_flax
def test_flax_answers_as_torch_does_and_back():
    source, target = torch_model(), flax_model()
    parity.torch_to_flax(source, target, SPACE)
    target.eval()
    with torch.no_grad():
        np.testing.assert_allclose(target(parity.channels_last(X)), source(torch.tensor(X)), atol=2e-5)
    copy = torch_model(seed=1)
    parity.flax_to_torch(target, copy, SPACE)
    for name, value in source.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], value, rtol=0, atol=0)


@needs_keras
def test_what_cannot_be_translated_is_refused_and_nothing_changes():
    target = keras_model()
    before = [np.array(w) for w in target.get_weights()]
    cases = [
        (torch_model(), None, "flatten in another order"),
        (torch_model(), (3, 4, 4), "flatten in another order"),
        (torch_model(flatten=False), None, "gives arrays of the shapes"),
        (nn.Sequential(*list(torch_model())[:4]), SPACE, "the same layers in the same order"),
        (nn.Sequential(torch_model(), nn.PReLU()), SPACE, "PReLU has weights"),
    ]
    without = torch_model()
    without[1] = nn.BatchNorm2d(3, track_running_stats=False)
    average = torch_model()
    average[-1].momentum = None
    plain = torch_model()
    plain[1] = nn.BatchNorm2d(3, affine=False)
    unbiased = torch_model()
    unbiased[4] = nn.Linear(60, 4, bias=False)
    cases += [
        (without, SPACE, "keeps no running statistics"),
        (average, SPACE, "set one first"),
        (plain, SPACE, "scale=False"),
        (unbiased, SPACE, "differ in their bias"),
    ]
    for source, flattened, message in cases:
        with pytest.raises(ValueError, match=message):
            parity.torch_to_keras(source, target, flattened)
    for old, new in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@needs_flax
def test_wrong_flax_shapes_leave_torch_unchanged():
    _, nnx, _ = parity.import_flax()
    target = torch_model()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    source = flax_model()
    source.last = nnx.BatchNorm(5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="BatchNorm gives"):
        parity.flax_to_torch(source, target, SPACE)
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name])


# -- ONNX files


@needs_onnx
def test_exporter_folds_and_evaluates_whatever_the_mode():
    pytest.importorskip("onnxscript")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh()).eval()
    x = torch.randn(4, 3, 8, 8)
    folded, kept = (parity.export_onnx(model, x, optimize) for optimize in (True, False))
    assert "BatchNormalization" not in parity.onnx_operators(folded)
    assert "BatchNormalization" in parity.onnx_operators(kept)
    with torch.no_grad():
        for exported in (folded, kept):
            np.testing.assert_allclose(parity.onnx_run(exported, x.numpy()), model(x), atol=1e-5)
    assert not model.training and model[1].num_batches_tracked == 0


# -- the experiment


def test_a_framework_that_is_not_installed_gives_rows_that_say_so(monkeypatch):
    monkeypatch.setattr(parity, "find_spec", lambda name: None if name != "torch" else object())
    monkeypatch.setattr(parity, "BATCHES", 2)
    result = parity.run(seeds=[0])
    assert {row["framework"] for row in result.select(installed=True)} == {"torch"}
    assert {row["missing"] for row in result.select(framework="keras")} == {"keras"}
    assert parity.verdicts(result)[0].verdict == "open"


def test_cpu_only():
    with pytest.raises(ValueError, match="on the CPU"):
        parity.run(seeds=[0], device="cuda")


def made_up(before, after, far, frameworks=("keras", "flax nnx")):
    rows = []
    for framework in frameworks:
        for arm, value in (("defaults", before), ("translated", after)):
            for seed in (0, 1):
                row = {"kind": "parity", "framework": framework, "installed": True, "network": "dense", "arm": arm}
                rows.append(row | {"stage": "eval output", "seed": seed, "relative": value})
    rows.append({"kind": "offset", "layer": "Keras (torch)", "installed": True, "offset": 1_000, "relative": far})
    return Result("framework_parity", "small", "cpu", [0, 1], {}, rows, 0.0)


@pytest.mark.parametrize(
    "numbers, verdict",
    [
        ((0.5, 1e-7, 0.1), "conditions"),
        ((1e-7, 1e-7, 0.1), "conditions"),
        ((0.5, 1e-7, 1e-6), "conditions"),
        ((1e-7, 1e-7, 1e-6), "holds"),
        ((0.5, 1e-3, 1e-6), "refuted"),
        ((0.5, np.inf, 1e-6), "refuted"),
    ],
)
def test_every_verdict_is_reachable(numbers, verdict):
    found = parity.verdicts(made_up(*numbers))
    assert [(v.claim, v.verdict) for v in found] == [("C22", verdict)]
    assert parity.verdicts(made_up(*numbers, frameworks=("flax nnx",)))[0].verdict == "open"
