"""bnlab.reference against float64 torch, exact sums, finite differences and the properties the paper implies."""

import doctest
import math
import subprocess
import sys
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bnlab import reference
from bnlab.moments import merge, two_pass, welford
from bnlab.reference import (
    RunningStatistics,
    batch_norm_backward,
    batch_norm_backward_staged,
    batch_norm_forward,
)

EPS = 1e-5
SHAPES = [(6, 3), (4, 3, 5), (3, 3, 2, 4), (2, 3, 2, 3, 2), (2, 3, 2, 1, 2, 2)]
BACKWARDS = [batch_norm_backward, batch_norm_backward_staged]

properties = settings(max_examples=60, derandomize=True)


class Case:
    """A batch whose channels differ in mean and scale, with gamma, beta and dy that mask nothing by being 0 or 1."""

    def __init__(self, shape=(4, 3, 5), seed=0):
        rng = np.random.default_rng(seed)
        channels = shape[1]
        per_channel = (channels,) + (1,) * (len(shape) - 2)
        self.x = rng.normal(size=shape) * rng.uniform(0.5, 4, per_channel) + rng.uniform(-5, 5, per_channel)
        self.gamma = rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
        self.beta = rng.normal(size=channels)
        self.dy = rng.normal(size=shape)
        self.running = RunningStatistics(channels)
        self.running.mean = rng.normal(size=channels)
        self.running.var = rng.uniform(0.5, 3, channels)
        self.axes = (0, *range(2, len(shape)))

    def channels_last(self, a):
        return np.moveaxis(a, 1, -1).reshape(-1, self.x.shape[1])


cases = st.builds(Case, st.sampled_from(SHAPES), st.integers(0, 2**32 - 1))


def torch_forward_backward(case, training, gamma, beta):
    """y, dx, dgamma, dbeta from torch, in float64."""
    inputs = [None if a is None else torch.tensor(a, requires_grad=True) for a in (case.x, gamma, beta)]
    x, weight, bias = inputs
    running = (None, None) if training else (torch.tensor(case.running.mean), torch.tensor(case.running.var))
    y = F.batch_norm(x, *running, weight, bias, training=training, eps=EPS)
    y.backward(torch.tensor(case.dy))
    return [y.detach().numpy(), *(None if a is None else a.grad.numpy() for a in inputs)]


def assert_close(actual, desired, tol=1e-11):
    if desired is None:
        assert actual is None
    else:
        np.testing.assert_allclose(actual, desired, rtol=tol, atol=tol)


# Against other arithmetic


