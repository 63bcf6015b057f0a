"""The variance shift against theory and PyTorch's dropout; the verdict on made-up numbers."""

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.ensemble import Ensemble  # noqa: E402
from bnlab.experiments import Result, dropout_shift  # noqa: E402


def test_dropout_is_inverted_dropout_in_the_chosen_layers():
    tap = dropout_shift.dropout(np.array([0.0, 0.25, 0.75]), (1,), seed=0)
    h = torch.full((3, 400, 500), 2.0)
    assert tap("h", 0, h) is None and tap("z", 1, h) is None
    dropped = tap("h", 1, h)
    for run, p in enumerate((0.0, 0.25, 0.75)):
        assert set(dropped[run].unique().tolist()) <= {0.0, np.float32(2 / (1 - p))}
        assert (dropped[run] == 0).float().mean().item() == pytest.approx(p, abs=0.005)


def test_predicted_ratio_is_what_many_masks_measure():
    torch.manual_seed(0)
    x, p = torch.randn(50, 6), np.array([0.2, 0.6])
    ensemble = Ensemble([6, 10, 8, 3], [0, 1], norm=dropout_shift.Recorder())
    ensemble.calibrate(x)
    calm = ensemble.population[1][1].clone()
    predicted = dropout_shift.predicted_ratio(ensemble, x, p)
    dropout_shift.store_statistics(ensemble, x, dropout_shift.dropout(p, (0, 1), seed=0), masks=1500)
    measured = (calm / ensemble.population[1][1])[:, 0].mean(1)
    torch.testing.assert_close(measured, predicted, rtol=0.05, atol=0)


def test_without_masks_both_ways_of_evaluation_agree():
    x = torch.randn(40, 6)
    ensemble = Ensemble([6, 10, 3], [0], norm=dropout_shift.Recorder())
    ensemble.calibrate(x)
    recalibrated = ensemble(x, training=False)
    dropout_shift.store_statistics(ensemble, x, tap=None, masks=3)
    torch.testing.assert_close(ensemble(x, training=False), recalibrated)


def test_miniature_run(monkeypatch):
    plan = {"width": 8, "steps": 3, "dropouts": (0.3, 0.5), "tasks": ("fashion",)}
    monkeypatch.setitem(dropout_shift.BUDGETS, "small", plan)
    monkeypatch.setattr(dropout_shift, "MASKS", 2)
    result = dropout_shift.run(seeds=[0, 1])
    assert {row["arm"] for row in result.rows} == set(dropout_shift.ARMS)
    assert {row["p"] for row in result.select(arm="BN")} == {0.0}
    for row in result.select(arm="BN"):
        assert row["test_loss_tracked"] == row["test_loss_recalibrated"]
    ratios = result.column("ratio", arm="BN, dropout everywhere")
    assert np.allclose(ratios[:, 0], 1, atol=1e-4) and (ratios[:, 1] < 1).all()
    assert dropout_shift.verdicts(result)[0].claim == "C11"
    dropout_shift.plot(result)
    dropout_shift.plot_ratio(result)


def made_up(everywhere, at_the_end, best_p_without):
    """Test losses below that of BN alone (1.0)."""
    rows = []
    for arm, seed, rate in product(dropout_shift.ARMS, range(5), (0.1, 1.0, 10.0)):
        for p in (0.3, 0.5) if "dropout" in arm else (0.0,):
            gain = {"BN, dropout everywhere": everywhere, "BN, dropout at the end": at_the_end}.get(arm, 0)
            best = best_p_without if arm == "dropout" else 0.3
            loss = 1 - gain + 0.5 * (rate != 1.0) + 0.2 * (p != best and "dropout" in arm)
            row = {"task": "fashion", "arm": arm, "seed": seed, "rate": rate, "p": p}
            for way in ("tracked", "recalibrated"):
                row |= {f"validation_loss_{way}": loss, f"test_loss_{way}": loss, f"test_error_{way}": loss / 2}
            rows.append(row)
    return Result("dropout_shift", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("everywhere", "at_the_end", "best_p_without", "verdict"),
    [
        (0.1, 0.1, 0.5, "holds"),
        (0.1, 0.1, 0.3, "conditions"),
        (-0.1, 0.1, 0.5, "conditions"),
        (-0.1, -0.1, 0.5, "refuted"),
        (0.0, -0.1, 0.5, "open"),
    ],
)
def test_every_verdict_can_be_reached(everywhere, at_the_end, best_p_without, verdict):
    result = made_up(everywhere, at_the_end, best_p_without)
    (found,) = dropout_shift.verdicts(result)
    assert found.verdict == verdict
    assert dropout_shift.chosen(result, "dropout")["p"] == best_p_without
    # 0.5 is the largest p that was tried
    assert dropout_shift.chosen(result, "dropout")["inside"] == (best_p_without == 0.3)
    assert dropout_shift.chosen(result, "dropout", p=0.5)["inside"] and dropout_shift.chosen(result, "BN")["inside"]
