"""The experiments behind C01, C02, C12, C13, C14, C21, C23: what they measure; every verdict can come out."""

import numpy as np
import pytest

from bnlab.experiments import Result, feature_scaling, scaling_choice, transform_ablation, transform_anatomy


def made_up(name, rows):
    return Result(name, "small", "cpu", list(range(5)), {}, rows, 0.0)


# --- C01 -------------------------------------------------------------------------------------------------------------


def test_feature_scaling_measures_what_the_library_function_measures():
    result = feature_scaling.run(seeds=[3])
    X, y = feature_scaling.two_scales(3)
    by_hand = feature_scaling.measure(feature_scaling.scale(X, "standardized"), y)
    (row,) = result.select(scaling="standardized")
    assert row["steps"] == by_hand.steps and row["adam_steps"] == by_hand.adam_steps


@pytest.mark.parametrize(
    "raw, adam, verdict", [(20, 15, "holds"), (2000, 15, "conditions"), (20, 0.5, "conditions"), (1, 1, "refuted")]
)
def test_c01(raw, adam, verdict):
    rows = [
        {"scaling": name, "high": 1000, "seed": k, "steps": steps, "adam_steps": a}
        for name, steps, a in (("raw", raw, adam), ("standardized", 1, 1))
        for k in range(5)
    ]
    (judged,) = feature_scaling.verdicts(made_up("feature_scaling", rows))
    assert (judged.claim, judged.verdict, judged.number.median) == ("C01", verdict, raw)


# --- C02 -------------------------------------------------------------------------------------------------------------


def test_an_outlier_leaves_what_arithmetic_says():
    """Min-max: all others keep their spread times old range over new range."""
    row = scaling_choice._measure("wine", "min-max", seed=0, splits=1)
    from sklearn.datasets import load_wine

    x = load_wine().data
    victim = np.random.default_rng(0).integers(len(x))
    others = np.delete(x, victim, axis=0)
    wrong = 10 * np.abs(x).max(axis=0)
    left = np.ptp(x, axis=0) / (wrong - others.min(axis=0))
    assert row["spread_left"] == pytest.approx(np.median(left))


@pytest.mark.parametrize(
    "left, gap, verdict", [(3.0, 0.05, "holds"), (3.0, 0.001, "conditions"), (1.0, 0.05, "refuted")]
)
def test_c02(left, gap, verdict):
    rows = [
        {"table": table, "scaling": scaling, "seed": k, "spread_left": s, "neighbors": accuracy, "svm": 0.9}
        for table in ("wine", "cancer")
        for scaling, s, accuracy in (("min-max", 0.1, 0.9), ("standardized", 0.1 * left, 0.9 + gap))
        for k in range(5)
    ]
    (judged,) = scaling_choice.verdicts(made_up("scaling_choice", rows))
    assert (judged.claim, judged.verdict) == ("C02", verdict)


# --- C12, C14, C21 ---------------------------------------------------------------------------------------------------


def test_dividing_by_the_variance_turns_the_spread_upside_down():
    """A channel with deviation s comes out with 1 / s, so the ratio between channels stays what it was."""
    result = transform_anatomy.run(seeds=[0])
    np.testing.assert_allclose(result.column("spread_after_var"), result.column("spread_in"), rtol=1e-9)
    np.testing.assert_allclose(result.column("spread_after_std"), 1, atol=1e-6)
    images = [row for row in result.rows if "shift_per_channel" in row]
    assert len(images) == 3 and max(row["shift_per_channel"] for row in images) < 1e-9
    assert min(row["shift_per_position"] for row in images) > 0.1


def test_c12_c14_c21_can_be_refuted():
    result = transform_anatomy.run(seeds=[0])
    assert {v.claim: v.verdict for v in transform_anatomy.verdicts(result)} == dict.fromkeys(
        ("C12", "C14", "C21"), "holds"
    )
    for row in result.rows:
        row.update(spread_after_std=2.0, parameters=3 * 32, table_difference=0.1)
    verdicts = {v.claim: v.verdict for v in transform_anatomy.verdicts(result)}
    assert verdicts == dict.fromkeys(("C12", "C14", "C21"), "refuted")


# --- C13, C23 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "relu, sigmoid, start, c13, c23",
    [
        (2.0, 2.0, 1.0, "holds", "holds"),
        (1.0, 2.0, 2.0, "conditions", "conditions"),
        (1.0, 1.0, np.inf, "refuted", "refuted"),
    ],
)
def test_c13_and_c23(relu, sigmoid, start, c13, c23):
    rows = []
    for k in range(5):
        for activation, factor in (("relu", relu), ("sigmoid", sigmoid)):
            for arm, loss in (("gamma and beta", 1.0), ("neither", factor)):
                rows.append({"arm": arm, "activation": activation, "depth": 3, "seed": k, "train_loss": loss})
        for arm, steps in (("gamma and beta", 50), ("statistics of the start", 50 * start)):
            rows.append({"arm": arm, "activation": "relu", "depth": 6, "seed": k, "steps": steps})
    verdicts = {v.claim: v.verdict for v in transform_ablation.verdicts(made_up("transform_ablation", rows))}
    assert verdicts == {"C13": c13, "C23": c23}
