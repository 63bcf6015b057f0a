"""The experiment on normalized inputs: its first layer against torch's, its data, its verdicts on made-up rows."""

import numpy as np
import pytest
import torch

from bnlab.experiments import Result
from bnlab.experiments import input_normalization as inputs


@pytest.mark.parametrize("affine", [True, False])
def test_first_layer_is_torchs_batch_norm(affine):
    torch.manual_seed(0)
    ensemble = inputs.InputNormalized((3, 5, 2), [4], affine=affine)
    layer = torch.nn.BatchNorm1d(3, affine=affine)
    if affine:
        with torch.no_grad():
            layer.weight.copy_(torch.rand(3) + 0.5)
            layer.bias.copy_(torch.randn(3))
            ensemble.first_gamma.copy_(layer.weight)
            ensemble.first_beta.copy_(layer.bias)

    def rest(x_hat):
        hidden = torch.relu(x_hat @ ensemble.weights[0][0] + ensemble.biases[0][0])
        return hidden @ ensemble.weights[1][0] + ensemble.biases[1][0]

    for _ in range(3):
        x = torch.tensor([1.0, 50.0, -3.0]) + torch.tensor([1.0, 20.0, 0.1]) * torch.randn(8, 3)
        torch.testing.assert_close(ensemble(x[None])[0], rest(layer(x)))
    for stored, theirs in zip(ensemble.running, (layer.running_mean, layer.running_var), strict=True):
        torch.testing.assert_close(stored[0, 0], theirs)
    ensemble.first = ensemble.running
    torch.testing.assert_close(ensemble(x[None], training=False)[0], rest(layer.eval()(x)))
    assert len(ensemble.parameters) == 4 + 2 * affine


def test_calibrated_first_layer_is_a_standard_scaler():
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal([1, 50, -3], [1, 20, 2], size=(40, 3)).astype(np.float32)
    scaled = torch.tensor(StandardScaler().fit_transform(x))
    first = inputs.InputNormalized((3, 5, 2), [4], affine=False)
    bare = inputs.Ensemble((3, 5, 2), [4])
    before = first.running
    first.calibrate(torch.tensor(x))
    assert first.running is before  # calibration is not a training batch
    torch.testing.assert_close(first(torch.tensor(x), training=False), bare(scaled), atol=1e-4, rtol=1e-4)


def test_hidden_running_statistics_are_torchs():
    torch.manual_seed(0)
    norm, layer = inputs._Watched(), torch.nn.BatchNorm1d(4)
    for _ in range(3):
        z = 3 + torch.randn(6, 4)
        layer(z)
        norm.statistics(z[None], 0)
    ((mean, var),) = norm.running
    torch.testing.assert_close(mean[0, 0], layer.running_mean)
    torch.testing.assert_close(var[0, 0], layer.running_var)


@pytest.mark.parametrize("table", inputs.TABLES)
def test_standardized_inputs_use_the_training_part_only(table):
    data, test_x, test_y = inputs.prepare(table, "standardized", 0)
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(data.x_train.std(axis=0), 1, atol=1e-3)
    assert np.abs(test_x.mean(axis=0)).max() > 0.01  # not standardized by itself
    share = np.array([len(data.x_train), len(data.x_test), len(test_x)]) / (
        len(data.x_train) + len(data.x_test) + len(test_x)
    )
    np.testing.assert_allclose(share, [0.6, 0.2, 0.2], atol=0.02)
    assert len(test_x) == len(test_y)
    assert set(data.y_train) == set(data.y_test) == set(test_y) == set(range(len(data.classes)))


def test_arms_of_a_seed_share_split_and_seeds_do_not():
    raw, raw_test, y = inputs.prepare("wine", "raw", 0)
    standardized, standardized_test, same_y = inputs.prepare("wine", "standardized", 0)
    mu, sd = raw.x_train.mean(axis=0), raw.x_train.std(axis=0)
    np.testing.assert_allclose((raw_test - mu) / sd, standardized_test, atol=1e-3)
    np.testing.assert_array_equal(y, same_y)
    np.testing.assert_array_equal(raw.y_train, standardized.y_train)
    assert not np.array_equal(inputs.prepare("wine", "raw", 1)[1], raw_test)


