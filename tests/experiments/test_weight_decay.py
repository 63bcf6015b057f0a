"""What is exact about decay before BN, in float64; the grids in miniature."""

import math
import statistics

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.experiments import Result, weight_decay  # noqa: E402


def test_three_trainings_are_one():
    rows = {row["variant"]: row for row in weight_decay.exact(seed=3, width=16, steps=40)}
    assert rows["10 times the weights"]["difference"] < 1e-11
    assert rows["no decay, growing rate"]["difference"] < 1e-11
    # the controls: the same changes where they must show
    assert rows["no decay"]["difference"] > 1e-3
    assert rows["no BN, growing rate"]["difference"] > 1e-3
    # without decay, perpendicular steps can only make weights longer
    assert rows["no decay"]["length"] > 1


def test_undone_shrinking_has_the_predicted_length():
    steps, rate, decay = 40, 0.2, 0.02
    rows = {row["variant"]: row for row in weight_decay.exact(3, 16, steps, rate, decay)}
    ratio = rows["no decay, growing rate"]["length"] / rows["decay"]["length"]
    assert ratio == pytest.approx((1 - rate * decay) ** -steps, rel=1e-9)


def test_rotation_reaches_its_equilibrium():
    rows = weight_decay.rotation(0.4, 0.2, seed=0, width=16, steps=160)
    assert [row["gain"] for row in rows] == list(weight_decay.LENGTHS)
    for row in rows:
        assert row["predicted"] == pytest.approx(math.degrees(math.sqrt(2 * 0.08)), rel=0.02)
        assert row["angle"] == pytest.approx(row["predicted"], rel=0.15)
    lengths = [statistics.median(row["lengths"][-50:]) for row in rows]  # one batch can throw a length far off
    assert max(lengths) / min(lengths) < 1.2 < 5 < rows[2]["lengths"][0] / rows[0]["lengths"][0]


def test_miniature_run(monkeypatch):
    plan = {
        "width": 8,
        "exact_steps": 3,
        "rotation_steps": 4,
        "which_steps": 3,
        "rates": (0.1, 0.3),
        "decays": (0.0, 0.1),
    }
    monkeypatch.setitem(weight_decay.BUDGETS, "small", plan)
    result = weight_decay.run(seeds=[0])
    for arm in weight_decay.GROUPS:
        rows = result.select(part="which", arm=arm)
        assert {(row["rate"], row["decay"]) for row in rows} == {(0.1, 0.0), (0.1, 0.1), (0.3, 0.0), (0.3, 0.1)}
        rate, decay, best = weight_decay.best_pair(result, arm)
        assert len(best) == 1 and best[0]["validation_loss"] == min(row["validation_loss"] for row in rows)
        assert (rate, decay) == (best[0]["rate"], best[0]["decay"])
    # without decay, all groups of parameters with BN are the same network
    free = [
        result.select(part="which", arm=arm, rate=0.1, decay=0.0)[0]["train_loss"]
        for arm in list(weight_decay.GROUPS)[:4]
    ]
    assert len(set(free)) == 1
    assert weight_decay.verdicts(result) == []
    weight_decay.plot(result)
    weight_decay.plot_which(result)


@pytest.mark.parametrize(
    ("best", "inside"), [((0.2, 0.03), True), ((0.2, 0.0), True), ((0.2, 0.1), False), ((2.0, 0.03), False)]
)
def test_a_pair_at_an_edge_of_the_grid_is_not_inside(best, inside):
    rows = [
        {"part": "which", "arm": "BN, everything", "seed": seed, "rate": rate, "decay": decay,
         "validation_loss": float((rate, decay) != best)}
        for seed in range(3) for rate in (0.02, 0.2, 2.0) for decay in (0.0, 0.03, 0.1)
    ]  # fmt: skip
    result = Result("weight_decay", "small", "cpu", [0, 1, 2], {}, rows, 0.0)
    assert weight_decay.best_pair(result, "BN, everything")[:2] == best
    assert weight_decay.inside(result, "BN, everything") == inside


def test_decay_acts_on_its_group_only(monkeypatch):
    """With a rate so small that gradients hardly matter, decayed weights shrink by (1 - rate * decay) per step."""
    shrunk = {}
    monkeypatch.setattr(
        weight_decay, "test_scores", lambda ensemble, *_: (shrunk.update(e=ensemble), np.zeros((2, 1)))[1]
    )
    plan = {"width": 8, "which_steps": 10, "rates": (1e-6,), "decays": (1e5,)}
    for arm, groups in weight_decay.GROUPS.items():
        weight_decay.which(arm, 0, plan)
        ensemble = shrunk["e"]
        start = weight_decay.Ensemble(ensemble.sizes, [0], norm=ensemble.norm)
        for k, (w, w0) in enumerate(zip(ensemble.weights, start.weights, strict=True)):
            group = "last" if k == len(start.weights) - 1 else "hidden"
            expected = 0.9**10 if group in groups else 1.0
            assert (w.norm() / w0.norm()).item() == pytest.approx(expected, rel=1e-3), (arm, group)
        if ensemble.norm is not None:
            expected = 0.9**10 if "gamma" in groups else 1.0
            assert ensemble.gamma[0].mean().item() == pytest.approx(expected, rel=1e-3)
