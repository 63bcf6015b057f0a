"""The range test: rules on curves with known answers, curvature against a whole Hessian, verdicts on made-up rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble
from bnlab.experiments import Result
from bnlab.experiments import learning_rate_range_test as lrt

RATES = [0.01, 0.1, 1.0]


def made_up(costs, best=0.1):
    """A result whose rules cost so much test error: one number per rule, or one per rule and network."""
    rows = []
    for k, (arm, depth) in enumerate([(arm, depth) for depth in lrt.DEPTHS for arm in lrt.ARMS]):
        for seed in range(5):
            where = {"arm": arm, "depth": depth, "seed": seed}
            rows += [
                {**where, "part": "sweep", "rate": rate, "test_error": 0.05 if rate == best else 0.5} for rate in RATES
            ]
            for rule, cost in zip(lrt.RULES, costs, strict=True):
                own = np.broadcast_to(cost, 4)[k]
                rows.append({**where, "part": "estimate", "length": 100, "rule": rule, "rate": 0.02})
                rows[-1]["test_error"] = 0.05 + own
    rows.sort(key=lambda row: (row["part"], row.get("rate", 0)))
    return Result("learning_rate_range_test", "small", "cpu", list(range(5)), {"rates": RATES}, rows, 0.0)


@pytest.mark.parametrize(
    ("costs", "best", "expected"),
    [
        ((0, 0.01, 0, 0.015), 0.1, "holds"),
        ((0, 0.1, 0.1, 0.1), 0.1, "conditions"),  # one rule serves everywhere
        (((0, 0, 0.1, 0.1),) * 4, 0.1, "conditions"),  # half of all pairs are good
        (((0, 0, 0, 0.1), 0.1, 0.1, 0.1), 0.1, "refuted"),
        ((0, 0, 0, 0), 1.0, "open"),  # the best rate is the last of the grid
    ],
)
def test_every_verdict_can_be_reached(costs, best, expected):
    (verdict,) = lrt.verdicts(made_up(costs, best))
    assert (verdict.claim, verdict.verdict) == ("C24", expected)
    assert verdict.number.median == pytest.approx(best / 0.02)


def test_a_diverged_estimate_costs_what_chance_costs():
    np.testing.assert_allclose(lrt.cost(made_up((np.nan, 0, 0, 0)), "steepest", "bn", 3), 0.85)


def test_good_range_spans_the_floor():
    result = made_up((0, 0, 0, 0))
    for row in result.select(part="sweep", rate=1.0):
        row["test_error"] = 0.06
    assert lrt.good_range(result, "bn", 3) == (0.1, 1.0)


@given(
    drop=st.floats(-2.0, -0.8), bottom=st.floats(-0.5, 0.3), explosion=st.floats(0.6, 1.2), scale=st.floats(0.5, 10.0)
)
def test_rules_find_the_known_places_of_a_smooth_curve(drop, bottom, explosion, scale):
    """Flat, then a fall centered at 10**drop, lowest around 10**bottom, crossing its start at 10**explosion."""
    rate = np.geomspace(1e-4, 100, 400)
    log = np.log10(rate)
    fall = -1 / (1 + np.exp(-(log - drop) / 0.15))
    rise = np.where(log > bottom, ((log - bottom) / (explosion - bottom)) ** 2, 0)
    found = lrt.read_off(rate, scale * (2 + fall + rise))
    assert found["steepest"] == pytest.approx(10**drop, rel=0.35)
    assert 10 ** (drop - 1) < found["minimum / 10"] < 10 ** (explosion - 1)
    assert found["edge / 4"] == pytest.approx(10**explosion / 4, rel=0.2)
    again = lrt.read_off(rate, 7 * (2 + fall + rise))  # the unit of the loss doesn't matter
    assert again == pytest.approx(found, rel=0.05)  # where two rates tie, rounding may take the neighbor


def test_a_diverged_loss_ends_the_search():
    rate = np.geomspace(0.001, 10, 60)
    loss = np.where(rate < 1, 2 - np.log10(rate / 0.001) / 3, np.nan)
    found = lrt.read_off(rate, loss)
    assert found["edge / 4"] < 1 / 4 and all(np.isfinite(list(found.values())))


def test_smoothing_keeps_lines_and_averages_noise():
    line = np.linspace(3, 1, 50)
    np.testing.assert_allclose(lrt.smooth(line)[5:-5], line[5:-5])
    noise = np.random.default_rng(0).normal(size=5000)
    assert lrt.smooth(noise).std() == pytest.approx(11**-0.5, rel=0.15)


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_curvature_is_the_largest_eigenvalue_of_the_whole_hessian(norm):
    """For small networks the Hessian can be written down; its eigenvalues come from LAPACK."""
    torch.manual_seed(0)
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    nets = Ensemble([4, 5, 3], [0, 1], norm=norm, activation=torch.tanh)
    found = lrt.largest_curvature(nets, x, y, iterations=300)
    shapes = [p.shape for p in nets.parameters]
    flat = torch.cat([p.detach().flatten(1) for p in nets.parameters], 1)

    def loss(vector, k):
        parts = torch.split(vector, [shape[1:].numel() for shape in shapes])
        own = Ensemble([4, 5, 3], [k], norm=norm, activation=torch.tanh)
        values = iter(part.view(1, *shape[1:]) for part, shape in zip(parts, shapes, strict=True))
        for group in (own.weights, own.biases, own.gamma, own.beta):
            group[:] = [t if t is None else next(values) for t in group]
        return lrt.cross_entropy(own(x), y.expand(1, -1))[0]

    for k in range(2):
        hessian = torch.autograd.functional.hessian(lambda v, k=k: loss(v, k), flat[k]).double()
        assert found[k] == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-3)


def test_range_test_starts_from_the_loss_of_its_network_and_diverges():
    data = centered_digits()
    nets = lrt.make("plain", 2, [0, 1], width=16, device="cpu")
    rate, loss = lrt.range_test(nets, data, low=1e-3, high=1e4, steps=60)
    assert rate[0] == pytest.approx(1e-3) and rate[-1] == pytest.approx(1e4)
    assert loss.shape == (60, 2)
    assert np.nanmin(loss, axis=0).max() < 0.8 * loss[:5].mean()
    assert not (loss[-1] < loss[0]).any()


def test_figures_draw_a_miniature_result():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    result = made_up((0, 0.1, 0, 0.1))
    control = [{**row, "rule": lrt.CONTROL} for row in result.select(rule="steepest")]
    losses = [
        {"part": "estimate", "arm": arm, "depth": 3, "length": 100, "rates": RATES, "losses": [2.0, 1.0, 3.0]}
        for arm in lrt.ARMS
    ]
    result.rows += control + losses
    for draw in (lrt.plot, lrt.plot_rules):
        figure = draw(result)
        figure.canvas.draw()
        plt.close(figure)
