"""The twelve tests of `bnlab.bug_tests`: each bug is caught by the one aimed at it, right implementations pass."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402

import bnlab  # noqa: E402
from bnlab import bug_tests  # noqa: E402
from bnlab.bug_tests import TESTS, examine  # noqa: E402
from bnlab.experiments import bugs, framework_parity  # noqa: E402
from bnlab.reference import RunningStatistics, batch_norm_forward  # noqa: E402

SEEDS = range(4)


@pytest.mark.parametrize("name", bugs.BUGS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_bug_is_caught_by_the_test_aimed_at_it(name, seed):
    make, undo, aimed = bugs.BUGS[name]
    assert aimed in examine(make, undo=undo, seed=seed).failed


# What else may fail, and why: tests that compare outputs see any wrong output.
ALSO = {
    "unbiased variance normalizes": {"gradient check", "one step", "structured channel", "gradients in evaluation"},
    "eps outside the root": {"insertion"},
    "eps forgotten": {"insertion"},
    "per pixel": {"gradient check", "one step", "gradients in evaluation", "mean of 10,000", "four values"},
    "input changed in place": {"batch mates", "gradients in evaluation", "insertion", "two updates by hand"},
    "momentum reversed": {"four values"},
    "batch statistics in evaluation": {"insertion"},
}


@pytest.mark.parametrize("name", bugs.BUGS)
def test_the_matrix_is_nearly_diagonal(name):
    make, undo, aimed = bugs.BUGS[name]
    failed = {test for seed in SEEDS for test in examine(make, undo=undo, seed=seed).failed}
    assert failed - {aimed} <= ALSO.get(name, set())


def test_every_test_is_needed():
    """For each test there is a bug aimed at it, and most bugs are caught by one test alone."""
    assert {aimed for _, _, aimed in bugs.BUGS.values()} == set(TESTS)
    alone = [name for name, (make, undo, _) in bugs.BUGS.items() if len(examine(make, undo=undo).failed) == 1]
    assert len(alone) >= 7, alone


class AnyRank(nn.BatchNorm2d):
    """torch's layer on every rank, as the buggy ones are."""

    def _check_input_dim(self, x):
        pass


@pytest.mark.parametrize("make", [bugs.BatchNorm, nn.BatchNorm2d, bnlab.BatchNorm2d, AnyRank])
@pytest.mark.parametrize("seed", SEEDS)
def test_right_implementations_pass_all(make, seed):
    assert examine(make, seed=seed).failed == []


@pytest.mark.parametrize("name", ["Keras", "Flax"])
def test_frameworks_pass_all_but_the_large_mean(name):
    make, needs, unbiased = bugs.RIGHT[name]
    if framework_parity.missing(needs):
        pytest.skip(f"{framework_parity.missing(needs)} is not installed")
    assert set(examine(make, unbiased=unbiased).failed) <= {"mean of 10,000"}
    failed = examine(make, only="four values")  # with torch's convention, their own is found out
    assert "looks like: the biased variance in running_var" in failed.findings[0].message


def test_the_plain_layer_is_the_reference():
    rng = np.random.default_rng(0)
    layer, running = bugs.BatchNorm(3).double(), RunningStatistics(3)
    for shape in ((5, 3), (4, 3, 6), (2, 3, 4, 5)):
        x = rng.normal(2, 3, shape)
        expected, cache = batch_norm_forward(x)
        running.update(cache.mu, cache.var, cache.m)
        np.testing.assert_allclose(layer(torch.tensor(x)).detach(), expected, atol=1e-12)
        np.testing.assert_allclose(layer.running_mean, running.mean)
        np.testing.assert_allclose(layer.running_var, running.var)


def test_reports_name_the_mistake():
    named = {
        "momentum reversed": "momentum the other way round",
        "statistics detached": "mean and variance treated as constants",
        "per pixel": "statistics per pixel",
        "eps outside the root": "eps outside",
        "E[x²] - E[x]²": "E[x²] - E[x]²",
        "biased running variance": "biased variance in running_var",
        "unbiased variance normalizes": "normalizing with the unbiased variance",
        "mode from grad mode": "gradient switch",
        "gamma, beta never learn": "no nn.Parameter",
        "input changed in place": "in place",
    }
    for name, words in named.items():
        make, undo, aimed = bugs.BUGS[name]
        (finding,) = examine(make, undo=undo, only=aimed).findings
        assert not finding.passed and words in finding.message, (name, finding.message)
        assert str(finding).startswith(f"FAILED  {aimed}\n        ")


