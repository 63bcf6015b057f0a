"""The predicted growth against sampling and a wide net; skip connections; every verdict reachable."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.datasets import centered_digits  # noqa: E402
from bnlab.ensemble import BatchNorm, fit  # noqa: E402
from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import gradient_depth as depth  # noqa: E402


@pytest.mark.parametrize("activation", depth.ACTIVATIONS)
def test_wide_growth_is_the_ratio_of_two_moments_and_at_least_one(activation):
    u = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    value = depth.ACTIVATIONS[activation](u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    sampled = slope.square().mean() / value.detach().var()
    assert depth.wide_growth(activation) == pytest.approx(float(sampled), rel=0.01)
    assert depth.wide_growth(activation) >= 1 - 1e-12


def test_linear_growth():
    # mean of 1/chi2 with m - 1 degrees of freedom, times what the projection leaves
    m, rng = 8, np.random.default_rng(0)
    z = rng.normal(size=(400_000, m))
    z -= z.mean(axis=1, keepdims=True)
    sampled = (m / (z**2).sum(axis=1)).mean() * (m - 1) / m * (m - 2) / (m - 1)
    assert depth.linear_growth(m) == pytest.approx(sampled, rel=0.01)
    with pytest.raises(ValueError, match="larger batch"):
        depth.linear_growth(3)


def profile(activation, arm, std, **size):
    return depth.gradient_profile(0, activation, arm, std, **({"depth": 12, "width": 150, "batch": 64} | size))


def test_wide_net_meets_the_predictions():
    gradient, _ = profile("relu", "bn", math.sqrt(2), width=300, batch=200)
    assert depth.growth(gradient) == pytest.approx(depth.wide_growth("relu"), rel=0.06)
    gradient, _ = profile("linear", "bn", 1.0, width=400, batch=8)
    assert depth.growth(gradient) == pytest.approx(depth.linear_growth(8), rel=0.08)
    gradient, _ = profile("relu", "plain", 2 * math.sqrt(2), width=300)
    assert depth.growth(gradient) == pytest.approx(4, rel=0.1)


def test_bn_hides_the_weights_scale_from_the_gradient_of_values(monkeypatch):
    monkeypatch.setattr(depth, "EPS", 1e-30)
    small, small_weights = profile("tanh", "bn", 0.01)
    large, large_weights = profile("tanh", "bn", 10.0)
    np.testing.assert_allclose(small, large, rtol=1e-9)
    np.testing.assert_allclose(small_weights, 1000 * large_weights, rtol=1e-9)


def test_skip_connections_turn_the_exponential_into_a_power():
    plain, _ = profile("relu", "bn", math.sqrt(2), depth=30)
    skip, _ = profile("relu", "residual", math.sqrt(2), depth=30)
    assert skip[0] / skip[-1] < 0.2 * plain[0] / plain[-1]
    predicted = np.sqrt(np.prod(1 + depth.wide_growth("relu") / np.arange(1, 30)))
    assert 0.4 < skip[0] / skip[-1] / predicted < 2.5


def test_residual_ensemble_adds_what_came_in_and_evaluates_the_same_way():
    data = centered_digits()
    networks = depth.Residual([64, 6, 6, 10], [0, 1], norm=BatchNorm())
    x = torch.as_tensor(data.x_train[:20])
    seen = {}
    logits = networks(x, tap=lambda place, layer, value: seen.__setitem__((place, layer), value) and None)
    branch = torch.relu(seen["y", 1])
    assert torch.allclose(seen["h", 1], seen["h", 0] + branch)
    assert torch.allclose(logits, torch.bmm(seen["h", 1], networks.weights[-1]) + networks.biases[-1], atol=1e-6)
    networks.calibrate(x)
    assert torch.allclose(networks(x, training=False), logits, atol=1e-4)
    fit(networks, data, [0.1, 0.1], steps=2, batch_size=16, every=1)


def test_miniature_run(monkeypatch):
    plan = {
        "start": {"depth": 10, "width": 12, "batch": 16},
        "batch": {"depth": 10, "width": 12, "batches": [8, 16]},
        "training": {"depth": 3, "width": 8, "steps": 12, "rates": [0.01, 0.1, 1.0]},
    }
    monkeypatch.setitem(depth.BUDGETS, "small", plan)
    result = depth.run(seeds=[0, 1])
    assert len(result.select(part="start")) == (2 * 4 * 3 + 4) * 2
    assert len(result.select(part="batch")) == 2 * 2 * 2
    trained = result.select(part="training")
    assert len(trained) == len(depth.TRAINED) * 2
    assert all(np.shape(row["relative"]) == (len(row["steps"]), 3) for row in trained)
    # the first gradient, before any step, doesn't depend on the learning rate: same seed, same batch
    bn = result.select(part="training", activation="relu", arm="bn", seed=0)[0]
    assert bn["steps"][0] == 0 and min(bn["relative"][0]) > 0
    for draw in (depth.plot, depth.plot_batch, depth.plot_training):
        draw(result)
    assert [v.claim for v in depth.verdicts(result)] == ["C09"]


def made_up(changes):
    """changes[arm]: the (activation, init) pairs whose gradient explodes."""
    rows = [
        {"part": "start", "activation": a, "arm": arm, "init": i, "seed": s, "growth": 1.4}
        | {"change": 1e6 if (a, i) in bad else 1e-6 if (i, a) in bad else 2.0}
        for arm, bad in changes.items()
        for a in depth.ACTIVATIONS
        for i in depth.INITS
        for s in range(3)
    ]
    return Result("gradient_depth", "small", "cpu", [0, 1, 2], {"start": {"depth": 50}}, rows, 0.0)


@pytest.mark.parametrize(
    ("plain", "bn", "verdict"),
    [
        ([("relu", "good"), ("double", "tanh")], [], "holds"),
        ([("relu", "good"), ("double", "tanh")], [("relu", "good")], "conditions"),
        ([("relu", "good")], [("relu", "good")], "refuted"),
        ([], [("default", "relu")], "refuted"),
    ],
)
def test_verdicts(plain, bn, verdict):
    (found,) = depth.verdicts(made_up({"plain": plain, "bn": bn}))
    assert found.verdict == verdict
