"""Orders and residual blocks against torch.nn; the trap of a zero gamma; the verdict on made-up numbers."""

from itertools import product

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from bnlab.experiments import Result, placement  # noqa: E402


def norm(z):
    return F.batch_norm(z, None, None, training=True)


@pytest.mark.parametrize("order", placement.ORDERS)
def test_orders_are_what_they_say(order):
    x = torch.randn(20, 6)
    ensemble = placement.ordered([6, 8, 8, 3], [5], order, "tanh")
    h = x
    for weight in ensemble.weights[:-1]:
        z = h @ weight[0]
        h = {"before": lambda z: torch.tanh(norm(z)), "after": lambda z: norm(torch.tanh(z)), "no BN": torch.tanh}[
            order
        ](z)
    torch.testing.assert_close(ensemble(x)[0], h @ ensemble.weights[-1][0])
    # a bias wherever it has an effect, and nowhere else
    assert [b is None for b in ensemble.biases] == [order == "before", order == "before", False]
    assert sum(p is b for p in ensemble.parameters for b in ensemble.biases) == (1 if order == "before" else 3)


def test_a_joined_ensemble_trains_every_network_as_its_own_does():
    data, _, _ = placement.scarce("fashion", 100, 0)
    one = [placement.ordered([49, 8, 8, 10], [0, 0], "after", name, "cpu") for name in placement.ACTIVATIONS]
    two = [placement.Residual(49, 8, 2, 10, [0, 0], style) for style in ("pre", "pre, weights 0")]
    for alone in (one, two):
        together = placement.joined(alone)
        placement.fit(together, data, [0.1, 0.3] * len(alone), steps=5, batch_size=32)
        for ensemble in alone:
            placement.fit(ensemble, data, [0.1, 0.3], steps=5, batch_size=32)
        for whole, *own in zip(together.parameters, *(ensemble.parameters for ensemble in alone), strict=True):
            torch.testing.assert_close(whole, torch.cat(own))


@pytest.mark.parametrize("style", ["post", "pre"])
def test_blocks_are_the_papers(style):
    """Equations of He et al. (2016a, 2016b), written with torch.nn.functional."""
    x = torch.randn(30, 6)
    residual = placement.Residual(6, 8, 2, 3, [1], style)
    w = [weight[0] for weight in residual.weights]
    h = torch.relu(norm(x @ w[0])) if style == "post" else x @ w[0]
    for a, b in ((w[1], w[2]), (w[3], w[4])):
        if style == "post":
            h = torch.relu(h + norm(torch.relu(norm(h @ a)) @ b))
        else:
            h = h + torch.relu(norm(torch.relu(norm(h)) @ a)) @ b
    h = h if style == "post" else torch.relu(norm(h))
    torch.testing.assert_close(residual(x)[0], h @ w[5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("style", ["post, gamma 0", "pre, weights 0", "pre, gamma 0"])
def test_zero_start_makes_every_block_the_identity(style):
    x, seen = torch.randn(30, 6), []
    residual = placement.Residual(6, 8, 3, 3, [1, 2], style)
    residual(x, tap=lambda place, layer, h: seen.append(h.detach().clone()))
    assert len(seen) == 4
    for h in seen[1:]:
        torch.testing.assert_close(h, seen[0])
    assert seen[0].abs().max() > 0


@pytest.mark.parametrize(
    ("style", "alive"), [("post, gamma 0", True), ("pre, weights 0", True), ("pre, gamma 0", False)]
)
def test_which_zero_start_can_learn(style, alive):
    x, y = torch.randn(30, 6), torch.randint(3, (30,))
    residual = placement.Residual(6, 8, 3, 3, [1], style)
    loss = F.cross_entropy(residual(x)[0], y)
    gammas = residual.gamma[1:] if style.startswith("post") else residual.gamma[:-1]
    betas = residual.beta[1:] if style.startswith("post") else residual.beta[:-1]
    gradients = torch.autograd.grad(loss, [*residual.weights[1:-1], *gammas, *betas])
    assert any(g.abs().max() > 0 for g in gradients) == alive


def test_unknown_style_is_refused():
    with pytest.raises(ValueError, match="give 'post' or 'pre'"):
        placement.Residual(6, 8, 2, 3, [1], "prae")


def test_evaluation_uses_the_calibrated_statistics():
    x = torch.randn(30, 6)
    for style in placement.BLOCKS:
        residual = placement.Residual(6, 8, 2, 3, [1], style)
        residual.calibrate(x)
        torch.testing.assert_close(residual(x, training=False), residual(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            residual(x[:2], training=False), residual(x, training=False)[:, :2], rtol=1e-4, atol=1e-4
        )


def test_miniature_run(monkeypatch):
    plan = {"width": 8, "hidden": 2, "steps": 2, "blocks": (2,), "residual_steps": 2, "tasks": ("fashion",)}
    monkeypatch.setitem(placement.BUDGETS, "small", plan)
    monkeypatch.setattr(placement, "EXAMPLES", 100)
    result = placement.run(seeds=[0])
    assert len(result.select(part="order")) == 3 * 3 * len(placement.RATES["order"])
    assert len(result.select(part="residual")) == len(placement.BLOCKS) * len(placement.RATES["residual"])
    assert placement.verdicts(result)[0].claim == "C15"
    placement.plot(result)
    placement.plot_residual(result)


def made_up(saved, spread=0.0):
    """Test errors with BN before the activation, below those with BN after it by `saved`, in every seed."""
    rows = []
    for (activation, gain), arm, seed, rate in product(saved.items(), placement.ORDERS, range(5), (0.1, 1.0, 10.0)):
        error = 0.3 - (gain + spread * (seed - 2) if arm == "before" else 0) + 0.2 * (rate != 1.0) + 0.001 * seed
        rows.append({"task": "fashion", "part": "order", "arm": arm, "activation": activation, "seed": seed,
                     "rate": rate, "validation_error": [0.9, error], "test_error": error})  # fmt: skip
    for arm, rate in product(placement.BLOCKS, (0.1, 1.0, 10.0)):
        rows.append({"task": "fashion", "part": "residual", "arm": arm, "blocks": 4, "seed": 0, "rate": rate,
                     "validation_error": [0.9, 0.2 if rate <= 1.0 else float("nan")]})  # fmt: skip
    return Result("placement", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("relu", "tanh", "sigmoid", "spread", "verdict"),
    [
        (0.1, 0.1, 0.1, 0.0, "holds"),
        (0.1, -0.1, 0.0, 0.0, "conditions"),
        (0.0, -0.1, -0.1, 0.0, "refuted"),
        (0.0, -0.1, -0.1, 0.05, "open"),
    ],
)
def test_every_verdict_can_be_reached(relu, tanh, sigmoid, spread, verdict):
    result = made_up({"relu": relu, "tanh": tanh, "sigmoid": sigmoid}, spread)
    (found,) = placement.verdicts(result)
    assert found.verdict == verdict
    assert found.number.median == pytest.approx(100 * relu)
    assert placement.largest_rate(result, "post", 4) == 1.0


def test_bias_before_batch_norm_is_redundant():
    layer = nn.Sequential(nn.Linear(6, 8, dtype=torch.float64), nn.BatchNorm1d(8, dtype=torch.float64))
    x = torch.randn(20, 6, dtype=torch.float64)
    y = layer(x)
    y.square().mean().add(torch.sigmoid(y).sum()).backward()
    assert layer[0].bias.grad.abs().max() < 1e-13 < 1e-3 < layer[0].weight.grad.abs().max()
