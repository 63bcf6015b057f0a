"""The small-batch experiment: its networks against the layers they stand for, its rows, its figures."""

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

from bnlab.experiments import Result
from bnlab.experiments import small_batches as sb
from bnlab.relatives import BatchRenorm1d, GhostBatchNorm1d, RenormSchedule

matplotlib.use("Agg")
SEEDS = [0, 1, 2]


def networks(arm, batch=8, steps=10):
    stack = sb.Networks(arm, SEEDS, batch=batch, steps=steps)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in [*stack.gamma, *stack.beta]:
            if p is not None:
                p.add_(torch.randn(p.shape, generator=generator) * 0.3)
    return stack


def single(stack, run, layer):
    """One network of the stack as ordinary modules, with `layer(units)` as its normalization."""
    modules = []
    for k, units in enumerate(sb.SIZES[1:-1]):
        linear = nn.Linear(sb.SIZES[k], units, bias=False)
        linear.weight.data = stack.weights[k][run].detach().T.clone()
        norm = layer(units)
        norm.weight.data, norm.bias.data = (v[k][run, 0].detach().clone() for v in (stack.gamma, stack.beta))
        modules += [linear, norm, nn.ReLU()]
    last = nn.Linear(sb.SIZES[-2], sb.SIZES[-1])
    last.weight.data, last.bias.data = (
        stack.weights[-1][run].detach().T.clone(),
        stack.biases[-1][run, 0].detach().clone(),
    )
    return nn.Sequential(*modules, last)


LAYERS = {
    "batch": lambda units: nn.BatchNorm1d(units, momentum=8 / sb.MEMORY),
    "renorm": lambda units: BatchRenorm1d(
        units, momentum=8 / sb.MEMORY, schedule=RenormSchedule(start=1, r_end=5, d_end=5)
    ),
    "group": lambda units: nn.GroupNorm(4, units),
    "layer": lambda units: nn.LayerNorm(units),
}


@pytest.mark.parametrize("arm", LAYERS)
def test_networks_of_the_stack_are_ordinary_networks(arm):
    """Outputs in training and evaluation, and gradients, over several steps: running statistics take part."""
    stack = networks(sb.ARMS[arm])
    singles = [single(stack, run, LAYERS[arm]) for run in range(len(SEEDS))]
    for step in range(4):
        stack.step = step
        x = torch.randn(len(SEEDS), 8, 64, generator=torch.Generator().manual_seed(step)) * 2 + 1
        logits = stack(x)
        gradients = torch.autograd.grad(logits.square().sum(), [*stack.weights, *stack.gamma, *stack.beta])
        for run, network in enumerate(singles):
            expected = network(x[run])
            torch.testing.assert_close(logits[run], expected, rtol=1e-4, atol=1e-4)
            theirs = torch.autograd.grad(
                expected.square().sum(), [m.weight for m in network if isinstance(m, nn.Linear)]
            )
            for ours, grad in zip(gradients, theirs, strict=False):
                torch.testing.assert_close(ours[run].T, grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))
    x = torch.randn(5, 64)
    for run, network in enumerate(singles):
        torch.testing.assert_close(stack(x, training=False)[run], network.eval()(x), rtol=1e-4, atol=1e-4)


def test_ghosts_of_the_stack_are_ghost_batches():
    stack = networks(sb.ARMS["ghost"], batch=24)
    x = torch.randn(len(SEEDS), 24, 64) + 1
    logits = stack(x)
    for run in range(len(SEEDS)):
        network = single(stack, run, lambda units: GhostBatchNorm1d(units, ghost_size=sb.GHOST))
        torch.testing.assert_close(logits[run], network(x[run]), rtol=1e-4, atol=1e-4)
    z = torch.bmm(x, stack.weights[0].detach())
    torch.testing.assert_close(stack.running[0][0], stack.momentum * z.mean(1).flatten(), rtol=1e-3, atol=1e-4)


def test_evaluation_in_three_ways():
    stack = networks(sb.ARMS["batch"], batch=4)
    x = torch.randn(4000, 64) + 1
    stack.calibrate(x)
    results = {}
    for stack.source in sb.EVALUATIONS:
        before = [v.clone() for v in stack.running[0]]
        with torch.no_grad():
            results[stack.source] = stack(x, training=False)
        torch.testing.assert_close(list(stack.running[0]), before, rtol=0, atol=0)
    network = single(stack, 1, nn.BatchNorm1d)
    torch.testing.assert_close(
        results["batch"][1], torch.cat([network(part) for part in x.split(4)]), rtol=1e-4, atol=1e-4
    )
    # The whole training set's: what training mode computes on all of it at once, up to the unbiased variance.
    torch.testing.assert_close(results["everything"][1], network(x), rtol=0.01, atol=0.01)
    assert not torch.allclose(results["everything"], results["running"], atol=0.1)


