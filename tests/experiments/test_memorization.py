"""Labels, the comparison at the same training loss, and the verdict on made-up numbers."""

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.experiments import Result, memorization  # noqa: E402


@pytest.mark.parametrize(("labels", "low", "high"), [("true", 0, 0), ("quarter random", 0.2, 0.25), ("random", 0.8, 1)])
def test_relabel(labels, low, high):
    y = np.arange(2000) % 10
    new = memorization.relabel(y, labels, 10, seed=1)
    assert low <= (new != y).mean() <= high
    assert (y == np.arange(2000) % 10).all()  # the caller's labels are as before
    assert set(new) == set(range(10))
    assert np.array_equal(new, memorization.relabel(y, labels, 10, seed=1))


def test_miniature_run(monkeypatch):
    plan = {"steps": 30, "memorize": 32, "sizes": (32,), "noisy": 32, "tasks": ("fashion",)}
    monkeypatch.setitem(memorization.BUDGETS, "small", plan)
    monkeypatch.setattr(memorization, "EVERY", 10)
    result = memorization.run(seeds=[0])
    for row in result.rows:
        assert row["step"] == [0, 10, 20, 30]
        assert ("test_loss" in row) == (row["labels"] != "random")
    start = {row["labels"]: row["train_error"][0] for row in result.select(arm="BN", rate=0.1)}
    assert all(0.5 < error <= 1 for error in start.values())
    assert result.select(labels="true", arm="BN", rate=0.3)[0]["train_error"][-1] < start["true"]
    assert memorization.verdicts(result)[0].claim == "C18"
    memorization.plot(result)
    memorization.plot_gap(result)


def made_up(memorizes, gaps, errors=True):
    rows = []
    for arm, seed, rate in product(memorization.ARMS, range(5), (0.1, 1.0, 10.0)):
        best = rate == 1.0
        base = {"task": "fashion", "arm": arm, "seed": seed, "rate": rate, "step": [0, 20, 40]}
        learned = 0.0 if best and (memorizes or arm == "no BN") else 0.5
        rows.append(base | {"labels": "random", "examples": 32, "train_error": [0.9, learned, learned]})
        for examples, gap in zip((64, 256), gaps, strict=True):
            loss = 1.0 - (gap if arm == "BN" else 0) + (not best)
            # after the matched point the test loss is worse: it must not count
            rows.append(base | {"labels": "true", "examples": examples, "train_loss": [2.0, 0.04, 0.01],
                                "validation_loss": [3.0, loss, 9.0], "test_loss": [3.0, loss, 9.0],
                                "test_error": [0.9, loss / 2 if errors else 0.3, 0.8]})  # fmt: skip
    return Result("memorization", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("memorizes", "gaps", "errors", "verdict"),
    [
        (False, (0.1, 0.1), True, "holds"),
        (True, (0.1, 0.1), True, "conditions"),
        (True, (0.1, 0.1), False, "refuted"),
        (True, (0.1, -0.1), True, "refuted"),
    ],
)
def test_every_verdict_can_be_reached(memorizes, gaps, errors, verdict):
    result = made_up(memorizes, gaps, errors)
    (found,) = memorization.verdicts(result)
    assert found.verdict == verdict
    best = memorization.matched(result, "BN", 64)
    assert best["rate"] == 1.0 and best["inside"] and (best["step"] == 20).all()
    assert np.allclose(best["test_loss"], 1 - gaps[0])


def test_networks_that_never_get_there_count_as_never():
    result = made_up(True, (0.1, 0.1))
    for row in result.select(labels="true", arm="BN", seed=2):
        row["train_loss"] = [2.0, 1.0, 1.0]
    assert np.isnan(memorization.matched(result, "BN", 64)["test_loss"][2])
    assert memorization.gap(result, 64).high == np.inf