def test_one_factor_keeps_the_ratios():
    raw, one = (inputs.prepare("cells", arm, 0)[0].x_train for arm in ("raw", "one factor"))
    ratio = raw[raw > 0] / one[raw > 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert np.sqrt((one.astype(float) ** 2).mean()) == pytest.approx(1, rel=1e-3)


def test_digits_get_a_unit_per_pixel():
    raw = inputs.prepare("digits", "raw", 0)[0].x_train
    spread = raw.std(axis=0)
    assert spread.max() / spread.min() > 1e3


def test_shift_changes_a_third_of_the_features_in_every_arm_alike():
    shifted = {}
    for arm in ("raw", "standardized"):
        _, test_x, _ = inputs.prepare("cells", arm, 3)
        changed = np.abs(inputs.shift("cells", arm, 3) - test_x).max(axis=0) > 1e-3 * test_x.std(axis=0)
        shifted[arm] = changed
    np.testing.assert_array_equal(shifted["raw"], shifted["standardized"])
    assert 3 <= shifted["raw"].sum() <= 17  # of 30, one third expected


@pytest.mark.parametrize(("table", "arm"), [("sheep", "raw"), ("wine", "cooked")])
def test_unknown_names(table, arm):
    with pytest.raises(ValueError, match="give one of"):
        inputs.prepare(table, arm, 0)


@pytest.mark.parametrize("arm", inputs.ARMS)
def test_miniature_run(arm):
    rows = inputs.measure("wine", arm, 16, seeds=[0, 1], steps=4, every=2, learning_rates=[1e-4, 0.01])
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        for column in ("error", "error_precise", "error_shifted", "error_refitted"):
            assert 0 <= row[column] <= 1
        assert row["learning_rate"] in (1e-4, 0.01) and row["inside"] is False
        assert row["validation_loss"] > 0


def test_standardizing_is_what_makes_the_difference():
    errors = {}
    for arm in ("one factor", "standardized", "BN first"):
        rows = inputs.measure("wine", arm, 32, seeds=[0, 1, 2], steps=60, every=30, learning_rates=[0.03, 0.1, 0.3])
        errors[arm] = np.median([row["error_precise"] for row in rows])
    assert errors["one factor"] > errors["standardized"] + 0.05
    assert abs(errors["BN first"] - errors["standardized"]) < 0.1


def made_up(first, inside, small):
    """A result of five seeds; the gaps to standardized inputs in points: per table, per table, at batch size 2."""
    rows = []

    def add(table, arm, size, error):
        rows.extend(
            {"table": table, "arm": arm, "batch_size": size, "seed": seed, "error": error + 0.001 * seed}
            for seed in range(5)
        )

    for table, gap, gap_inside in zip(inputs.TABLES, first, inside, strict=True):
        add(table, "standardized", 32, 0.05)
        add(table, "BN first", 32, 0.05 + gap / 100)
        add(table, "BN inside", 32, 0.05 + gap_inside / 100)
    add("digits", "standardized", 2, 0.05)
    add("digits", "BN first", 2, 0.05 + small / 100)
    return Result("input_normalization", "small", "cpu", list(range(5)), {}, rows, 0.0)


@pytest.mark.parametrize(
    ("first", "inside", "small", "word"),
    [
        ((0, 1, -1), (0, 0, 1), 0, "holds"),
        ((0, 1, -1), (0, 0, 1), 20, "conditions"),
        ((0, 1, -1), (0, 30, 1), 0, "conditions"),
        ((0, 5, -1), (0, 0, 1), 0, "conditions"),
        ((5, 5, -1), (0, 0, 1), 0, "refuted"),
    ],
)
def test_verdicts(first, inside, small, word):
    (verdict,) = inputs.verdicts(made_up(first, inside, small))
    assert (verdict.claim, verdict.verdict) == ("C17", word)
    assert verdict.number.median == pytest.approx(np.mean(first), abs=1e-9)


def test_a_diverged_network_counts_as_all_wrong():
    result = made_up((0, 0, 0), (0, 0, 0), 0)
    for row in result.select(arm="BN first", table="wine"):
        row["error"] = float("nan")
    assert np.median(inputs.difference(result, "BN first", "wine")) == pytest.approx(94.8)


def test_plots():
    plt = pytest.importorskip("matplotlib.pyplot")
    rows = []
    for table in inputs.TABLES:
        for arm in inputs.ARMS:
            for size in (2, 32):
                rows.append({"table": table, "arm": arm, "batch_size": size, "error": 0.1, "error_precise": 0.1})
    result = Result("input_normalization", "small", "cpu", [0], {}, rows, 0.0)
    assert len(inputs.plot(result).axes) == 3
    assert len(inputs.plot_batches(result).axes[0].lines) == 3
    plt.close("all")