def test_frozen_networks_start_where_the_others_stopped_and_keep_their_statistics():
    trained = sb.Networks(sb.ARMS["batch"], SEEDS, batch=16, steps=5)
    sb.train(trained, sb.load()[0], [0.5] * 3, 80)
    frozen = sb.Networks(sb.FINE_TUNING["frozen"], [2, 0], batch=2, steps=5)
    frozen.copy_from(trained)
    x = torch.randn(6, 64)
    torch.testing.assert_close(frozen(x), trained(x, training=False)[[2, 0]])
    before = [v.clone() for v in (*frozen.running[0], frozen.gamma[0], frozen.weights[0])]
    sb.train(frozen, sb.load("fine-tuning")[0], [0.1] * 2, 10)
    after = [*frozen.running[0], frozen.gamma[0], frozen.weights[0]]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, True, False]


def test_two_examples_let_no_gradient_through():
    """At batch 2 batch normalization gives out -1 and 1, whatever comes in: what is below it can't learn."""
    share = {}
    for batch in (2, 4, 64):
        stack = networks(sb.ARMS["batch"], batch=batch)
        x = torch.randn(len(SEEDS), batch, 64, generator=torch.Generator().manual_seed(0))
        weights, last = stack.weights[0], stack.weights[-1]
        gradients = torch.autograd.grad(stack(x)[..., 0].sum(), (weights, last))
        share[batch] = float(gradients[0].norm() / gradients[1].norm())
    assert share[2] < 1e-2 < 0.1 < share[4] and share[64] > 0.1


def test_data_are_split_without_overlap_and_turned():
    validation, test = sb.load()
    assert len(validation.x_train) + len(validation.x_test) + len(test.x_test) == 1797
    np.testing.assert_array_equal(validation.x_train, test.x_train)
    rows = {row.tobytes() for row in validation.x_train}
    assert sum(row.tobytes() in rows for row in (*validation.x_test, *test.x_test)) < 5  # a few digits are drawn twice
    np.testing.assert_allclose(validation.x_train.mean(0), 0, atol=1e-6)
    turned = sb.load("fine-tuning")[0]
    np.testing.assert_array_equal(turned.x_train[3].reshape(8, 8), np.rot90(validation.x_train[3].reshape(8, 8)))


@pytest.fixture(scope="module")
def tiny():
    """The experiment with two batch sizes, two rates and few examples."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sb, "BATCHES", {"scratch": (2, 16), "fine-tuning": (4, 16)})
    patch.setattr(sb, "RATES", {"small": (0.01, 0.25, 1.0)})
    patch.setattr(sb, "EXAMPLES", {"small": {"scratch": 320, "fine-tuning": 160}})
    yield sb.run(seeds=range(2))
    patch.undo()


def test_rows_of_a_miniature_run(tiny):
    scratch = {(row["arm"], row["batch"]) for row in tiny.select(part="scratch")}
    assert scratch == {(arm, batch) for arm in sb.ARMS for batch in (2, 16)} - {("ghost", 2)}
    assert {row["arm"] for row in tiny.select(part="fine-tuning")} == {"batch", "frozen"}
    assert len(tiny.select(part="scratch", arm="batch", batch=2)) == len(sb.EVALUATIONS) * 2
    for row in tiny.rows:
        assert 0 <= row["error"] <= 1 and row["rate"] in (0.01, 0.25, 1.0)
        assert row["inside"] == (row["rate"] == 0.25) or row["inside"]
        assert row["steps"] * row["batch"] == (320 if row["part"] == "scratch" else 160)
    assert sb.estimate(tiny, "layer", 2).median < sb.estimate(tiny, "batch", 2).median
    assert sb.verdicts(tiny) == []


def test_result_survives_a_file_and_can_be_drawn(tiny, tmp_path):
    result = Result.load(tiny.save(tmp_path / "r.json"))
    assert result.rows == tiny.rows
    figure = sb.plot(result)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == [sb.LABELS[arm] for arm in sb.ARMS]
    for draw in (sb.plot_evaluations, sb.plot_fine_tuning):
        assert draw(result).axes[0].get_ylabel() == "test error in percent"
    matplotlib.pyplot.close("all")
