"""Ghost and injected noise against PyTorch and exact enumeration; the verdict on made-up numbers."""

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from bnlab.ensemble import BatchNorm, Ensemble  # noqa: E402
from bnlab.experiments import Result, batch_noise  # noqa: E402


@pytest.mark.parametrize("m", [2, 3, 5])
def test_noise_theory_is_exact(m):
    """Over all batches that can be drawn from three values."""
    values = np.array([-1.0, 0.5, 3.0])
    values = (values - values.mean()) / values.std()
    batches = np.array(list(product(values, repeat=m)))
    mean_noise, var_noise = batch_noise.noise_theory(m, (values**4).mean())
    assert np.isclose(batches.mean(axis=1).std(), mean_noise, rtol=1e-12)
    assert np.isclose(batches.var(axis=1).std(), var_noise, rtol=1e-12)


def test_groups_are_batches_of_their_own():
    z = torch.randn(2, 12, 5, dtype=torch.float64)
    norm = batch_noise.GhostNorm(4)
    y = norm.normalize(z, *norm.statistics(z, 0), 0)
    for run, start in product(range(2), (0, 4, 8)):
        group = z[run, start : start + 4]
        expected = torch.nn.functional.batch_norm(group, None, None, training=True)
        torch.testing.assert_close(y[run, start : start + 4], expected)


def test_injected_noise_has_the_distribution_of_groups():
    size, z = 8, torch.randn(1, 16000, 20, dtype=torch.float64)
    z = (z - z.mean(1)) / z.std(1, correction=0)
    mu, var = batch_noise.InjectedNorm(size, seed=0).statistics(z, 0)
    assert (mu[:, ::size] == mu[:, size - 1 :: size]).all()  # one draw for each group
    mean_noise, var_noise = batch_noise.noise_theory(size, 3.0)
    assert mu[:, ::size].std().item() == pytest.approx(mean_noise, rel=0.02)
    assert var[:, ::size].std().item() == pytest.approx(var_noise, rel=0.03)
    assert var[:, ::size].mean().item() == pytest.approx((size - 1) / size, rel=0.01)  # the biased variance


def test_dealing_keeps_the_order_of_the_answers():
    x = torch.randn(16, 6)
    whole = Ensemble([6, 8, 3], [0, 1], norm=BatchNorm())(x)
    dealt = batch_noise.Dealt([6, 8, 3], [0, 1], norm=batch_noise.GhostNorm(16), seed=0)(x)
    torch.testing.assert_close(dealt, whole)
    ghosts = batch_noise.Dealt([6, 8, 3], [0, 1], norm=batch_noise.GhostNorm(4), seed=0)
    assert (ghosts(x) - ghosts(x)).abs().max() > 0.01  # dealt anew


def test_whole_set_statistics_do_not_depend_on_the_batch():
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    ensemble = batch_noise.WholeSet([6, 8, 3], [0], x_train=x)
    plain = Ensemble([6, 8, 3], [0], norm=BatchNorm())(torch.tensor(x))
    torch.testing.assert_close(ensemble(torch.tensor(x[:5])), plain[:, :5])
    torch.testing.assert_close(ensemble(torch.tensor(x[3:4])), plain[:, 3:4])


def test_scarce_draws_disjoint_standardized_sets():
    data, x_test, y_test = batch_noise.scarce("fashion", 60, seed=3, validation=40)
    assert data.x_train.shape == (60, 49) and data.x_test.shape == (40, 49) and x_test.shape == (1000, 49)
    assert y_test.shape == (1000,)
    assert np.abs(data.x_train.mean(axis=0)).max() < 1e-5
    assert not (data.x_train[:, None] == data.x_test[None]).all(axis=2).any()
    other, _, _ = batch_noise.scarce("fashion", 60, seed=4, validation=40)
    assert not np.array_equal(other.x_train, data.x_train)


def test_miniature_run(monkeypatch):
    plan = {"tasks": ("fashion",), "steps": 2, "noise_batches": 20}
    monkeypatch.setitem(batch_noise.BUDGETS, "small", plan)
    result = batch_noise.run(seeds=[0])
    arms = {row["arm"] for row in result.select(part="training", setting="full batch")}
    assert arms == {"no BN", "no noise", "injected, 16", *(f"groups of {g}" for g in batch_noise.GHOSTS)}
    for row in result.select(part="training"):
        assert row["step"] == [0, 2] and len(row["test_loss"]) == 2
    losses = {row["arm"]: row["train_loss"][0] for row in result.select(setting="full batch", rate=0.1)}
    assert losses["groups of 4"] == losses["no noise"] == losses["injected, 16"]  # evaluation knows no noise
    assert batch_noise.verdicts(result)[0].claim == "C10"
    batch_noise.plot(result)
    batch_noise.plot_noise(result)


def made_up(groups, injected, error, sgd):
    """Scores below those of "no noise" (1.0), in every seed."""
    rows = []
    gains = {("full batch", "no noise"): 0, ("full batch", "no BN"): 0, ("full batch", "injected, 16"): injected,
             ("sgd", "no noise"): 0, ("sgd", "no BN"): 0, ("sgd", "batch"): sgd}  # fmt: skip
    gains |= {("full batch", f"groups of {g}"): groups / g for g in batch_noise.GHOSTS}
    for (setting, arm), gain in gains.items():
        for seed, rate in product(range(5), (0.1, 1.0, 10.0)):
            worse = 0.5 * (rate != 1.0)
            loss = 1 - gain + worse
            wrong = 0.5 - (error if arm.startswith("groups") else 0) + worse
            losses, errors = [9, loss + 0.2, loss, loss + 0.1], [1, wrong, wrong, wrong]
            rows.append({"part": "training", "task": "fashion", "setting": setting, "arm": arm, "seed": seed,
                         "rate": rate, "step": [0, 5, 6, 8], "train_loss": [9, 0, 0, 0], "train_error": [1, 0, 0, 0],
                         "validation_loss": losses, "validation_error": errors, "test_loss": losses,
                         "test_error": errors})  # fmt: skip
    return Result("batch_noise", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("groups", "injected", "error", "sgd", "verdict"),
    [
        (0.4, 0.1, 0.1, 0.1, "holds"),
        (0.4, 0.1, 0.0, 0.0, "conditions"),
        (-0.4, -0.1, -0.1, -0.1, "refuted"),
        (0.0, 0.0, 0.0, 0.0, "open"),
    ],
)
def test_every_verdict_can_be_reached(groups, injected, error, sgd, verdict):
    result = made_up(groups, injected, error, sgd)
    (found,) = batch_noise.verdicts(result)
    assert found.verdict == verdict
    best = batch_noise.chosen(result, task="fashion", setting="full batch", arm="no noise")
    assert (best["rate"], best["step"], best["inside"]) == (1.0, 6, True)
    for row in result.rows:  # the first moment that was evaluated is an edge, too
        row["validation_loss"][1] = 0
    assert not batch_noise.chosen(result, task="fashion", setting="full batch", arm="no noise")["inside"]


def test_moments_begin_early_and_end_with_the_last_step():
    for steps in (2, 5, 6, 200, 1000):
        found = batch_noise.moments(steps)
        assert found[:2] == [0, min(5, steps)] and found[-1] == steps and found == sorted(set(found))
    assert len(found) < 30
