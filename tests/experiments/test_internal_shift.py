"""The definitions on cases with a known answer; the noise; the run in miniature; every verdict reachable."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
stats = pytest.importorskip("scipy.stats")

from bnlab.ensemble import BatchNorm, Ensemble  # noqa: E402
from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import internal_shift as shift  # noqa: E402


def test_shift_of_known_changes():
    before = torch.randn(2, 500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sd = before.std(dim=1, correction=0).squeeze()
    moved = shift.shift(before, before + 0.3)
    assert torch.allclose(moved["mean"], 0.3 / sd)
    assert torch.allclose(moved["wasserstein"], 0.3 / sd)
    assert moved["spread"].max() < 1e-12
    widened = shift.shift(before, 1.5 * before)
    assert torch.allclose(widened["spread"], torch.full((2,), 0.5, dtype=torch.float64))
    shuffled = shift.shift(before, before.flip(1))
    assert max(float(values.max()) for values in shuffled.values()) < 1e-12


def test_wasserstein_agrees_with_scipy():
    generator = torch.Generator().manual_seed(1)
    before, after = (torch.randn(1, 200, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = stats.wasserstein_distance(before.ravel(), after.ravel()) / before.std(correction=0)
    assert torch.allclose(shift.shift(before, after)["wasserstein"], expected)


def test_constant_units_do_no_harm():
    before = torch.cat([torch.zeros(1, 50, 1), torch.randn(1, 50, 1)], dim=2)
    assert all(values.isfinite().all() for values in shift.shift(before, before + 1).values())


def small(norm=None, runs=2):
    networks = Ensemble([5, 6, 6, 3], list(range(runs)), norm=norm)
    generator = torch.Generator().manual_seed(0)
    return networks, torch.randn(30, 5, generator=generator), torch.randint(3, (30,), generator=generator)


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_gradient_shift_moves_the_layers_before_and_no_other(norm):
    networks, x, y = small(norm)
    gradients = torch.autograd.grad(shift.losses(networks, x, y).sum(), networks.parameters)
    moves = {id(p): 0.3 * g for p, g in zip(networks.parameters, gradients, strict=True)}
    saved = [p.detach().clone() for p in networks.parameters]
    found = shift.gradient_shift(networks, moves, x, y)
    assert all(torch.equal(p, q) for p, q in zip(networks.parameters, saved, strict=True))
    # by hand, for the last layer: all others take their step
    (g,) = torch.autograd.grad(shift.losses(networks, x, y).sum(), [networks.weights[2]])
    with shift.kept(networks):
        with torch.no_grad():
            for layer in shift.layers_of(networks)[:2]:
                for p in layer:
                    p.sub_(moves[id(p)])
        (h,) = torch.autograd.grad(shift.losses(networks, x, y).sum(), [networks.weights[2]])
    expected = (h - g).flatten(1).norm(dim=1)
    assert torch.allclose(found["absolute"][1].float(), expected, rtol=1e-4)
    assert torch.allclose(found["length"][1].float(), expected / g.flatten(1).norm(dim=1), rtol=1e-4)
    assert found["angle"].shape == (2, 2)


def test_no_step_no_shift():
    networks, x, y = small(BatchNorm())
    found = shift.gradient_shift(networks, {id(p): torch.zeros_like(p) for p in networks.parameters}, x, y)
    assert found["length"].max() == 0 and found["angle"].max() < 1e-4


def test_parameters_come_back_after_an_error():
    networks, _, _ = small()
    saved = networks.weights[0].detach().clone()
    with pytest.raises(RuntimeError), shift.kept(networks):
        with torch.no_grad():
            networks.weights[0].zero_()
        raise RuntimeError
    assert torch.equal(networks.weights[0], saved)


def test_noise_changes_mean_and_scale_of_every_unit_at_every_step():
    noise, y = shift.Noise(), torch.randn(3, 4000, 20, generator=torch.Generator().manual_seed(0))
    assert noise("z", 0, y) is None
    first, again = noise("y", 0, y), noise("y", 0, y)
    assert torch.equal(first, again)
    noise.step = 1
    second = noise("y", 0, y)
    means = [(v - y).mean(dim=(0, 1)) for v in (first, second)]
    assert all(m.abs().max() < 0.6 and m.std() > 0.15 for m in means)
    assert (means[0] - means[1]).abs().max() > 0.3
    scales = first.std(dim=1) / y.std(dim=1)
    assert 0.95 < scales.min() and scales.max() < 1.4 and scales.std() > 0.03


def test_taps_are_joined_in_order():
    double, add = (lambda p, i, v: 2 * v), (lambda p, i, v: v + 1)
    assert shift.both(double, None, add)("y", 0, torch.tensor(3.0)) == 7
    assert shift.both(None, lambda p, i, v: None)("y", 0, torch.tensor(3.0)) == 3


def test_miniature_run(monkeypatch):
    monkeypatch.setitem(shift.BUDGETS, "small", {"steps": 12, "watched": 4, "probe": 40})
    monkeypatch.setattr(shift, "NETS", {"sigmoid": [8] * 2, "relu": [8] * 2})
    monkeypatch.setattr(shift, "RATES", {"sigmoid": [0.1, 1.0], "relu": [0.1, 0.3]})
    result = shift.run(seeds=[0, 1])
    assert len(result.rows) == 2 * 5 * 2
    plain = result.select(activation="relu", arm="plain", mode="own")[0]["learning_rate"]
    assert {row["learning_rate"] for row in result.select(activation="relu", mode="equal")} == {plain}
    for row in result.rows:
        assert all(np.shape(row[d]) == (len(row["watched"]),) and np.min(row[d]) > 0 for d in shift.DEFINITIONS)
        low, middle, high = np.array(row["quantiles"])
        assert (low <= middle).all() and (middle <= high).all()
    noisy, bn = (shift.typical(result, "mean", activation="relu", arm=a, mode="equal") for a in ("noisy", "bn"))
    assert noisy.min() > bn.max()
    shift.plot(result)
    shift.plot_quantiles(result)
    assert [v.claim for v in shift.verdicts(result)] == ["C04"]


def made_up(factor):
    """factor(definition, activation, mode) -> shift with BN, where that without is 1."""
    rows = []
    for activation, seed in itertools.product(shift.NETS, range(3)):
        rows.append({"activation": activation, "arm": "plain", "mode": "own", "seed": seed})
        rows[-1] |= {d: [1.0, 1.0] for d in shift.DEFINITIONS}
        for arm, mode in itertools.product(("bn", "noisy"), shift.MODES):
            rows.append({"activation": activation, "arm": arm, "mode": mode, "seed": seed})
            rows[-1]["learning_rate"] = 1.0 if mode == "own" else 0.3
            rows[-1] |= {d: [factor(d, activation, mode)] * 2 for d in shift.DEFINITIONS}
    return Result("internal_shift", "small", "cpu", [0, 1, 2], {}, rows, 0.0)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (lambda d, a, m: 0.5, "holds"),
        (lambda d, a, m: 2.0 if d == "angle" else 0.5, "conditions"),
        (lambda d, a, m: 1.0 if m == "own" else 0.5, "conditions"),
        (lambda d, a, m: 0.5 if d == "mean" else 2.0, "refuted"),
        (lambda d, a, m: 1.0, "refuted"),
    ],
)
def test_verdicts(factor, verdict):
    (found,) = shift.verdicts(made_up(factor))
    assert found.verdict == verdict
    assert found.number.median == pytest.approx(factor("mean", "relu", "own"))
    assert found.because.startswith("Of 20 cases")


def test_two_ways_to_the_same_rate_are_one_case():
    result = made_up(lambda d, a, m: 0.5)
    for row in result.select(activation="relu"):
        row["learning_rate"] = 1.0
    assert len(shift.cases(result)) == 15
    assert {key for key in shift.cases(result) if key[1] == "relu"} == {(d, "relu", "own") for d in shift.DEFINITIONS}
    assert "Of 15 cases (definition, network, rate) BN reduces the shift in 15" in shift.verdicts(result)[0].because
