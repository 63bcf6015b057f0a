"""Walks on a loss against finite differences; the curvature of rescaled weights; the run in miniature."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.ensemble import BatchNorm, Ensemble  # noqa: E402
from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import smoothness as smooth  # noqa: E402
from bnlab.experiments.internal_shift import losses  # noqa: E402


def small(norm=None):
    networks = Ensemble([5, 8, 8, 3], [0, 1], norm=norm)
    generator = torch.Generator().manual_seed(0)
    return networks, torch.randn(40, 5, generator=generator), torch.randint(3, (40,), generator=generator)


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_a_short_walk_follows_the_gradient(norm):
    networks, x, y = small(norm)
    gradient = torch.autograd.grad(losses(networks, x, y).sum(), networks.parameters)
    slope = sum(g.flatten(1).square().sum(dim=1) for g in gradient)
    found = smooth.walk(networks, x, y, [1e-3])
    fallen = found["start"] * (1 - found["loss"][0])
    assert torch.allclose(fallen, 1e-3 * slope, rtol=0.1)
    assert torch.equal(losses(networks, x, y), found["start"])  # nothing has changed in the end


def test_beta_is_the_curvature_along_the_gradient():
    networks, x, y = small(BatchNorm())
    weights = networks.weights
    gradient = torch.autograd.grad(losses(networks, x, y).sum(), weights, create_graph=True)
    product = sum((g * g.detach()).sum() for g in gradient)
    curved = torch.autograd.grad(product, weights)
    expected = smooth._norm(curved) / smooth._norm([g.detach() for g in gradient])
    found = smooth.walk(networks, x, y, [1e-4], weights)["beta"][0]
    assert torch.allclose(found, expected, rtol=0.05)


def test_rescaling_leaves_the_loss_and_divides_the_curvature_by_the_square():
    networks, x, y = small(BatchNorm(eps=1e-12))
    found = {factor: (start, curvature) for factor, start, curvature in smooth._rescaled(networks, x, y)}
    for factor in smooth.FACTORS:
        assert torch.allclose(found[factor][0], found[1.0][0], rtol=1e-4)
        assert torch.allclose(found[factor][1] * factor**2, found[1.0][1], rtol=0.02)


def test_miniature_run(monkeypatch):
    monkeypatch.setitem(smooth.BUDGETS, "small", {"steps": 10, "watched": 4, "probe": 40})
    monkeypatch.setattr(smooth, "NETS", {"4 layers": [8] * 2, "12 layers": [8] * 3})
    monkeypatch.setattr(smooth, "RATES", [0.03, 0.1, 0.3])
    result = smooth.run(seeds=[0, 1])
    walks = result.select(part="walk")
    assert len(walks) == 2 * 2 * 2
    shape = (len(walks[0]["watched"]), len(smooth.DISTANCES))
    assert all(np.shape(row[name]) == shape for row in walks for name in ("loss", "change", "beta"))
    assert len(result.select(part="rescaled")) == 2 * 2 * len(smooth.FACTORS)
    assert smooth.verdicts(result) == []
    smooth.plot(result)
    smooth.plot_rescaled(result)


def test_reach_is_the_last_distance_before_the_loss_exceeds_the_start():
    rows = [
        {"part": "walk", "net": "n", "arm": "bn", "seed": 0, "loss": [[0.9, 0.8, 1.1, 0.7], [0.9, 0.8, 0.7, 0.6]]},
        {
            "part": "walk",
            "net": "n",
            "arm": "bn",
            "seed": 1,
            "loss": [[1.2, 0.8, 0.7, 0.7], [0.9, 0.8, 2.0, float("nan")]],
        },
    ]
    result = Result("smoothness", "small", "cpu", [0, 1], {"distances": [1.0, 2.0, 4.0, 8.0]}, rows, 0.0)
    assert smooth.reach(result, "n", "bn").tolist() == [5.0, 1.5]
