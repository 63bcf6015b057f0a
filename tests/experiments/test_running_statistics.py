"""The experiment on running statistics: its bookkeeping against torch's own layer, its verdicts on made-up rows."""

import numpy as np
import pytest
import torch

from bnlab.ensemble import BatchNorm, Ensemble
from bnlab.experiments import Result
from bnlab.experiments import running_statistics as rs

CHECKPOINTS = [2, 5]


@pytest.fixture(scope="module")
def rows():
    return rs.measure(16, CHECKPOINTS, seeds=[0, 1], learning_rates=[0.03, 0.3, 3.0])


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
def test_tracker_keeps_what_torch_keeps(momentum):
    tracker = rs.Tracker([momentum])
    layer = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
    expected = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        expected.append((layer.running_mean.clone(), layer.running_var.clone()))
        z = 5 + 2 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
        layer(z)
        tracker.see("z", 0, z[None])
    ((mean, var),) = tracker.now[momentum]
    torch.testing.assert_close(mean[0, 0], layer.running_mean)
    torch.testing.assert_close(var[0, 0], layer.running_var)
    ((mean, var),) = tracker.before[momentum]
    torch.testing.assert_close(mean[0, 0], expected[-1][0])
    torch.testing.assert_close(var[0, 0], expected[-1][1])


def test_tracker_keeps_layers_and_networks_apart():
    tracker = rs.Tracker([1.0])
    a, b = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    for layer, value in ((0, a), (1, b)):
        tracker.see("z", layer, value)
        tracker.see("h", layer, value + 100)  # another place, not to be counted
    for (mean, var), value in zip(tracker.now[1.0], (a, b), strict=True):
        torch.testing.assert_close(mean, value.mean(1, keepdim=True))
        torch.testing.assert_close(var, value.var(1, keepdim=True))
    assert tracker.batches == 1


def test_correction_removes_the_start_exactly():
    """Where every batch has the same statistics, nothing but the start is wrong with a running average."""
    tracker = rs.Tracker([0.01])
    z = (7 + 0.1 * torch.randn(1, 8, 2, dtype=torch.float64)).expand(1, 8, 2)
    for _ in range(6):
        tracker.see("z", 0, z)
    ((mean, var),) = tracker.corrected(0.01)
    torch.testing.assert_close(mean, z.mean(1, keepdim=True))
    torch.testing.assert_close(var, z.var(1, keepdim=True))
    ((uncorrected, _),) = tracker.before[0.01]
    assert (uncorrected < 1).all()


def test_changes_counts_examples_with_two_answers():
    answers = torch.tensor([[[1, 2, 3, -1]], [[1, 0, -1, 4]], [[1, 2, 3, -1]]])
    assert rs.changes(answers).tolist() == [0.25]


def test_shuffled_answers_of_the_whole_set_do_not_depend_on_the_order():
    ensemble = Ensemble((4, 6, 3), [0, 1], norm=BatchNorm())
    x = torch.randn(8, 4)
    answers = rs.shuffled_answers(ensemble, x, 8, shuffles=4)
    assert (answers == ensemble(x).argmax(-1)).all()
    assert (rs.changes(answers) == 0).all()
    # 8 examples in batches of 3: two are left out in every shuffle
    assert ((rs.shuffled_answers(ensemble, x, 3, shuffles=4) < 0).sum(-1) == 2).all()


def test_split_has_no_image_twice():
    data, test_x, test_y = rs.split_digits()
    parts = [{row.tobytes() for row in part} for part in (data.x_train, data.x_test, test_x)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(test_x) == len(test_y) == 355
    assert set(data.y_train) == set(data.y_test) == set(test_y) == set(range(10))


def test_rows(rows):
    arms = {row["arm"] for row in rows}
    assert {"sweep", "precise", "batch", "momentum 0.1", "momentum None", "momentum 0.01 corrected"} <= arms
    for row in rows:
        if row["arm"] == "sweep":
            assert row["validation_loss"] > 0
            continue
        assert row["steps"] == CHECKPOINTS
        assert len(row["errors"]) == 2 and all(0 <= error <= 1 for error in row["errors"])
    assert len([row for row in rows if row["arm"] == "sweep"]) == 6
    assert [row["seed"] for row in rows if row["arm"] == "precise"] == [0, 1]


def test_five_steps_are_too_few_for_a_small_momentum(rows):
    """The share of the start that is left after 5 steps is 0.59 with momentum 0.1 and 0.995 with 0.001."""
    last = {arm: np.median([row["errors"][-1] for row in rows if row["arm"] == arm]) for arm in ("precise",)}
    slow = np.median([row["errors"][-1] for row in rows if row["arm"] == "momentum 0.001"])
    assert slow > last["precise"] + 0.05


def test_evaluation_leaves_training_alone():
    """More checkpoints must not change the weights: the errors that both runs measure are the same."""
    options = {"seeds": [0], "learning_rates": [0.3]}
    often = rs.measure(16, [1, 2, 3, 4], **options)
    once = rs.measure(16, [4], **options)
    for a, b in zip(often, once, strict=True):
        if a["arm"] == "sweep":
            assert a["validation_loss"] == b["validation_loss"]
        elif a["arm"] != "batch":
            assert a["errors"][-1] == b["errors"][-1]


def test_run_rejects_an_unknown_budget():
    with pytest.raises(ValueError, match="budget"):
        rs.run(seeds=[0], budget="huge")


def made_up(running, precise, flips):
    """A result of five seeds with batches of 4 and 256: each argument (for 4, for 256)."""
    rows = []
    for size, r, p, f in zip((4, 256), running, precise, flips, strict=True):
        for seed in range(5):
            jitter = 1e-4 * seed
            rows.append({"batch_size": size, "arm": "momentum 0.1", "seed": seed, "errors": [0.9, r + jitter]})
            rows.append({"batch_size": size, "arm": "precise", "seed": seed, "errors": [0.9, p + jitter]})
            rows.append({"batch_size": size, "arm": "batch", "seed": seed, "errors": [0.9, p], "flips": f + jitter})
    return Result("running_statistics", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("running", "precise", "flips", "word"),
    [
        ((0.05, 0.03), (0.05, 0.03), (0.0, 0.0), "holds"),
        ((0.20, 0.03), (0.18, 0.03), (0.9, 0.02), "conditions"),
        ((0.05, 0.03), (0.05, 0.03), (0.9, 0.0), "conditions"),
        ((0.05, 0.10), (0.05, 0.03), (0.9, 0.02), "refuted"),
    ],
)
def test_verdicts(running, precise, flips, word):
    (verdict,) = rs.verdicts(made_up(running, precise, flips))
    assert (verdict.claim, verdict.verdict) == ("C23", word)
    assert verdict.number.median == pytest.approx(100 * flips[0] + 0.02)


def test_verdict_ignores_batches_of_two():
    """With two examples a dense layer passes no gradient, so such a batch says nothing about what is stored."""
    result = made_up((0.05, 0.03), (0.05, 0.03), (0.0, 0.0))
    result.rows += [{**row, "batch_size": 2, "errors": [0.9, 0.9]} for row in result.select(batch_size=4)]
    assert rs.verdicts(result)[0].verdict == "holds"


def test_plots(rows):
    plt = pytest.importorskip("matplotlib.pyplot")
    rows = [{"batch_size": size, **row} for size in (16, 32) for row in rows]
    result = Result("running_statistics", "small", "cpu", [0, 1], {}, rows, 0.0)
    figure = rs.plot(result)
    assert len(figure.axes[0].lines) == 3
    assert len(rs.plot_steps(result, 16).axes[0].lines) == 7
    plt.close("all")
