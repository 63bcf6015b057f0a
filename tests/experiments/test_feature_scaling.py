"""bnlab.experiments.feature_scaling against step-by-step descent, scikit-learn, torch and theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from bnlab.experiments import feature_scaling as fs

SMALL = ((0, 1), (1, 10))  # badly scaled, but quick to descend step by step
AFFINE = (*fs.SCALINGS, "robust", "whitened")


# --- data and scalings -----------------------------------------------------------------------------------------------


def test_two_scales_fills_the_ranges_and_is_reproducible():
    X, y = fs.two_scales(3, m=5000)
    assert X.shape == (5000, 2) and y.shape == (5000,)
    assert_allclose(X.min(axis=0), [0, 1], atol=1)
    assert_allclose(X.max(axis=0), [1, 1000], rtol=5e-3)
    again, y_again = fs.two_scales(3, m=5000)
    assert (X == again).all() and (y == y_again).all()
    assert not (y == fs.two_scales(4, m=5000)[1]).any()


def test_two_scales_gives_both_features_the_same_importance_on_average():
    # Least squares on the standardized features recovers the coefficients: N(0, 1), whatever the range.
    found = []
    for seed in range(200):
        X, y = fs.two_scales(seed)
        found.append(np.linalg.lstsq(fs.with_bias(fs.scale(X, "standardized")), y, rcond=None)[0])
    assert_allclose(np.std(found, axis=0), 1, atol=0.2)


def test_scale_agrees_with_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    decomposition = pytest.importorskip("sklearn.decomposition")
    X = np.random.default_rng(0).lognormal(size=(40, 3)) * [1, 10, 1000]
    assert_allclose(fs.scale(X, "min-max"), preprocessing.MinMaxScaler().fit_transform(X), atol=1e-12)
    assert_allclose(fs.scale(X, "standardized"), preprocessing.StandardScaler().fit_transform(X), atol=1e-12)
    assert_allclose(fs.scale(X, "robust"), preprocessing.RobustScaler().fit_transform(X), atol=1e-12)
    assert_allclose(fs.scale(X, "centered"), preprocessing.StandardScaler(with_std=False).fit_transform(X), atol=1e-9)
    assert_allclose(fs.scale(X, "scaled"), preprocessing.StandardScaler(with_mean=False).fit_transform(X), atol=1e-12)
    # Whitening is unique up to order and sign of the directions; PCA divides by m - 1 and starts with the largest.
    ours = fs.scale(X, "whitened")[:, ::-1]
    theirs = decomposition.PCA(whiten=True).fit_transform(fs.scale(X, "standardized")) * np.sqrt(40 / 39)
    assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-9)


def test_scale_leaves_its_input_alone():
    X, _ = fs.two_scales(0)
    before = X.copy()
    for scaling in AFFINE:
        fs.scale(X, scaling)
    assert (X == before).all()


@pytest.mark.parametrize("scaling", ["scaled", "min-max", "standardized", "robust", "whitened"])
@pytest.mark.parametrize("constant", [0.1, 0.3, 5.0, 0.0])  # 0.1: the computed standard deviation isn't exactly 0
def test_scale_refuses_constant_columns(scaling, constant):
    X = np.random.default_rng(0).normal(size=(100, 3))
    X[:, 1] = constant
    with pytest.raises(ValueError, match=r"columns \[1\] have none: drop them"):
        fs.scale(X, scaling)


def test_scale_names_the_choices_and_dependent_features():
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match=r"unknown scaling 'zscore': choose one of .*'standardized'"):
        fs.scale(X, "zscore")
    for wrong in (X[0], np.where(X == X[3, 1], np.nan, X)):
        with pytest.raises(ValueError, match="give a table of finite numbers"):
            fs.scale(wrong, "standardized")
    with pytest.raises(ValueError, match="linearly independent"):
        fs.scale(np.column_stack([X, X @ [1, 2]]), "whitened")


# --- the loss, its Hessian and gradient descent ----------------------------------------------------------------------


@pytest.mark.parametrize("scaling", AFFINE)
def test_a_scaling_changes_neither_the_first_nor_the_best_loss(scaling):
    X, y = fs.two_scales(1)
    ends = []
    for features in (X, fs.scale(X, scaling)):
        best = np.linalg.lstsq(fs.with_bias(features), y, rcond=None)[0]
        ends.append([fs.loss(features, y, np.zeros(3)), fs.loss(features, y, best)])
    assert_allclose(ends[1], ends[0], rtol=1e-9)


def test_hessian_is_the_second_derivative_of_the_loss():
    X, y = fs.two_scales(0, m=30, ranges=SMALL)
    w, h, eye = np.array([0.3, -0.2, 0.1]), 1e-3, np.eye(3)
    second = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            corners = [a * b * fs.loss(X, y, w + h * (a * eye[i] + b * eye[j])) for a, b in signs]
            second[i, j] = sum(corners) / (4 * h * h)
    assert_allclose(fs.hessian(X), second, rtol=1e-6)


def test_condition_number_is_the_squared_ratio_of_singular_values():
    X, _ = fs.two_scales(0)
    s = np.linalg.svd(fs.with_bias(X), compute_uv=False)
    assert_allclose(fs.condition_number(X), (s[0] / s[-1]) ** 2, rtol=1e-6)
    assert fs.condition_number(np.column_stack([X, X[:, 0] - X[:, 1]])) == np.inf
    assert_allclose(fs.condition_number(fs.scale(X, "whitened")), 1, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 0.5, 10.0])
def test_condition_number_of_one_feature_follows_from_its_mean(offset):
    x = offset + fs.scale(np.random.default_rng(0).normal(size=(100, 1)), "standardized")
    t = 2 + offset**2  # trace of [[1, offset], [offset, 1 + offset^2]], whose determinant is 1
    assert_allclose(fs.condition_number(x), ((t + np.sqrt(t * t - 4)) / 2) ** 2, rtol=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.9, -0.99])
def test_condition_number_of_two_standardized_features_follows_from_their_correlation(rho):
    Z = fs.scale(np.random.default_rng(0).normal(size=(100, 2)), "whitened")
    X = np.column_stack([Z[:, 0], rho * Z[:, 0] + np.sqrt(1 - rho**2) * Z[:, 1]])
    assert_allclose(fs.condition_number(X), (1 + abs(rho)) / (1 - abs(rho)), rtol=1e-6)


def test_descend_takes_torch_sgd_steps():
    torch = pytest.importorskip("torch")
    X, y = fs.two_scales(2, m=40, ranges=SMALL)
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.02)
    A, target = torch.tensor(fs.with_bias(X)), torch.tensor(y)
    path = fs.descend(X, y, 0.02, 50)
    for k in range(51):
        assert_allclose(path[k], w.detach().numpy(), rtol=1e-9, atol=1e-12)
        optimizer.zero_grad()
        (((A @ w - target) ** 2).mean() / 2).backward()
        optimizer.step()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    scaling=st.sampled_from(AFFINE),
    edge=st.floats(0.2, 1.95),
    fraction=st.sampled_from([0.1, 0.01, 1e-3]),
)
def test_steps_to_target_counts_the_steps_that_descend_takes(seed, scaling, edge, fraction):
    X, y = fs.two_scales(seed, m=30, ranges=SMALL)
    X = fs.scale(X, scaling)
    rate = edge / np.linalg.eigvalsh(fs.hessian(X))[-1]
    steps = int(fs.steps_to_target(X, y, rate, fraction))
    path = fs.descend(X, y, rate, min(steps, 20_000))
    best = fs.loss(X, y, np.linalg.lstsq(fs.with_bias(X), y, rcond=None)[0])
    left = (fs.loss(X, y, path) - best) / (fs.loss(X, y, path[0]) - best)
    if steps > 20_000:
        assert left.min() > fraction
    else:
        assert left[steps] <= fraction * (1 + 1e-6)
        assert (left[:steps] > fraction * (1 - 1e-6)).all()


def test_steps_to_target_is_infinite_exactly_where_descent_diverges():
    X, y = fs.two_scales(0, ranges=SMALL)
    limit = 2 / np.linalg.eigvalsh(fs.hessian(X))[-1]
    steps = fs.steps_to_target(X, y, [0.999 * limit, 1.001 * limit])
    assert np.isfinite(steps[0]) and steps[1] == np.inf
    path = fs.loss(X, y, fs.descend(X, y, 1.001 * limit, 20_000)[[0, 10_000, 20_000]])
    assert path[2] > path[1] > path[0]


def test_steps_to_target_bears_dependent_features():
    X, y = fs.two_scales(0, ranges=SMALL)
    X = np.column_stack([X, X[:, 0] + X[:, 1], np.zeros(len(X))])
    steps, rate = fs.best_steps(X, y)
    best = fs.loss(X, y, np.linalg.lstsq(fs.with_bias(X), y, rcond=None)[0])
    losses = fs.loss(X, y, fs.descend(X, y, rate, int(steps)))
    assert losses[-1] - best <= 1e-3 * (losses[0] - best) * (1 + 1e-6) < losses[-2] - best


@pytest.mark.parametrize("scaling", AFFINE)
@pytest.mark.parametrize("seed", range(3))
def test_best_steps_keeps_the_bound_of_theory_and_beats_a_wide_sweep(seed, scaling):
    X, y = fs.two_scales(seed)
    X = fs.scale(X, scaling)
    steps, rate = fs.best_steps(X, y)
    kappa = fs.condition_number(X)
    # With 2/(L + mu) every coordinate of the error shrinks at least by (kappa - 1)/(kappa + 1) per step.
    per_step = np.log1p(2 / (kappa - 1)) if kappa > 1 + 1e-9 else np.inf
    assert steps <= np.ceil(np.log(1e3) / (2 * per_step)) + (kappa < 1 + 1e-9)
    wide = fs.steps_to_target(X, y, 10.0 ** np.arange(-12, 2, 1 / 8))
    assert steps <= wide.min()
    assert fs.steps_to_target(X, y, rate) == steps


def test_adam_steps_agrees_with_torch():
    torch = pytest.importorskip("torch")
    X, y = fs.two_scales(5, m=50, ranges=SMALL)
    steps, rate = fs.adam_steps(X, y, fs.ADAM_LEARNING_RATES)
    A, target = torch.tensor(fs.with_bias(X)), torch.tensor(y)
    best = fs.loss(X, y, np.linalg.lstsq(fs.with_bias(X), y, rcond=None)[0])
    start = fs.loss(X, y, np.zeros(3))
    arrivals = []
    for lr in fs.ADAM_LEARNING_RATES:
        w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([w], lr=lr)
        for k in range(int(steps) + 1):
            value = ((A @ w - target) ** 2).mean() / 2
            if value.item() - best <= 1e-3 * (start - best):
                arrivals.append((k, lr))
                break
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert min(arrivals)[0] == steps
    assert (steps, rate) in arrivals


def test_adam_steps_gives_up():
    X, y = fs.two_scales(0)
    steps, rate = fs.adam_steps(X, y, [1e-6], max_steps=10)
    assert steps == np.inf and np.isnan(rate)


def test_seconds_per_step_is_a_time():
    X, y = fs.two_scales(0, m=8)
    assert 0 < fs.seconds_per_step(X, y, steps=10, repeats=2) < 1


# --- the experiment --------------------------------------------------------------------------------------------------


def test_spread_is_median_and_extremes_and_bears_infinities():
    assert fs.Spread.of([3, 1, 2]) == fs.Spread(2, 1, 3)
    assert fs.Spread.of([1, np.inf, np.inf]) == fs.Spread(np.inf, 1, np.inf)
    assert f"{fs.Spread.of([1.26, 1.24, 9]):.1f}" == "1.3 (1.2 to 9.0)"
    assert f"{fs.Spread.of([np.inf, np.inf]):.1f}" == "not reached"


def test_run_finds_what_the_chapter_says():
    result = fs.compare(seeds=range(5))
    assert result.kappa("raw").low > 1e6 and result.kappa("standardized").high < 1.5
    assert 20 < result.kappa("min-max").low and result.kappa("min-max").high < 50
    medians = [result.steps(s).median for s in ("raw", "centered", "scaled", "min-max", "standardized")]
    assert medians == sorted(medians, reverse=True)
    assert result.speedup("raw", "standardized").low > 1e5
    # Adam suffers too, but by orders of magnitude less.
    assert 3 < result.speedup("raw", "standardized", "adam").low
    assert result.speedup("raw", "standardized", "adam").high < 100


def test_run_is_reproducible_and_adam_is_optional():
    first, second = (fs.compare(seeds=[7], scalings=["min-max"], ranges=SMALL, adam=False) for _ in range(2))
    assert first.seeds == (7,) and first.ranges == SMALL and list(first.arms) == ["min-max"]
    assert (first.arms["min-max"].steps == second.arms["min-max"].steps).all()
    assert np.isnan(first.adam_steps("min-max").median)


# --- the network -----------------------------------------------------------------------------------------------------


def blobs(seed=0, m=60):
    rng = np.random.default_rng(seed)
    labels = np.arange(m) % 3
    X = rng.normal(size=(m, 4)) + 2 * np.eye(4)[labels]
    return X * [1, 1, 100, 1], labels


@pytest.mark.parametrize("optimizer", ["gradient descent", "adam"])
def test_train_network_agrees_with_torch(optimizer):
    torch = pytest.importorskip("torch")
    X, labels = blobs()
    X = fs.scale(X, "standardized")
    rates = np.array([0.01, 0.1])
    rate, steps, losses = fs.train_network(
        X, labels, optimizer, seed=4, target=1e-9, max_steps=40, learning_rates=rates
    )
    assert rate == 0.1 and steps == np.inf and losses.shape == (41,)

    rng = np.random.default_rng(4)
    W1 = rng.normal(size=(16, 4)) * np.sqrt(2) / np.sqrt((X**2).sum(axis=1).mean())
    W2 = rng.normal(size=(3, 16)) / 4
    parameters = [torch.tensor(p, requires_grad=True) for p in (W1, np.zeros(16), W2, np.zeros(3))]
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    theirs, update = [], kind(parameters, lr=rate)
    inputs, targets = torch.tensor(X), torch.tensor(labels)
    for _ in range(41):
        hidden = torch.relu(inputs @ parameters[0].T + parameters[1])
        value = torch.nn.functional.cross_entropy(hidden @ parameters[2].T + parameters[3], targets)
        theirs.append(value.item())
        update.zero_grad()
        value.backward()
        update.step()
    assert_allclose(losses, theirs, rtol=1e-9)


def test_run_network_scales_the_training_examples_and_stops_at_the_target():
    X, labels = blobs()
    arms = fs.run_network(X, labels, seeds=range(2), m=45, max_steps=300, optimizers=("adam",))
    assert list(arms) == [(s, "adam") for s in ("raw", "min-max", "standardized")]
    arm = arms["standardized", "adam"]
    for seed, (steps, losses) in enumerate(zip(arm.steps, arm.losses, strict=True)):
        assert len(losses) == steps + 1
        assert losses[-1] <= 0.1 < losses[:-1].min()
        chosen = np.random.default_rng(seed).choice(len(X), 45, replace=False)
        again = fs.train_network(fs.scale(X[chosen], "standardized"), labels[chosen], "adam", seed, max_steps=300)
        assert again[:2] == (arm.learning_rate[seed], steps)


def test_train_network_reports_a_run_that_never_arrives_and_survives_divergence():
    X, labels = blobs()
    rates = np.array([1e-9, 1e6])
    rate, steps, losses = fs.train_network(X, labels, "gradient descent", 0, max_steps=20, learning_rates=rates)
    assert rate == 1e-9 and steps == np.inf and np.isfinite(losses).all()


def test_train_network_names_the_optimizers():
    X, labels = blobs()
    with pytest.raises(ValueError, match="unknown optimizer 'sgd': choose"):
        fs.train_network(X, labels, "sgd", 0)