def test_two_values_by_hand():
    """mu = 2, var = 1, eps = 3: every number is exact, so nothing hides in a tolerance."""
    y, cache = batch_norm_forward(np.array([[1.0], [3.0]]), np.array([4.0]), np.array([1.0]), eps=3.0)
    assert y.tolist() == [[-1.0], [3.0]]
    assert (cache.mu, cache.var, cache.inv_std, cache.m) == ([2.0], [1.0], [0.5], 2)
    assert cache.x_hat.tolist() == [[-0.5], [0.5]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parameters", ["gamma beta", "gamma", "beta", ""])
def test_forward_and_backward_agree_with_torch_in_float64(shape, training, parameters):
    case = Case(shape)
    gamma = case.gamma if "gamma" in parameters else None
    beta = case.beta if "beta" in parameters else None
    y, dx, dgamma, dbeta = torch_forward_backward(case, training, gamma, beta)
    ours, cache = batch_norm_forward(case.x, gamma, beta, running=case.running, training=training, eps=EPS)
    assert_close(ours, y)
    for backward in BACKWARDS:
        gradients = backward(case.dy, cache)
        assert_close(gradients.dx, dx)
        assert_close(gradients.dgamma, dgamma)
        assert_close(gradients.dbeta, dbeta)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backward", BACKWARDS)
def test_backward_agrees_with_finite_differences(training, backward):
    case = Case((3, 2, 2))

    def loss(x, gamma, beta):
        y, _ = batch_norm_forward(x, gamma, beta, running=case.running, training=training, eps=EPS)
        return float((y * case.dy).sum())

    inputs = [case.x, case.gamma, case.beta]
    _, cache = batch_norm_forward(*inputs, running=case.running, training=training, eps=EPS)
    h = 1e-5
    for position, gradient in enumerate(backward(case.dy, cache)[:3]):
        for index in np.ndindex(gradient.shape):
            plus, minus = [a.copy() for a in inputs], [a.copy() for a in inputs]
            plus[position][index] += h
            minus[position][index] -= h
            assert gradient[index] == pytest.approx((loss(*plus) - loss(*minus)) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_every_stage_agrees_with_autograd(shape, training):
    case = Case(shape)
    axes, per_channel = case.axes, (-1,) + (1,) * (len(shape) - 2)
    nodes = {}

    def node(name, value):
        if value.is_leaf:
            value.requires_grad_()
        value.retain_grad()
        nodes[name] = value
        return value

    x = node("x", torch.tensor(case.x))
    gamma, beta = node("gamma", torch.tensor(case.gamma)), node("beta", torch.tensor(case.beta))
    mu = node("mu", x.mean(axes) if training else torch.tensor(case.running.mean))
    centered = node("centered", x - mu.reshape(per_channel))
    var = node("var", centered.square().mean(axes) if training else torch.tensor(case.running.var))
    inv_std = node("inv_std", (var + EPS) ** -0.5)
    x_hat = node("x_hat", centered * inv_std.reshape(per_channel))
    (gamma.reshape(per_channel) * x_hat + beta.reshape(per_channel)).backward(torch.tensor(case.dy))

    _, cache = batch_norm_forward(case.x, case.gamma, case.beta, running=case.running, training=training, eps=EPS)
    gradients = batch_norm_backward_staged(case.dy, cache)
    assert {"d" + name for name in nodes} == set(gradients._fields)
    for name, value in nodes.items():
        assert_close(getattr(gradients, "d" + name), value.grad.numpy())


@properties
@given(case=cases, training=st.booleans())
def test_staged_and_simplified_backward_agree(case, training):
    _, cache = batch_norm_forward(case.x, case.gamma, case.beta, running=case.running, training=training)
    staged, simplified = batch_norm_backward_staged(case.dy, cache), batch_norm_backward(case.dy, cache)
    for name in simplified._fields:
        assert_close(getattr(staged, name), getattr(simplified, name))


# Precision


@pytest.mark.parametrize(("dtype", "mean", "std"), [(np.float32, 1e4, 1), (np.float16, 1000, 30), (np.float64, 1e4, 1)])
@pytest.mark.parametrize("shape", [(4000, 2), (10, 2, 20, 20)])
def test_results_are_the_float64_results_rounded_once(dtype, mean, std, shape):
    """The exact value of the formula at these very x, by correctly rounded sums; float16 sums would overflow."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(mean, std, shape).astype(dtype), rng.normal(0.5, 1, shape).astype(dtype)
    gamma, beta = np.array([1.5, -0.75], dtype), np.array([0.25, -1], dtype)
    y, cache = batch_norm_forward(x, gamma, beta, eps=EPS)
    dx, dgamma, dbeta = batch_norm_backward(dy, cache)
    ulp = float(np.finfo(dtype).eps)
    for c in range(2):
        values, dys = x[:, c].ravel().tolist(), dy[:, c].ravel().tolist()
        m = len(values)
        mu = math.fsum(values) / m
        var = math.fsum((v - mu) ** 2 for v in values) / m
        inv_std = 1 / math.sqrt(var + EPS)
        x_hat = [(v - mu) * inv_std for v in values]
        exact_dbeta = math.fsum(dys)
        exact_dgamma = math.fsum(d * v for d, v in zip(dys, x_hat, strict=True))
        scale = float(gamma[c]) * inv_std
        exact_dx = [scale * (d - exact_dbeta / m - v * exact_dgamma / m) for d, v in zip(dys, x_hat, strict=True)]
        assert cache.mu[c] == pytest.approx(mu, rel=1e-13)
        assert cache.var[c] == pytest.approx(var, rel=1e-12)
        # Rounding once costs half an ulp. The absolute tolerances are what float64 loses at a mean of 1e4: mu is off by
        # a few 1e-11, and in dgamma that is multiplied by the sum of dy, 2000.
        exact_y = [float(gamma[c]) * v + float(beta[c]) for v in x_hat]
        np.testing.assert_allclose(y[:, c].ravel().astype(np.float64), exact_y, rtol=0.51 * ulp, atol=1e-10)
        np.testing.assert_allclose(dx[:, c].ravel().astype(np.float64), exact_dx, rtol=0.51 * ulp, atol=tiny(dtype))
        assert float(dgamma[c]) == pytest.approx(exact_dgamma, rel=0.51 * ulp, abs=1e-7)
        assert float(dbeta[c]) == pytest.approx(exact_dbeta, rel=0.51 * ulp, abs=1e-10)


def tiny(dtype):
    """Half the gap between subnormal numbers, and what float64 loses at a mean of 1e4."""
    return float(np.finfo(dtype).smallest_subnormal) / 2 + 1e-10


@pytest.mark.parametrize("backward", BACKWARDS)
def test_each_result_has_the_dtype_of_what_it_belongs_to(backward):
    case = Case()
    gamma, beta = case.gamma.astype(np.float64), case.beta.astype(np.float16)
    y, cache = batch_norm_forward(case.x.astype(np.float32), gamma, beta)
    gradients = backward(case.dy.astype(np.float16), cache)
    dtypes = [a.dtype for a in (y, gradients.dx, gradients.dgamma, gradients.dbeta)]
    assert dtypes == [np.float32, np.float32, np.float64, np.float16]


def test_staged_intermediates_are_float64_for_float32_inputs():
    case = Case()
    _, cache = batch_norm_forward(*(a.astype(np.float32) for a in (case.x, case.gamma, case.beta)))
    dy = case.dy.astype(np.float32)
    gradients = batch_norm_backward_staged(dy, cache)
    assert {a.dtype for a in gradients[3:]} == {np.dtype(np.float64)}
    expected = dy.astype(np.float64) * case.gamma.astype(np.float32).astype(np.float64)[:, None]
    np.testing.assert_array_equal(gradients.dx_hat, expected)


def test_a_wider_dtype_is_kept():
    case = Case()
    y, cache = batch_norm_forward(case.x.astype(np.longdouble), case.gamma, case.beta)
    dx, _, _ = batch_norm_backward(case.dy, cache)
    assert y.dtype == cache.x_hat.dtype == cache.mu.dtype == dx.dtype == np.longdouble
    assert_close(y, batch_norm_forward(case.x, case.gamma, case.beta)[0])


# What the paper implies


@properties
@given(case=cases, log2_scale=st.integers(-12, 12), sign=st.sampled_from([-1, 1]), shift=st.floats(-100, 100))
def test_shift_and_scale_of_the_input_do_not_matter(case, log2_scale, sign, shift):
    """BN(a x + b) = sign(a) BN(x), if eps is measured on the same scale as the variance."""
    a = sign * 2.0**log2_scale
    y, _ = batch_norm_forward(case.x, eps=EPS)
    y_scaled, _ = batch_norm_forward(a * case.x, eps=a * a * EPS)
    assert_close(sign * y_scaled, y)
    y_shifted, _ = batch_norm_forward(case.x + shift, eps=EPS)
    assert_close(y_shifted, y, tol=1e-9)


@properties
@given(case=cases, eps=st.sampled_from([1e-8, 1e-5, 1e-1, 10.0]))
def test_output_has_mean_beta_and_variance_gamma_squared_but_for_eps(case, eps):
    y, cache = batch_norm_forward(case.x, case.gamma, case.beta, eps=eps)
    var = case.x.var(axis=case.axes)
    assert_close(cache.var, var)
    assert_close(y.mean(axis=case.axes), case.beta)
    assert_close(y.var(axis=case.axes), case.gamma**2 * var / (var + eps))


@properties
@given(case=cases, data=st.data(), training=st.booleans())
def test_permuting_the_batch_permutes_output_and_gradient(case, data, training):
    order = data.draw(st.permutations(range(len(case.x))))
    y, cache = batch_norm_forward(case.x, case.gamma, case.beta, running=case.running, training=training)
    y_permuted, cache_permuted = batch_norm_forward(
        case.x[order], case.gamma, case.beta, running=case.running, training=training
    )
    assert_close(y_permuted, y[order])
    dx, dgamma, dbeta = batch_norm_backward(case.dy, cache)
    gradients = batch_norm_backward(case.dy[order], cache_permuted)
    assert_close(gradients.dx, dx[order])
    assert_close(gradients.dgamma, dgamma)
    assert_close(gradients.dbeta, dbeta)


@properties
@given(case=cases, training=st.booleans())
def test_positions_count_like_examples(case, training):
    """(N, C, ...), (N, C, product) and (N * product, C) are the same batch."""
    kwargs = {"running": case.running, "training": training}
    y, cache = batch_norm_forward(case.x, case.gamma, case.beta, **kwargs)
    dx, dgamma, dbeta = batch_norm_backward(case.dy, cache)

    flat_shape = (*case.x.shape[:2], -1)
    y_flat, cache_flat = batch_norm_forward(case.x.reshape(flat_shape), case.gamma, case.beta, **kwargs)
    flat = batch_norm_backward(case.dy.reshape(flat_shape), cache_flat)
    assert_close(y_flat.reshape(y.shape), y)
    assert_close(flat.dx.reshape(dx.shape), dx)

    y_rows, cache_rows = batch_norm_forward(case.channels_last(case.x), case.gamma, case.beta, **kwargs)
    rows = batch_norm_backward(case.channels_last(case.dy), cache_rows)
    assert_close(y_rows, case.channels_last(y))
    assert_close(rows.dx, case.channels_last(dx))

    for other in (flat, rows):
        assert_close(other.dgamma, dgamma)
        assert_close(other.dbeta, dbeta)
    assert cache.m == cache_flat.m == cache_rows.m == len(y_rows)


@properties
@given(case=cases, cuts=st.lists(st.integers(0, 50), max_size=4))
def test_merged_statistics_of_shards_are_the_statistics_of_the_batch(case, cuts):
    values = case.channels_last(case.x)
    shards = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    merged = reduce(merge, [welford(shard) for shard in shards])
    _, cache = batch_norm_forward(case.x)
    assert_close(merged.mean, cache.mu)
    assert_close(merged.var, cache.var)
    assert merged.count == cache.m


@properties
@given(case=cases, eps=st.sampled_from([1e-8, 1e-5, 1e-1]))
def test_dx_sums_to_zero_and_is_orthogonal_to_x_hat_but_for_eps(case, eps):
    _, cache = batch_norm_forward(case.x, case.gamma, case.beta, eps=eps)
    dx, dgamma, _ = batch_norm_backward(case.dy, cache)
    assert_close(dx.sum(axis=case.axes), 0)
    left_by_eps = case.gamma * cache.inv_std * dgamma * eps / (cache.var + eps)
    assert_close((dx * cache.x_hat).sum(axis=case.axes), left_by_eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_gamma_and_beta_can_undo_the_normalization(shape):
    case = Case(shape)
    _, cache = batch_norm_forward(case.x)
    y, _ = batch_norm_forward(case.x, np.sqrt(cache.var + EPS), cache.mu, eps=EPS)
    assert_close(y, case.x, tol=1e-13)


def test_a_constant_channel_becomes_beta():
    x = np.full((8, 2, 3), 7.0)
    y, cache = batch_norm_forward(x, np.array([5.0, -2.0]), np.array([1.5, -0.5]))
    np.testing.assert_array_equal(y, np.broadcast_to([[1.5], [-0.5]], x.shape))
    dx, dgamma, _ = batch_norm_backward(Case((8, 2, 3)).dy, cache)
    assert np.isfinite(dx).all()
    np.testing.assert_array_equal(dgamma, 0)


def test_in_evaluation_an_example_does_not_depend_on_its_batch():
    case = Case((5, 3, 4))
    kwargs = {"running": case.running, "training": False}
    y, _ = batch_norm_forward(case.x, case.gamma, case.beta, **kwargs)
    for i in range(len(case.x)):
        alone, _ = batch_norm_forward(case.x[i : i + 1], case.gamma, case.beta, **kwargs)
        np.testing.assert_array_equal(alone[0], y[i])


def test_moments_can_serve_as_running_statistics():
    case = Case()
    whole = two_pass(case.channels_last(case.x))
    y, _ = batch_norm_forward(case.x, case.gamma, case.beta, running=whole, training=False)
    assert_close(y, batch_norm_forward(case.x, case.gamma, case.beta)[0])


# Nothing happens behind the caller's back


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("backward", BACKWARDS)
def test_arguments_are_left_alone_and_results_are_fresh(training, affine, backward):
    case = Case()
    arguments = [case.x, case.gamma, case.beta, case.dy, case.running.mean, case.running.var]
    before = [a.copy() for a in arguments]
    parameters = arguments[1:3] if affine else (None, None)
    y, cache = batch_norm_forward(case.x, *parameters, running=case.running, training=training)
    gradients = backward(case.dy, cache)
    for a, b in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert case.running.num_batches_tracked == 0

    # Reusing every array that was passed in or handed out changes nothing for a later backward.
    expected = gradients.dx.copy()
    for a in [*arguments[:3], *arguments[4:], y, *(a for a in gradients if a is not None)]:
        a += 1.0
    np.testing.assert_array_equal(backward(before[3], cache).dx, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "to_layout", [lambda x: x, lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1), np.asfortranarray]
)
def test_memory_layout_is_kept_and_does_not_matter(dtype, to_layout):
    case = Case((3, 4, 5, 6))
    x, dy = to_layout(case.x.astype(dtype)), to_layout(case.dy.astype(dtype))
    y, cache = batch_norm_forward(x, case.gamma, case.beta)
    assert y.strides == x.strides
    plain, plain_cache = batch_norm_forward(np.ascontiguousarray(x), case.gamma, case.beta)
    tol = 4 * float(np.finfo(dtype).eps) + 1e-13
    assert_close(y, plain, tol)
    for backward in BACKWARDS:
        dx = backward(dy, cache).dx
        assert dx.strides == x.strides
        assert_close(dx, backward(np.ascontiguousarray(dy), plain_cache).dx, tol)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("training", [True, False])
def test_nan_and_infinity_stay_in_their_channel(bad, training):
    case = Case((4, 3, 5))
    kwargs = {"running": case.running, "training": training}
    clean, clean_cache = batch_norm_forward(case.x, case.gamma, case.beta, **kwargs)
    clean_gradients = batch_norm_backward(case.dy, clean_cache)
    x = case.x.copy()
    x[2, 1, 3] = bad
    with np.errstate(invalid="ignore"):
        y, cache = batch_norm_forward(x, case.gamma, case.beta, **kwargs)
        if training:
            assert np.isnan(y[:, 1]).all()
        else:
            assert np.isfinite(np.delete(y[:, 1].ravel(), 2 * 5 + 3)).all()
        others = [0, 2]
        np.testing.assert_array_equal(y[:, others], clean[:, others])
        for backward in BACKWARDS:
            gradients = backward(case.dy, cache)
            assert np.isnan(gradients.dgamma[1]) or not training
            assert_close(gradients.dx[:, others], clean_gradients.dx[:, others])
            assert_close(gradients.dgamma[others], clean_gradients.dgamma[others])


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backward", BACKWARDS)
def test_an_empty_batch_is_as_in_torch(shape, training, backward):
    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64).train(training)
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()

    running = RunningStatistics(3)
    y, cache = batch_norm_forward(np.zeros(shape), np.ones(3), np.zeros(3), running=running, training=training)
    gradients = backward(np.ones(shape), cache)
    assert cache.m == 0
    if training:
        np.testing.assert_array_equal([cache.mu, cache.var], 0)
    assert y.shape == gradients.dx.shape == shape
    assert_close(gradients.dgamma, layer.weight.grad.numpy())
    assert_close(gradients.dbeta, layer.bias.grad.numpy())
    if training:
        running.update(cache.mu, cache.var, cache.m)
    assert_matches_layer(running, layer)


# Running statistics


def assert_matches_layer(running, layer, tol=1e-12):
    assert_close(running.mean, layer.running_mean.numpy(), tol)
    assert_close(running.var, layer.running_var.numpy(), tol)
    assert running.num_batches_tracked == layer.num_batches_tracked.item()


@pytest.mark.parametrize("momentum", [0.1, 0.3, 0, 1, None])
def test_running_statistics_follow_torch(momentum):
    layer = torch.nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    running = RunningStatistics(3, momentum)
    assert_matches_layer(running, layer)
    for seed, n in enumerate([4, 1, 0, 7, 2]):  # batches of different sizes, one of them empty
        x = np.random.default_rng(seed).normal(seed, 1 + seed, (n, 3, 2, 2))
        layer(torch.tensor(x))
        _, cache = batch_norm_forward(x)
        running.update(cache.mu, cache.var, cache.m)
        assert_matches_layer(running, layer)


def test_two_updates_by_hand():
    running = RunningStatistics(1, momentum=0.25)
    running.update(np.array([4.0]), np.array([3.0]), m=4)  # unbiased: 3 * 4 / 3 = 4
    assert (running.mean, running.var) == ([1.0], [1.75])
    running.update(np.array([0.0]), np.array([0.0]), m=4)
    assert (running.mean, running.var) == ([0.75], [1.3125])


@properties
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(2, 9), min_size=1, max_size=8))
def test_cumulative_average_is_the_mean_over_the_batches(seed, sizes):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(2, 3, (n, 2)) for n in sizes]
    running = RunningStatistics(2, momentum=None)
    for x in batches:
        _, cache = batch_norm_forward(x)
        running.update(cache.mu, cache.var, cache.m)
    assert_close(running.mean, np.mean([x.mean(axis=0) for x in batches], axis=0))
    assert_close(running.var, np.mean([x.var(axis=0, ddof=1) for x in batches], axis=0))
    assert running.num_batches_tracked == len(batches)


def test_update_replaces_its_arrays_and_takes_no_hold_of_the_arguments():
    for momentum in (0.5, 1, None):
        running = RunningStatistics(2, momentum)
        mean_before, var_before = running.mean, running.var
        mu, var = np.array([1.0, 2.0]), np.array([3.0, 4.0])
        running.update(mu, var, m=5)
        mean_after = running.mean.copy()
        mu += 100
        np.testing.assert_array_equal(running.mean, mean_after)
        assert mean_before.tolist() == [0, 0] and var_before.tolist() == [1, 1]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_nan_batch_leaves_its_mark_on_its_channel_only(momentum):
    running = RunningStatistics(2, momentum)
    for mu in ([np.nan, 1.0], [1.0, 1.0]):
        running.update(np.array(mu), np.ones(2), m=4)
    assert np.isnan(running.mean).tolist() == [True, False]


# Bad input


def forward_on(x=None, gamma=None, beta=None, **kwargs):
    return batch_norm_forward(np.ones((5, 4)) if x is None else x, gamma, beta, **kwargs)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"x has shape \(4,\), but a batch and a channel axis are needed", lambda: forward_on(np.ones(4))),
        (ValueError, r"x has shape \(\).* as x\[None\]", lambda: forward_on(np.float64(1))),
        (TypeError, r"x has dtype int\d+.*convert it.*x\.astype", lambda: forward_on(np.ones((5, 4), int))),
        (TypeError, "x has dtype complex128", lambda: forward_on(np.ones((5, 4), complex))),
        (TypeError, "x has dtype bool", lambda: forward_on(np.ones((5, 4), bool))),
        (
            ValueError,
            r"gamma has shape \(3,\), but x has 4 channels: give one gamma per channel, shape \(4,\)",
            lambda: forward_on(gamma=np.ones(3)),
        ),
        (ValueError, r"beta has shape \(1, 4\), but x has 4 channels", lambda: forward_on(beta=np.ones((1, 4)))),
        (TypeError, r"gamma has dtype int\d+", lambda: forward_on(gamma=np.ones(4, int))),
        (TypeError, r"beta has dtype int\d+", lambda: forward_on(beta=np.ones(4, int))),
        (ValueError, r"more than 1 value per channel when training.*\(1, 4\)", lambda: forward_on(np.ones((1, 4)))),
        (ValueError, "more than 1 value per channel", lambda: forward_on(np.ones((1, 4, 1, 1)))),
        (ValueError, "eps is 0, but training needs a positive one", lambda: forward_on(eps=0)),
        (ValueError, "eps is -1e-05, but training", lambda: forward_on(eps=-1e-5)),
        (ValueError, "eps is nan, but training", lambda: forward_on(eps=float("nan"))),
        (
            ValueError,
            "eps is -1e-05, but it is added to a variance",
            lambda: forward_on(running=RunningStatistics(4), training=False, eps=-1e-5),
        ),
        (ValueError, "eps is nan", lambda: forward_on(running=RunningStatistics(4), training=False, eps=float("nan"))),
        (ValueError, r"evaluation \(training=False\) needs running statistics", lambda: forward_on(training=False)),
        (
            ValueError,
            r"running.mean has shape \(3,\), but x has 4 channels",
            lambda: forward_on(running=RunningStatistics(3), training=False),
        ),
        (ValueError, "momentum is -0.1", lambda: RunningStatistics(4, momentum=-0.1)),
        (ValueError, "momentum is 1.5, .* a number from 0 to 1, or None", lambda: RunningStatistics(4, momentum=1.5)),
        (ValueError, "momentum is nan", lambda: RunningStatistics(4, momentum=float("nan"))),
    ],
)
def test_bad_input_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_a_running_variance_of_another_shape_is_refused():
    running = RunningStatistics(4)
    running.var = np.ones(5)
    with pytest.raises(ValueError, match=r"running.var has shape \(5,\), but x has 4 channels"):
        forward_on(running=running, training=False)


@pytest.mark.parametrize("backward", BACKWARDS)
def test_a_bad_dy_is_refused(backward):
    _, cache = forward_on()
    with pytest.raises(ValueError, match=r"dy has shape \(4,\), but x and y had \(5, 4\)"):
        backward(np.ones(4), cache)
    with pytest.raises(TypeError, match=r"dy has dtype int\d+"):
        backward(np.ones((5, 4), int), cache)


@pytest.mark.parametrize(
    ("message", "update"),
    [
        ("m = 1 value per channel", (np.zeros(2), np.zeros(2), 1)),
        (r"mu has shape \(3,\), but the running statistics have 2 channels", (np.zeros(3), np.zeros(2), 4)),
        (r"var has shape \(\), but the running statistics have 2 channels", (np.zeros(2), np.float64(1), 4)),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(message, update):
    running = RunningStatistics(2)
    with pytest.raises(ValueError, match=message):
        running.update(*update)
    assert repr(running) == repr(RunningStatistics(2))


def test_evaluation_accepts_what_training_refuses():
    """A single value per channel, and eps = 0."""
    y, _ = forward_on(np.full((1, 4), 3.0), running=RunningStatistics(4), training=False, eps=0)
    np.testing.assert_array_equal(y, 3)


def test_needs_nothing_but_numpy():
    """As in a browser: with torch and matplotlib out of reach, the specification imports, and runs."""
    program = """
import sys
sys.modules["torch"] = sys.modules["matplotlib"] = None  # makes any import of them fail
import numpy as np
import bnlab.moments, bnlab.reference
y, _ = bnlab.reference.batch_norm_forward(np.eye(3))
assert abs(y.mean()) < 1e-12
del sys.modules["torch"], sys.modules["matplotlib"]
roots = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(*sorted(root for root in roots if not root.startswith("_")))
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    imported = set(run.stdout.split())
    assert {"bnlab", "numpy"} <= imported
    assert not imported & {"torch", "matplotlib", "scipy", "sklearn"}


def test_examples_in_the_docstrings():
    result = doctest.testmod(reference)
    assert result.attempted > 0
    assert result.failed == 0
