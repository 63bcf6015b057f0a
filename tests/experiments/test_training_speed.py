"""Steps and seconds to a target: the optimizer against torch's, the choice of rates, and verdicts on made-up rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, fit
from bnlab.experiments import Result, training_speed

RATES = (0.1, 0.2, 0.4)
AT = [0, 1, 10, 20, 40, 100]


def curve(arrival):
    """Test errors that reach every target first after `arrival` steps."""
    return [0.9 if step < arrival else 0.01 for step in AT]


def made_up(plain, bn, slowdown=1.2, straw=(100, 10), edge=False):
    """A result whose arms arrive after so many steps at their best rate, the middle (or, `edge`, the last) one."""
    rows = []
    for kind, arrivals in ((training_speed.FAIR, (plain, bn)), (training_speed.STRAW, straw)):
        for arm, arrival in zip(training_speed.ARMS, arrivals, strict=True):
            for rate in RATES:
                for seed in range(5):
                    own = arrival if rate == (RATES[-1] if edge else 0.2) else math.inf
                    rows.append(
                        {"network": "net", "optimizer": "sgd", "kind": kind, "arm": arm, "rate": rate, "gain": 1.0}
                        | {"seed": seed, "at": AT, "errors": curve(own)}
                    )
    for arm, seconds in zip(training_speed.ARMS, (1.0, slowdown), strict=True):
        rows += [{"network": "net", "kind": "clock", "arm": arm, "seed": k, "seconds": seconds} for k in range(5)]
    return Result("training_speed", "small", "cpu", list(range(5)), {}, rows, 0.0)


def words(result):
    return {v.claim: v.verdict for v in training_speed.verdicts(result)}


@pytest.mark.parametrize(
    ("plain", "bn", "slowdown", "expected"),
    [
        (100, 10, 1.2, {"C06": "holds", "C16": "holds"}),
        (20, 10, 1.2, {"C06": "refuted", "C16": "holds"}),
        (20, 10, 0.9, {"C06": "refuted", "C16": "conditions"}),  # quicker, but a step isn't dearer
        (20, 20, 1.2, {"C06": "refuted", "C16": "refuted"}),
    ],
)
def test_every_verdict_can_be_reached(plain, bn, slowdown, expected):
    assert words(made_up(plain, bn, slowdown)) == expected


def test_ten_times_in_some_comparisons_holds_with_conditions():
    slow, fast = made_up(20, 10), made_up(100, 10)
    other = [{**row, "network": "other"} for row in fast.rows]
    result = replace(slow, rows=slow.rows + other)
    assert words(result)["C06"] == "conditions"
    assert (
        words(replace(slow, rows=slow.rows + [{**r, "network": "other"} for r in made_up(20, 40).rows]))["C16"]
        == "conditions"
    )


def test_a_best_rate_at_the_end_of_the_grid_leaves_the_claims_open():
    assert words(made_up(20, 10, edge=True)) == {"C06": "open", "C16": "open"}


def test_the_number_is_the_ratio_of_steps_and_of_seconds():
    speed, total = training_speed.verdicts(made_up(40, 10, slowdown=1.6))
    assert speed.number.median == 4
    assert total.number.median == pytest.approx(2.5)


def test_a_run_that_never_arrives_counts_with_the_steps_it_was_given():
    (first, *_) = training_speed.comparisons(made_up(math.inf, 10))
    assert not first.arrived["plain"]
    np.testing.assert_array_equal(first.ratio, 10)  # at least


def test_no_comparison_and_no_verdict_where_nobody_arrives():
    result = made_up(math.inf, math.inf, straw=(math.inf, math.inf))
    assert training_speed.comparisons(result) == []
    assert words(result) == {"C06": "open", "C16": "open"}


def test_best_takes_the_better_gain_and_keeps_to_a_given_rate():
    result = made_up(40, 10)
    better = [
        {**row, "gain": 4.0, "errors": curve(20 if row["rate"] == 0.2 else math.inf)}
        for row in result.select(kind="fair", arm="plain")
    ]
    where = {"network": "net", "optimizer": "sgd", "kind": "fair", "arm": "plain"}
    found = training_speed.best(replace(result, rows=result.rows + better), 0.1, **where)
    assert (found.gain, found.rate, found.inside, found.steps[0]) == (4.0, 0.2, True, 20)
    assert np.isinf(training_speed.best(result, 0.1, 0.4, **where).steps).all()


def test_steps_to_ignores_a_diverged_curve():
    row = {"at": [0, 10, 20], "errors": [0.9, math.nan, math.nan]}
    assert training_speed.steps_to(row, 0.5) == math.inf
    assert training_speed.steps_to({"at": [0, 10, 20], "errors": [0.9, 0.1, 0.2]}, 0.1) == 10


def test_checkpoints_grow_and_include_both_ends():
    at = training_speed.checkpoints(137)
    assert at[0] == 0 and at[-1] == 137 and at == sorted(set(at))
    assert max(np.diff(at)[:4]) == 1


def test_adam_walks_as_torch_does():
    """Ten steps of the ensemble's Adam against `torch.optim.Adam` on the same network and batches."""
    data = centered_digits()
    data = data._replace(x_train=data.x_train[:64], y_train=data.y_train[:64])
    ensemble = Ensemble([64, 8, 10], [3])
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with torch.no_grad():
        for layer, weight, bias in zip(model[::2], ensemble.weights, ensemble.biases, strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0, 0])
    fit(ensemble, data, [0.01], steps=10, every=10, on_step=training_speed.Adam())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, y = torch.as_tensor(data.x_train), torch.as_tensor(data.y_train)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(ensemble.weights[0][0].T, model[0].weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ensemble.biases[1][0, 0], model[2].bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_networks_train_as_in_fit_to_the_last_digit(norm, momentum):
    data = centered_digits()
    data = data._replace(
        x_train=data.x_train[:100], y_train=data.y_train[:100]
    )  # three batches an epoch, four left out
    x, y = torch.as_tensor(data.x_train), torch.as_tensor(data.y_train)
    ours, theirs = (Ensemble([64, 8, 8, 10], [3, 3, 4], norm=norm) for _ in range(2))
    seen = []
    training_speed.train(ours, x, y, [0.1, 0.3, 0.1], 7, momentum=momentum, look=seen.append)
    fit(theirs, data, [0.1, 0.3, 0.1], steps=7, batch_size=training_speed.BATCH, momentum=momentum)
    assert seen == list(range(8))
    for a, b in zip(ours.parameters, theirs.parameters, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_logits_are_those_of_a_calibrated_ensemble(norm):
    data = centered_digits()
    x, x_test = torch.as_tensor(data.x_train[:50]), torch.as_tensor(data.x_test[:20])
    ensemble = Ensemble([64, 8, 8, 10], range(5), norm=norm, activation=torch.sigmoid)
    with torch.no_grad():
        for p in ensemble.parameters:
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        found = training_speed.test_logits(ensemble, x, x_test, together=2)
        ensemble.calibrate(x)
        torch.testing.assert_close(found, ensemble(x_test, training=False))


def test_initial_weights_have_the_published_variances():
    generator = torch.Generator().manual_seed(0)
    assert training_speed.glorot(300, 100, generator).var().item() == pytest.approx(2 / 400, rel=0.03)
    ours = training_speed.torch_default(300, 200, generator)
    theirs = nn.Linear(300, 200).weight.T
    assert ours.shape == theirs.shape
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
    assert ours.abs().max() <= 1 / math.sqrt(300)


def test_a_miniature_run(monkeypatch):
    tiny = {"ReLU, 3 layers": training_speed.Network(1, "relu", 30, 30)}
    monkeypatch.setattr(training_speed, "NETWORKS", tiny)
    monkeypatch.setattr(training_speed, "WIDTH", 16)
    unit = {"network": "ReLU, 3 layers", "optimizer": "sgd", "kind": "fair"}
    for arm in training_speed.ARMS:
        rows = training_speed.curves(unit | {"arm": arm}, range(2), "cpu", 1, 30)
        assert len(rows) == 2 * 3  # seeds, rates 0.0215, 0.215, 2.15
        assert all(row["at"] == training_speed.checkpoints(30) and len(row["errors"]) == len(row["at"]) for row in rows)
        first = [row["errors"][0] for row in rows if row["seed"] == 0]
        assert len(set(first)) == 1  # the same weights at every rate
        assert min(row["errors"][-1] for row in rows) < 0.4 < first[0]


def test_the_clock_times_both_arms_and_the_convolutional_network_learns():
    rows = training_speed.clock({"network": "ReLU, 3 layers", "seed": 0}, "cpu", "small")
    assert [row["arm"] for row in rows] == ["plain", "bn"] and all(row["seconds"] > 0 for row in rows)
    state = torch.random.get_rng_state()
    row = training_speed.conv_curves({"arm": "bn", "rate": 0.1, "seed": 0, "optimizer": "sgd"}, "cpu", steps=12)
    assert row["errors"][-1] < 0.75 < row["errors"][0]
    assert torch.equal(state, torch.random.get_rng_state())


def test_figures_draw_made_up_results():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    result = made_up(20, 10)
    for figure in (training_speed.plot(result), training_speed.plot_clock(result)):
        figure.canvas.draw()
        plt.close(figure)