def test_other_mistakes_are_caught_too():
    class GammaGetsNoGradient(bugs.BatchNorm):
        def transform(self, x, mu, var):
            self.weight.requires_grad_(True)
            x_hat = (x - bugs.along(x, mu)) / torch.sqrt(bugs.along(x, var) + self.eps)
            return bugs.along(x, self.weight.detach()) * x_hat + bugs.along(x, self.bias)

    class NoUpdates(bugs.BatchNorm):
        def track(self, mu, var, m):
            pass

    class HalfDetached(bugs.BatchNorm):
        def moments(self, x):
            mu, var = super().moments(x)
            return mu, var.detach()

    class Crashes(bugs.BatchNorm):
        def forward(self, x):
            raise KeyError("sorry")

    assert "one step" in examine(GammaGetsNoGradient).failed
    assert "looks like: no updates" in str(examine(NoUpdates, only="two updates by hand"))
    assert "the variance treated as a constant" in str(examine(HalfDetached, only="gradient check"))
    report = examine(Crashes)
    assert report.failed == list(TESTS) and "KeyError: 'sorry'" in str(report)
    assert str(report).endswith("0 of 12 passed")


def test_unknown_test_is_refused():
    with pytest.raises(ValueError, match="give one of 'four values'"):
        examine(nn.BatchNorm2d, only="five values")


def test_graph_size_counts_every_node_once():
    w = torch.ones(1, requires_grad=True)
    assert bug_tests.graph_size(torch.ones(1)) == 0
    y = w * 2
    assert bug_tests.graph_size(y + y) == 3  # add, mul, and the leaf's accumulation


def test_undo_normalization_is_the_identity():
    x = torch.randn(32, 3, 4, 4, dtype=torch.float64) * torch.tensor([0.01, 1, 50.0])[:, None, None] + 3
    layer = nn.BatchNorm2d(3).double().eval()
    bug_tests.undo_normalization(layer, x)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=1e-12)


def test_experiment_in_miniature(monkeypatch):
    monkeypatch.setattr(bugs, "STEPS", {"small": 6})
    monkeypatch.setattr(
        bugs,
        "BUGS",
        {k: bugs.BUGS[k] for k in ("momentum reversed", "buffers keep the graph", "gamma = var on insertion")},
    )
    monkeypatch.setattr(bugs, "RIGHT", {"torch.nn": bugs.RIGHT["torch.nn"], "Keras": bugs.RIGHT["Keras"]})
    monkeypatch.setattr(bugs, "missing", lambda name: "keras" if name == "keras" else "")
    result = bugs.run(seeds=[0, 1])
    assert bugs.failures(result, "momentum reversed", "two updates by hand") == 1
    assert bugs.failures(result, "torch.nn", "two updates by hand") == 0
    assert np.isnan(bugs.failures(result, "Keras", "two updates by hand"))
    assert result.select(layer="Keras")[0]["missing"] == "keras"
    # insertion isn't trained; the graph grows with the steps; the right one keeps none of it
    assert {row["layer"] for row in result.select(kind="training")} == {
        "right",
        "momentum reversed",
        "buffers keep the graph",
    }
    assert result.column("graph", kind="training", layer="right").max() == 0
    assert result.column("graph", kind="training", layer="buffers keep the graph").min() > 6
    # same weights, same batches: the forward pass in training is that of the right layer
    for seed in (0, 1):
        same = [result.column("train", kind="training", layer=n, seed=seed)[0] for n in ("right", "momentum reversed")]
        assert same[0] == same[1]
    assert bugs.verdicts(result) == []
    with pytest.raises(ValueError, match="on the CPU"):
        bugs.run(seeds=[0], device="cuda")
