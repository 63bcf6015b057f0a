"""The map of learning rates and depths: exact properties of the arms, and verdicts on made-up maps."""

import numpy as np
import pytest
import torch

from bnlab.experiments import Result
from bnlab.experiments import learning_rate_depth as lrd

RATES = [0.1, 1.0, 10.0]


def made_up(**largest):
    """A result in which each arm trains up to a rate, at depths 2 and 8: ``he=(1.0, 0.1)``; 0 for none."""
    rows = []
    for arm in lrd.ARMS:
        for depth, limit in zip((2, 8), largest.get(arm, (1.0, 1.0)), strict=True):
            for rate in RATES:
                for seed in range(5):
                    error = 0.05 if rate <= limit else float("nan") if rate > 5 else 0.9
                    rows.append({"arm": arm, "depth": depth, "rate": rate, "seed": seed, "test_error": error})
    return Result("learning_rate_depth", "small", "cpu", list(range(5)), {"depths": [2, 8], "rates": RATES}, rows, 0.0)


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"he": (1.0, 0), "bn": (10.0, 1.0)}, "holds"),
        ({"he": (1.0, 0.1), "bn": (10.0, 1.0)}, "conditions"),  # higher, but nothing awakens
        ({"he": (1.0, 1.0), "bn": (1.0, 1.0), "default": (1.0, 0), "bn default": (1.0, 1.0)}, "conditions"),  # straw
        ({"he": (1.0, 1.0), "bn": (1.0, 1.0)}, "refuted"),
        ({"he": (0, 0), "bn": (0, 0)}, "open"),
    ],
)
def test_every_verdict_can_be_reached(arms, expected):
    (verdict,) = lrd.verdicts(made_up(**arms))
    assert (verdict.claim, verdict.verdict) == ("C07", expected)


def test_headroom_is_a_ratio_and_says_nothing_where_nobody_trains():
    result = made_up(he=(0.1, 0), bn=(10.0, 0))
    np.testing.assert_allclose(lrd.headroom(result, 2), 100)
    np.testing.assert_array_equal(lrd.headroom(result, 8), 1)
    np.testing.assert_array_equal(lrd.headroom(made_up(he=(0, 0), bn=(1.0, 1.0)), 2), np.inf)


def test_awakened_names_the_depths():
    assert lrd.awakened(made_up(he=(1.0, 0), bn=(1.0, 0.1)), "he", "bn") == [8]


def test_skip_is_the_sum_of_small_steps():
    """Against the formula, written out for one network in float64."""
    nets = lrd.Skip([6, 5, 5, 5, 3], [7, 8])
    x = torch.randn(4, 6)
    w = [weight[1].detach().double() for weight in nets.weights]
    h = x.double() @ w[0]
    for layer in (1, 2):
        h = h + h.clamp(min=0) @ w[layer] / 3
    expected = h.clamp(min=0) @ w[3]
    torch.testing.assert_close(nets(x)[1].double(), expected, rtol=1e-5, atol=1e-6)


def test_signals_fade_or_stay_as_their_initialization_says():
    """After 20 ReLU layers: PyTorch's default loses a factor sqrt(6) per layer, He's weights and small steps don't."""
    x = torch.randn(64, 64)

    def size(make, **options):
        seen = {}
        nets = make([64, *[256] * 20, 10], [0], **options)
        nets(x, tap=lambda place, layer, value: seen.__setitem__((place, layer), value.square().mean().item()))
        return (seen["h", 19] / seen["h", 1]) ** (1 / 36)  # per layer, of the size, not the square

    assert size(lrd.Ensemble, init=lrd.torch_default) == pytest.approx(6**-0.5, rel=0.1)
    assert size(lrd.Ensemble) == pytest.approx(1, abs=0.06)
    assert size(lrd.Skip) == pytest.approx(1, abs=0.06)


def test_a_miniature_run():
    rows = lrd.grid("bn", 2, [0.05, 0.5, 500.0], range(2), "cpu", width=16, steps=30, batch_size=32)
    assert [(row["rate"], row["seed"]) for row in rows] == [(r, s) for r in (0.05, 0.5, 500.0) for s in range(2)]
    errors = np.array([row["test_error"] for row in rows], dtype=float).reshape(3, 2)
    assert (errors[1] < 0.4).all()
    assert (np.nan_to_num(errors[2], nan=1) > 0.5).all()


def test_figures_draw_made_up_results():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    for draw in (lrd.plot, lrd.plot_best):
        figure = draw(made_up(he=(1.0, 0), bn=(10.0, 1.0)))
        figure.canvas.draw()
        plt.close(figure)
