"""Group, layer and instance normalization of bnlab.reference, against torch, finite differences and the paper."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from bnlab.reference import (
    batch_norm_forward,
    group_norm_backward,
    group_norm_forward,
    instance_norm_forward,
    layer_norm_forward,
)

SHAPES = [(5, 6), (3, 6, 4), (2, 6, 3, 2), (2, 6, 2, 1, 3), (1, 6, 2)]


def draw(shape, seed=0):
    rng = np.random.default_rng(seed)
    channels = shape[1]
    x = rng.normal(size=shape) * rng.uniform(0.5, 3) + rng.uniform(-3, 3)
    gamma = rng.uniform(0.5, 2, channels) * rng.choice([-1, 1], channels)
    return x, gamma, rng.normal(size=channels), rng.normal(size=shape)


def assert_close(actual, desired, tol=1e-11):
    np.testing.assert_allclose(actual, desired, rtol=tol, atol=tol)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("parameters", ["gamma beta", "gamma", "beta", ""])
def test_group_norm_forward_and_backward_agree_with_torch(shape, groups, parameters):
    x, gamma, beta, dy = draw(shape)
    gamma = gamma if "gamma" in parameters else None
    beta = beta if "beta" in parameters else None
    inputs = [None if a is None else torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    # torch 2.13 can't go backward with a bias alone
    weight = torch.ones(6, dtype=torch.float64) if gamma is None else inputs[1]
    expected = F.group_norm(inputs[0], groups, weight, inputs[2], eps=1e-3)
    expected.backward(torch.tensor(dy))

    y, cache = group_norm_forward(x, groups, gamma, beta, eps=1e-3)
    assert_close(y, expected.detach())
    for gradient, tensor in zip(group_norm_backward(dy, cache), inputs, strict=True):
        if tensor is None:
            assert gradient is None
        else:
            assert_close(gradient, tensor.grad)


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm_agrees_with_torch(shape):
    x, gamma, beta, _ = draw(shape)
    per_element = [np.broadcast_to(v.reshape(-1, *[1] * (x.ndim - 2)), shape[1:]).copy() for v in (gamma, beta)]
    expected = F.layer_norm(torch.tensor(x), shape[1:], *map(torch.tensor, per_element))
    assert_close(layer_norm_forward(x, gamma, beta)[0], expected)


def test_layer_norm_of_tokens_as_in_a_transformer():
    x, gamma, beta, dy = draw((2, 6, 5))
    x, dy = x.transpose(0, 2, 1), dy.transpose(0, 2, 1)  # (N, T, C)
    tokens = torch.tensor(x, requires_grad=True)
    expected = F.layer_norm(tokens, (6,), torch.tensor(gamma), torch.tensor(beta))
    expected.backward(torch.tensor(dy.copy()))
    y, cache = layer_norm_forward(x.reshape(-1, 6), gamma, beta)
    assert_close(y.reshape(x.shape), expected.detach())
    assert_close(group_norm_backward(dy.reshape(-1, 6), cache).dx.reshape(x.shape), tokens.grad)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_instance_norm_agrees_with_torch(shape):
    x, gamma, beta, _ = draw(shape)
    expected = F.instance_norm(torch.tensor(x), weight=torch.tensor(gamma), bias=torch.tensor(beta))
    assert_close(instance_norm_forward(x, gamma, beta)[0], expected)


def test_equations_1_to_3_and_7_of_wu_and_he_by_loops():
    x, gamma, beta, _ = draw((2, 6, 2, 3))
    (N, C, H, W), G, eps = x.shape, 3, 1e-5
    y, cache = group_norm_forward(x, G, gamma, beta, eps=eps)
    for n in range(N):
        for c in range(C):
            # S_i: the same example, and a channel k with floor(k / (C / G)) = floor(c / (C / G))
            members = [
                x[n, k, h, w] for k in range(C) for h in range(H) for w in range(W) if k // (C // G) == c // (C // G)
            ]
            mu = sum(members) / len(members)
            sigma = (sum((v - mu) ** 2 for v in members) / len(members) + eps) ** 0.5
            assert_close(y[n, c], gamma[c] * (x[n, c] - mu) / sigma + beta[c], 1e-12)
            assert cache.groups.mu.reshape(N, G)[n, c // (C // G)] == pytest.approx(mu)
    assert cache.groups.m == C // G * H * W


@given(st.sampled_from(SHAPES), st.sampled_from([1, 2, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, derandomize=True)
def test_backward_agrees_with_finite_differences(shape, groups, seed):
    x, gamma, beta, dy = draw(shape, seed)
    direction = draw(shape, seed + 1)
    _, cache = group_norm_forward(x, groups, gamma, beta, eps=0.1)
    dx, dgamma, dbeta = group_norm_backward(dy, cache)

    def loss(t):
        moved = (a + t * d for a, d in zip((x, gamma, beta), direction, strict=False))
        x_t, gamma_t, beta_t = moved
        return (group_norm_forward(x_t, groups, gamma_t, beta_t, eps=0.1)[0] * dy).sum()

    slope = (dx * direction[0]).sum() + (dgamma * direction[1]).sum() + (dbeta * direction[2]).sum()
    assert slope == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-5, abs=1e-6)


@given(st.sampled_from(SHAPES), st.sampled_from([1, 2, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, derandomize=True)
def test_no_example_matters_to_another(shape, groups, seed):
    """What sets the relatives apart from batch normalization, for which the last line fails."""
    x, gamma, beta, _ = draw(shape, seed)
    y, _ = group_norm_forward(x, groups, gamma, beta)
    for n in range(len(x)):
        assert_close(group_norm_forward(x[n : n + 1], groups, gamma, beta)[0], y[n : n + 1], 1e-13)
    if len(x) > 1 and x.ndim > 2:
        assert not np.allclose(batch_norm_forward(x[:1], gamma, beta)[0], batch_norm_forward(x, gamma, beta)[0][:1])


def test_dtypes_are_kept_and_rounded_once():
    x, gamma, beta, dy = draw((4, 6, 5))
    x = x + 3000  # where float16 is coarse: statistics in float16 would be nonsense
    x16 = x.astype(np.float16)
    expected, wide_cache = group_norm_forward(x16.astype(np.float64), 2, gamma, beta)
    y, cache = group_norm_forward(x16, 2, gamma.astype(np.float32), beta)
    assert y.dtype == np.float16
    assert_close(y, expected, 2e-3)
    gradients = group_norm_backward(dy, cache)
    assert [g.dtype for g in gradients] == [np.float16, np.float32, np.float64]
    assert_close(gradients.dx, group_norm_backward(dy, wide_cache).dx, 2e-3)


def test_arguments_are_not_changed_and_the_cache_holds_copies():
    x, gamma, beta, dy = draw((4, 6, 5))
    copies = [a.copy() for a in (x, gamma, beta, dy)]
    _, cache = group_norm_forward(x, 2, gamma, beta)
    before = group_norm_backward(dy, cache)
    for a, copy in zip((x, gamma, beta, dy), copies, strict=True):
        np.testing.assert_array_equal(a, copy)
    gamma *= 2
    np.testing.assert_array_equal(group_norm_backward(dy, cache).dx, before.dx)


def test_empty_batch():
    y, cache = group_norm_forward(np.empty((0, 6, 2)), 3, np.ones(6), np.zeros(6))
    assert y.shape == (0, 6, 2)
    dx, dgamma, dbeta = group_norm_backward(np.empty((0, 6, 2)), cache)
    assert dx.shape == (0, 6, 2) and not dgamma.any() and not dbeta.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: group_norm_forward(np.ones((2, 6)), 4), ValueError, "num_groups is 4, but x has 6 channels"),
        (lambda: group_norm_forward(np.ones((2, 6)), 0), ValueError, "num_groups is 0"),
        (lambda: group_norm_forward(np.ones((2, 6)), 6), ValueError, "single value.*fewer groups"),
        (lambda: instance_norm_forward(np.ones((2, 6))), ValueError, "single value"),
        (lambda: instance_norm_forward(np.ones(6)), ValueError, "a batch and a channel axis"),
        (lambda: layer_norm_forward(np.ones((2, 6), int)), TypeError, "x has dtype int64"),
        (
            lambda: layer_norm_forward(np.ones((2, 6)), np.ones(3)),
            ValueError,
            r"gamma has shape \(3,\), but x has 6 ch",
        ),
        (lambda: layer_norm_forward(np.ones((2, 6)), eps=0), ValueError, "eps is 0"),
        (
            lambda: group_norm_backward(np.ones((2, 3)), layer_norm_forward(np.ones((2, 6)))[1]),
            ValueError,
            r"dy has shape \(2, 3\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
