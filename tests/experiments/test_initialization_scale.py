"""Scale invariance is exact; the sweep in miniature; every verdict reachable."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bnlab.ensemble import Ensemble  # noqa: E402
from bnlab.experiments import Result  # noqa: E402
from bnlab.experiments import initialization_scale as scale  # noqa: E402


@given(gain=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_without_eps_output_and_gradient_follow_the_algebra(gain, seed):
    row = scale.invariance(gain, eps=1e-30, seed=seed)
    assert row["output"] < 1e-11 and row["gradient"] < 1e-11 and row["radial"] < 1e-12


def test_eps_acts_as_if_divided_by_the_square_of_the_gain():
    for gain in (1e-3, 0.1, 10.0):
        row = scale.invariance(gain, eps=1e-3)
        assert row["explained"] < 1e-12
        assert row["output"] > 1e-6  # so the line above isn't true for lack of an effect
    assert scale.invariance(1e-3, eps=1e-5)["radial"] > 1e-3


def test_powers_of_two_change_no_bit():
    row = scale.invariance(2.0**7, eps=1e-30)
    assert row["output"] == row["gradient"] == 0


def test_last_layer_arm_scales_nothing_else():
    plain = Ensemble([5, 4, 4, 3], [0, 0])
    networks = scale._networks("bn, last layer", [5, 4, 4, 3], [1.0, 100.0], [0, 0], "cpu")
    assert torch.equal(networks.weights[0], plain.weights[0])
    assert torch.allclose(networks.weights[-1][1], 100 * plain.weights[-1][1])


@pytest.fixture(scope="module")
def miniature():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scale.BUDGETS, "small", {"hidden": [16] * 2, "steps": 25, "gains_per_decade": 1})
        patch.setattr(scale, "COARSE", [1e-2, 1e-1, 1.0])
        return scale.run(seeds=[0, 1])


def test_miniature_run(miniature):
    gains = miniature.settings["gains"]
    assert gains == [1e-3, 1e-2, 0.1, 1, 10, 100, 1000]
    assert len(miniature.rows) == len(scale.ARMS) * len(gains) * 2 * 2
    for arm in scale.ARMS:
        own = miniature.select(arm=arm, mode="own", gain=1.0)[0]["learning_rate"]
        assert set(miniature.column("learning_rate", arm=arm, mode="one")) == {own}
    scale.plot(miniature)
    scale.plot_norms(miniature)


def test_weights_before_bn_only_grow_and_the_first_gradient_goes_with_one_over_gain(miniature):
    rows = {row["gain"]: row for row in miniature.select(arm="bn, eps 0", mode="one", seed=0)}
    for gain, row in rows.items():
        assert all(np.diff(row["norm"]) > -1e-6 * max(row["norm"]))
        assert row["norm"][0] == pytest.approx(gain, rel=1e-4)
        assert row["gradient"] * gain == pytest.approx(rows[1.0]["gradient"], rel=0.02)
    assert rows[1000.0]["turned"] < 0.01 < rows[1.0]["turned"]


def made_up(bn, plain):
    """Rows in which an arm trains at the gains given, for (one, own)."""
    gains = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3]
    rows = [
        {"arm": arm, "mode": mode, "gain": gain, "seed": seed, "test_error": 0.02 if gain in good else 0.9}
        for arm, modes in (("bn", bn), ("plain", plain))
        for mode, good in zip(("one", "own"), modes, strict=True)
        for gain in gains
        for seed in (0, 1)
    ]
    return Result("initialization_scale", "small", "cpu", [0, 1], {"gains": gains, "target": 0.05}, rows, 0.0)


ALL = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3]


@pytest.mark.parametrize(
    ("bn", "plain", "verdict"),
    [
        ((ALL, ALL), ([1.0], [1.0, 10.0]), "holds"),
        ((ALL[:5], ALL), ([1.0], [1.0]), "conditions"),
        ((ALL, ALL), ([1.0], ALL), "conditions"),
        (([1.0], ALL), ([1.0], [1.0]), "refuted"),
        (([], ALL), ([1.0], [1.0]), "refuted"),
    ],
)
def test_verdicts(bn, plain, verdict):
    result = made_up(bn, plain)
    if not bn[0]:  # a seed that misses the target everywhere is no evidence of a wide range
        assert np.isnan(scale.width(result, "bn", "one")).all()
    (found,) = scale.verdicts(result)
    assert (found.claim, found.verdict) == ("C08", verdict)


def test_width_is_the_unbroken_stretch():
    result = made_up(([1e-3, 0.1, 1.0, 10.0], ALL), ([1.0], [1.0]))
    assert scale.width(result, "bn", "one").tolist() == pytest.approx([2, 2])
    assert scale.width(result, "bn", "own")[0] == pytest.approx(math.log10(1e6))
