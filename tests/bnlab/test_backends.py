"""The choice of a backend, and the compiled one: against float64, in every layout, and where compiled loops break."""

import concurrent.futures
import logging
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bnlab
from bnlab import backends
from bnlab.backends import eager, native
from bnlab.functional import batch_norm

numba = pytest.importorskip("bnlab.backends.numba", reason="numba is not installed: pip install 'bnlab[fast]'")

EPS = 1e-5
BIG = (16, 8, 20, 20)  # large enough for "auto" to take compiled loops


@pytest.fixture(autouse=True)
def fresh_choice(monkeypatch):
    monkeypatch.setattr(backends, "_wanted", "auto")
    monkeypatch.setattr(backends, "_warned", set())


def make(shape, mean=0.0, dtype=torch.float32, last=False, seed=0):
    """A batch, gamma, beta and a gradient from above."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    x, dy = draw(*shape) + mean, draw(*shape)
    x, dy = x.to(dtype), dy.to(dtype)
    if last:
        x, dy = (v.movedim(1, -1).contiguous().movedim(-1, 1) for v in (x, dy))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return x, draw(shape[1]).to(wide), draw(shape[1]).to(wide), dy


def exact(x, gamma, beta, dy, training=True, mean=None, var=None):
    """All that a backend returns, by plain torch operations in float64."""
    x, gamma, beta, dy = (None if v is None else v.double() for v in (x, gamma, beta, dy))
    y, mean, var = eager.forward(x, gamma, beta, mean, var, EPS)
    return y, mean, var, *eager.backward(dy, x, gamma, mean, var, EPS, training)


def distance(given, expected):
    """Largest error, relative to the largest expected value (at least 1)."""
    if not expected.numel():
        return 0.0
    return ((given.double() - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


SHAPES = [
    (4, 5),
    (3000, 70),
    (7, 3),
    (3, 5, 7),
    (4, 6, 5, 5),
    (2, 3, 60, 60),
    (32, 16, 3, 3),
    (300, 9, 7, 7),
    (8, 70, 14, 14),
    (2, 3, 4, 5, 6),
    (2, 1, 1, 1),
    (600, 128),  # whole stripes of channels, several tiles of rows
    (40, 64, 3, 5),
    (9, 192, 2, 7),
    (5, 48, 14, 14),
    (3, 16, 40, 41),  # rows that don't begin with a line of the cache
]


@pytest.fixture(params=[False, True], ids=["cached", "past the caches"])
def stores(request, monkeypatch):
    """Both ways of writing an output, whatever its size and the processor."""
    monkeypatch.setattr(numba, "PAST_CACHES", request.param)
    monkeypatch.setattr(numba, "LARGE", dict.fromkeys(numba.LARGE, 0))


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_compiled_loops_are_as_exact_as_the_dtype(shape, last, mean, dtype, stores):
    x, gamma, beta, dy = make(shape, mean, dtype, last and len(shape) > 3)
    y, mu, var = numba.forward(x, gamma, beta, None, None, EPS)
    expected = exact(x, gamma, beta, dy)
    unit = 1.0 if dtype == torch.float32 else 1e-6  # float64, the judge too, holds a mean of 1e4 to about 1e-12
    inv_std, expected_inv_std = (var.double() + EPS).rsqrt(), (expected[2] + EPS).rsqrt()
    assert ((inv_std / expected_inv_std - 1).abs().max()).item() < 2e-6 * unit
    assert distance(y, expected[0]) < 1e-5 * unit
    grads = numba.backward(dy, x, gamma, mu, var, EPS, True)
    for given_grad, expected_grad in zip(grads, expected[3:], strict=True):
        assert distance(given_grad, expected_grad) < 1e-5 * unit
    theirs = eager.forward(x, gamma, beta, None, None, EPS)[0]
    assert (y.dtype, y.stride()) == (theirs.dtype, theirs.stride())
    assert (mu.dtype, var.dtype) == (dtype, dtype)


@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
def test_given_statistics_are_constants(last):
    x, gamma, beta, dy = make((6, 4, 9, 9), 300.0, last=last)
    mean, var = torch.full((4,), 300.123456), torch.tensor([0.5, 1.0, 2.0, 4.0])
    y = numba.forward(x, gamma, beta, mean, var, EPS)[0]
    expected = exact(x, gamma, beta, dy, False, mean.double(), var.double())
    assert distance(y, expected[0]) < 1e-5
    grads = numba.backward(dy, x, gamma, mean, var, EPS, False)
    assert max(distance(a, b) for a, b in zip(grads, expected[3:], strict=True)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype, last):
    x, gamma, beta, dy = make((8, 6, 10, 10), 20.0, dtype, last)
    y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
    dx, dgamma, _ = numba.backward(dy, x, gamma, mean, var, EPS, True)
    expected = exact(x, gamma, beta, dy)
    unit = torch.finfo(dtype).eps
    assert (y.dtype, dx.dtype, mean.dtype, dgamma.dtype) == (dtype, dtype, torch.float32, torch.float32)
    assert distance(y, expected[0]) < unit and distance(dx, expected[3]) < unit
    assert distance(mean, expected[1]) < 1e-6 and distance(dgamma, expected[4]) < 1e-5


@settings(max_examples=40)
@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.lists(st.integers(1, 9), min_size=0, max_size=3),
    st.booleans(),
    st.floats(-1e4, 1e4),
    st.integers(0, 2**16),
)
def test_any_shape(examples, channels, positions, last, mean, seed):
    x, gamma, beta, dy = make((examples, channels, *positions), mean, last=last and len(positions) > 1, seed=seed)
    y, mu, var = numba.forward(x, gamma, beta, None, None, 0.1)
    expected = eager.forward(x.double(), gamma.double(), beta.double(), None, None, 0.1)
    assert distance(y, expected[0]) < 1e-5 and distance(var, expected[2]) < 1e-5
    grads = numba.backward(dy, x, gamma, mu, var, 0.1, True)
    truth = eager.backward(dy.double(), x.double(), gamma.double(), *expected[1:], 0.1, True)
    assert max(distance(a, b) for a, b in zip(grads, truth, strict=True)) < 2e-5


@pytest.mark.parametrize("shape", [(64, 128), (2048, 64), (2048, 24), (64, 16, 7, 7), (64, 16, 32, 32)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("odd", [slice(0, 1), slice(0, 8), slice(1, None), slice(32, None)], ids=str)
def test_examples_far_from_all_others_do_not_spoil_the_moments(shape, last, odd):
    """Values are summed about the mean of the first ones, or of those before; wherever those lie."""
    x, gamma, beta, dy = make(shape, last=last and len(shape) > 2)
    x[odd] += 1e4
    y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
    expected = exact(x, gamma, beta, dy)
    assert (var.double() / expected[2] - 1).abs().max() < 2e-6
    assert ((mean.double() - expected[1]).abs() < 1e-6 * expected[2].sqrt() + 1e-7 * expected[1].abs()).all()
    assert distance(y, expected[0]) < 1e-5


def test_a_first_example_far_from_all_others_does_not_spoil_the_variance():
    """Sums shifted by the first value would: here it is 10,000 standard deviations away."""
    x, gamma, beta, dy = make((32, 4, 16, 16), 1e4)
    x[0] = 0
    for laid_out in (x, x.to(memory_format=torch.channels_last)):
        _, mean, var = numba.forward(laid_out, gamma, beta, None, None, EPS)
        expected = exact(laid_out, gamma, beta, dy)
        assert distance(var / expected[2], torch.ones(4)) < 1e-6 and distance(mean / 1e4, expected[1] / 1e4) < 1e-6


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_rounding_only(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for last in (False, True):
            x, gamma, beta, dy = make((64, 5, 30, 30), 50.0, last=last)
            y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
            expected = exact(x, gamma, beta, dy)
            assert distance(y, expected[0]) < 1e-5
            grads = numba.backward(dy, x, gamma, mean, var, EPS, True)
            assert max(distance(a, b) for a, b in zip(grads, expected[3:], strict=True)) < 1e-5
    finally:
        torch.set_num_threads(before)


def test_threads_of_our_own_where_torch_has_no_openmp(monkeypatch):
    from bnlab.backends import threads

    if "OpenMP" in torch.__config__.parallel_info() and sys.platform == "linux":
        assert threads._gomp_parallel is not None
    x, gamma, beta, dy = make((64, 5, 30, 30), 50.0)
    y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
    dx = numba.backward(dy, x, gamma, mean, var, EPS, True)[0]
    monkeypatch.setattr(threads, "_gomp_parallel", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(numba.forward(x, gamma, beta, None, None, EPS)[0], y)
    assert torch.equal(numba.backward(dy, x, gamma, mean, var, EPS, True)[0], dx)
    assert threads._pool is not None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_spoils_its_channel_and_no_other(bad):
    for last in (False, True):
        x, gamma, beta, _ = make((4, 3, 8, 8), last=last)
        x[1, 1, 2, 3] = bad
        y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
        theirs = torch.nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.1, EPS)
        assert torch.equal(y.isnan(), theirs.isnan()) and y[:, 1].isnan().all() and y[:, [0, 2]].isfinite().all()
        assert not mean[1].isfinite() and var[1].isnan()


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 3, 3), (5, 0)], ids=str)
def test_empty_batches(shape):
    x, gamma, beta, dy = make(shape)
    y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
    assert y.shape == shape and mean.tolist() == var.tolist() == [0] * shape[1]
    dx, dgamma, dbeta = numba.backward(dy, x, gamma, mean, var, EPS, True)
    assert dx.shape == shape and dgamma.tolist() == dbeta.tolist() == [0] * shape[1]


def test_any_order_in_memory():
    x, _, _, dy = make((6, 5, 8, 7))
    views = [x.transpose(2, 3), x[:, :, ::2], x[::2].flip(0), x.transpose(0, 1), x[:1].expand(9, 5, 8, 7), x[..., 1]]
    for view in views:
        above = dy[:1].expand(view.shape) if view.shape == dy.shape else torch.randn(view.shape)
        scale, shift = torch.randn(view.shape[1]), torch.randn(view.shape[1])
        kept = view.clone()
        y, mean, var = numba.forward(view, scale, shift, None, None, EPS)
        expected = exact(view, scale, shift, above)
        assert distance(y, expected[0]) < 1e-5 and torch.equal(view, kept)
        grads = numba.backward(above, view, scale, mean, var, EPS, True)
        assert max(distance(a, b) for a, b in zip(grads, expected[3:], strict=True)) < 1e-5


@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
def test_vectors_with_gaps_in_memory(last):
    x, _, _, dy = make((6, 5, 8, 7), last=last)
    every_other, the_same = torch.randn(10)[::2], torch.tensor([0.5]).expand(5)
    y, mean, var = numba.forward(x, every_other, the_same, None, None, EPS)
    expected = exact(x, every_other, the_same, dy)
    assert distance(y, expected[0]) < 1e-5
    grads = numba.backward(dy, x, every_other, mean, var, EPS, True)
    assert max(distance(a, b) for a, b in zip(grads, expected[3:], strict=True)) < 1e-5


# --- with what follows -----------------------------------------------------------------------------------------------

ALL = {"numba": numba, "native": native, "eager": eager}


def separately(x, gamma, beta, dy, residual, training=True, mean=None, var=None):
    """What fused backends return, in float64: batch norm, addition and ReLU one by one, gradients by autograd."""
    wide = [v.double().requires_grad_() for v in (x, gamma, beta, residual)]
    y = torch.nn.functional.batch_norm(wide[0], mean, var, wide[1], wide[2], training, 0.0, EPS) + wide[3]
    y = y.relu()
    return y.detach(), *torch.autograd.grad(y, wide, dy.double())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("shape", [(70, 40), (2, 3, 60, 60), (5, 7, 4, 5), (4, 128, 14, 14), (2, 3, 4, 5, 6)], ids=str)
@pytest.mark.parametrize("backend", ALL)
def test_a_residual_and_a_relu_in_the_same_pass(backend, shape, last, training, stores):
    last = last and len(shape) > 3
    if backend == "native" and last:
        pytest.skip("torch is not exact there, so this backend isn't used")
    x, gamma, beta, dy = make(shape, 3.0, last=last)
    residual = make(shape, last=last, seed=5)[0]
    mean, var = (None, None) if training else (torch.linspace(2, 4, shape[1]), torch.linspace(0.5, 2, shape[1]))
    given = [None if v is None else v.double() for v in (mean, var)]
    expected = separately(x, gamma, beta, dy, residual, training, *given)
    kernels = ALL[backend]
    y, mu, sigma = kernels.forward(x, gamma, beta, mean, var, EPS, residual, True)
    assert distance(y, expected[0]) < 1e-5 and (y >= 0).all() and (y == 0).any()
    # A value that is 0 but for rounding may go either way: there must be none.
    assert ((expected[0] > 0) == (y > 0)).all()
    grads = kernels.backward_relu(dy, x, gamma, beta, mu, sigma, EPS, training, residual)
    assert max(distance(a, b) for a, b in zip(grads, expected[1:], strict=True)) < 1e-5
    assert grads[3].stride() == grads[0].stride() == y.stride()


@pytest.mark.parametrize("kind", ["float32", "float16", "with gaps"])
@pytest.mark.parametrize("shape", [(70, 40), (2, 3, 60, 60), (5, 7, 4, 5)], ids=str)
@pytest.mark.parametrize("backend", ALL)
def test_running_statistics_follow(backend, shape, kind):
    """(1 - momentum) * running + momentum * batch, the variance divided by m - 1; in place, whatever holds them."""
    x, gamma, beta, _ = make(shape, 3.0)
    channels, momentum = shape[1], 0.3
    running = [torch.linspace(-1, 2, channels), torch.linspace(0.5, 4, channels)]
    if kind == "float16":
        running = [v.half() for v in running]
    elif kind == "with gaps":
        running = [torch.stack([v, v], dim=1)[:, 0] for v in running]
    over = [0, *range(2, x.dim())]
    batch = x.double().mean(over), x.double().var(over, unbiased=True)
    expected = [(1 - momentum) * v.double() + momentum * b for v, b in zip(running, batch, strict=True)]
    y = ALL[backend].forward(x, gamma, beta, None, None, EPS, running=(*running, momentum))[0]
    tolerance = 2e-3 if kind == "float16" else 1e-6
    assert max(distance(v, e) for v, e in zip(running, expected, strict=True)) < tolerance
    assert torch.equal(y, ALL[backend].forward(x, gamma, beta, None, None, EPS)[0])


@pytest.mark.parametrize("last", [False, True], ids=["channels outside", "channels innermost"])
@pytest.mark.parametrize("backend", ALL)
def test_a_relu_alone(backend, last, stores):
    if backend == "native" and last:
        pytest.skip("torch is not exact there, so this backend isn't used")
    x, gamma, beta, dy = make((4, 6, 30, 30), 3.0, last=last)
    expected = separately(x, gamma, beta, dy, torch.zeros_like(x))
    y, mean, var = ALL[backend].forward(x, gamma, beta, None, None, EPS, relu=True)
    assert distance(y, expected[0]) < 1e-5
    *grads, dresidual = ALL[backend].backward_relu(dy, x, gamma, beta, mean, var, EPS, True, None)
    assert max(distance(a, b) for a, b in zip(grads, expected[1:4], strict=True)) < 1e-5 and dresidual is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ALL)
def test_half_precision_is_rounded_after_the_relu(backend, dtype):
    x, gamma, beta, dy = make((6, 5, 12, 12), 1.0, dtype)
    residual = make((6, 5, 12, 12), dtype=dtype, seed=3)[0]
    kernels = ALL[backend]
    y, mean, var = kernels.forward(x, gamma, beta, None, None, EPS, residual, True)
    grads = kernels.backward_relu(dy, x, gamma, beta, mean, var, EPS, True, residual)
    expected = separately(x, gamma, beta, dy, residual)
    unit = torch.finfo(dtype).eps * (2 if backend == "native" else 1)  # torch rounds before it adds
    assert y.dtype == grads[0].dtype == grads[3].dtype == dtype and grads[1].dtype == torch.float32
    assert distance(y, expected[0]) < unit
    let_through = expected[0] > 4 * unit  # further from 0 than rounding reaches
    assert torch.equal(grads[3][let_through], dy[let_through])


def test_what_is_no_number_passes_the_relu():
    x, gamma, beta, _ = make((4, 3, 8, 8))
    x[1, 1, 2, 3] = float("nan")
    for kernels in ALL.values():
        y = kernels.forward(x, gamma, beta, None, None, EPS, relu=True)[0]
        assert y[:, 1].isnan().all() and y[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("backend", ["numba", "eager", "native"])
def test_layers_add_and_cut_alike(backend):
    """Through the layer and autograd: values, gradients, running statistics; and gradients of gradients."""
    x, _, _, dy = make((4, 6, 9, 9), 2.0, torch.float64)
    shortcut = make((4, 6, 9, 9), dtype=torch.float64, seed=1)[0]
    found = []
    for fused in (True, False):
        layer = bnlab.BatchNorm2d(6, dtype=torch.float64)
        inputs = [v.clone().requires_grad_() for v in (x, shortcut)]
        with bnlab.use_backend(backend):
            if fused:
                y = layer(inputs[0], residual=inputs[1], relu=True)
            else:
                y = (layer(inputs[0]) + inputs[1]).relu()
            grads = torch.autograd.grad(y, [*inputs, layer.weight, layer.bias], dy, create_graph=True)
            second = torch.autograd.grad(sum((g * g).sum() for g in grads), inputs[0])
        found.append([y, *grads, *second, layer.running_mean, layer.running_var])
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-10) for a, b in zip(*found, strict=True))


def test_a_residual_alone():
    x, gamma, beta, dy = make(BIG, 2.0)
    residual = make(BIG, seed=1)[0].requires_grad_()
    for name in ALL:
        with bnlab.use_backend(name):
            y = batch_norm(x, None, None, gamma, beta, training=True, residual=residual)
            assert torch.allclose(y, exact(x, gamma, beta, dy)[0].float() + residual, atol=1e-5)
            assert torch.equal(torch.autograd.grad(y, residual, dy)[0], dy)


@pytest.mark.parametrize(
    ("residual", "error", "complaint"),
    [
        (torch.zeros(2, 3, 4, 1), ValueError, r"residual has shape \(2, 3, 4, 1\), but the input has \(2, 3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.float64), ValueError, "residual has dtype torch.float64"),
        (torch.zeros(2, 3, 4, 4, device="meta"), ValueError, "residual has device meta"),
        (1.0, TypeError, "argument 'residual' must be Tensor, not float"),
    ],
)
def test_a_residual_that_does_not_fit(residual, error, complaint):
    with pytest.raises(error, match=complaint):
        batch_norm(torch.zeros(2, 3, 4, 4), None, None, training=True, residual=residual)


# --- in use ----------------------------------------------------------------------------------------------------------


def test_layers_train_alike_with_either_backend():
    trained = []
    for name in ("numba", "eager"):
        with bnlab.use_backend(name):
            torch.manual_seed(0)
            net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), bnlab.BatchNorm2d(8), torch.nn.ReLU())
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(5):
                optimizer.zero_grad()
                net(torch.randn(16, 3, 20, 20) + 5).square().mean().backward()
                optimizer.step()
            trained.append(net.eval()(torch.ones(4, 3, 20, 20)))
    assert torch.allclose(*trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["numba", "eager", "native"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_follows_may_work_in_place(name, form, dtype):
    """``nn.ReLU(inplace=True)`` behind the layer, as in torchvision's networks: autograd forbids it on a view."""
    if name == "native" and form == torch.channels_last:
        pytest.skip("torch is not exact there, so this backend isn't used")
    x, _, _, dy = make(BIG, dtype=dtype)
    x = x.to(memory_format=form)
    found = []
    for layer in (bnlab.BatchNorm2d(BIG[1]), torch.nn.BatchNorm2d(BIG[1])):
        with bnlab.use_backend(name):
            inputs = [x.clone().requires_grad_(), layer.weight, layer.bias]
            y = torch.nn.ReLU(inplace=True)(layer(inputs[0]).add_(x))
            found.append([y, *torch.autograd.grad(y, inputs, dy)])
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    assert all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in zip(*found, strict=True))


def test_gradients_of_the_function():
    x, gamma, beta, _ = make(BIG, dtype=torch.float64)
    x = x[:2, :3, :4, :4].contiguous()
    inputs = [v.requires_grad_() for v in (x, gamma[:3], beta[:3])]
    with bnlab.use_backend("numba"):
        assert torch.autograd.gradcheck(lambda x, g, b: batch_norm(x, None, None, g, b, training=True), inputs)
        assert torch.autograd.gradgradcheck(lambda x, g, b: batch_norm(x, None, None, g, b, training=True), inputs)


def test_auto_takes_compiled_loops_for_large_tensors_only():
    assert backends.choose(torch.zeros(BIG)) is numba
    assert backends.choose(torch.zeros(4, 3)) is eager
    with bnlab.use_backend("eager"):
        assert backends.choose(torch.zeros(BIG)) is eager
        with bnlab.use_backend("numba"):
            assert backends.choose(torch.zeros(4, 3)) is numba
        assert backends.choose(torch.zeros(BIG)) is eager
    bnlab.use_backend("numba")  # as a function, until it is called again
    assert backends.choose(torch.zeros(4, 3)) is numba
    bnlab.use_backend("auto")
    assert backends.choose(torch.zeros(4, 3)) is eager


def test_what_cannot_be_used_gives_way_with_one_warning():
    meta = torch.zeros(BIG, device="meta")
    with bnlab.use_backend("numba"):
        with pytest.warns(RuntimeWarning, match="'numba' can't be used for a tensor on meta: 'eager' is used instead"):
            assert backends.choose(meta) is eager
        assert backends.choose(meta) is eager  # a second warning would be an error here
    with pytest.raises(ValueError, match="no backend 'cuda': give one of auto, eager, native, numba"):
        bnlab.use_backend("cuda")
    assert backends.choose(torch.zeros(4, 3)) is eager


def test_transforms_and_subclasses_go_through_eager():
    x = torch.randn(3, *BIG)

    def loss(x):
        return batch_norm(x, None, None, training=True).square().sum()

    with bnlab.use_backend("numba"):
        rows = torch.func.vmap(lambda x: batch_norm(x, None, None, training=True))(x)
        assert torch.allclose(rows[1], batch_norm(x[1], None, None, training=True), atol=1e-5)
        grads = torch.func.vmap(torch.func.grad(lambda x: loss(x) * x.sum()))(x[:, :2, :2, :4, :4])
        assert grads.shape == (3, 2, 2, 4, 4)

        class Named(torch.Tensor):
            pass

        assert backends.choose(x[0].as_subclass(Named)) is eager


def test_torch_compile_traces_without_a_break():
    x = torch.randn(BIG)
    compiled = torch.compile(lambda x: batch_norm(x, None, None, training=True), fullgraph=True, backend="aot_eager")
    with bnlab.use_backend("numba"):
        assert torch.allclose(compiled(x), batch_norm(x, None, None, training=True), atol=1e-5)


def test_several_python_threads_at_once():
    x, gamma, beta, dy = make((64, 16, 16, 16), 3.0)
    expected = exact(x, gamma, beta, dy)

    def both(_):
        y, mean, var = numba.forward(x, gamma, beta, None, None, EPS)
        return distance(y, expected[0]) + distance(numba.backward(dy, x, gamma, mean, var, EPS, True)[0], expected[3])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert max(pool.map(both, range(24))) < 2e-5


def _in_a_fork(x, queue):
    queue.put(float(numba.forward(x, None, None, None, None, EPS)[0].numpy().std()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # torch's own threads would not outlive a fork
    x = make((64, 16, 16, 16))[0]
    numba.forward(x, None, None, None, None, EPS)  # now the threads of this process are there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_fork, args=(x, queue), daemon=True)
    child.start()
    try:
        assert abs(queue.get(timeout=60) - 1) < 0.01
    finally:
        child.kill()


def test_the_first_compilation_is_announced(tmp_path):
    code = (
        "import torch, bnlab; bnlab.use_backend('numba')\n"
        "bnlab.functional.batch_norm(torch.randn(8, 3), None, None, training=True)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for expected in (1, 0):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("compiling loops for batch normalization: some seconds") == expected


def test_without_numba_torchs_own_kernels_are_used_where_they_are_right(monkeypatch, caplog):
    monkeypatch.setattr(backends, "_loaded", {"numba": None})
    assert backends.choose(torch.zeros(BIG)) is native
    assert backends.choose(torch.zeros(BIG).to(memory_format=torch.channels_last)) is eager
    assert backends.choose(torch.zeros(4, 3)) is eager
    with bnlab.use_backend("numba"), pytest.warns(RuntimeWarning, match="can't be used for a tensor on cpu"):
        assert backends.choose(torch.zeros(BIG)) is eager
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("shape", [(8, 5), (4, 3, 6, 6), (3, 4, 7), (2, 3, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_torchs_own_kernels_keep_the_contract(shape, dtype, training):
    x, gamma, beta, dy = make(shape, 1.0, dtype)
    mean, var = (None, None) if training else (torch.full(shape[1:2], 0.9), torch.full(shape[1:2], 1.5))
    unit = torch.finfo(dtype).eps * (1 if dtype == torch.bfloat16 else 50)
    for scale, shift in ((gamma, beta), (None, None)):
        y, mu, sigma = native.forward(x, scale, shift, mean, var, EPS)
        given = [None if v is None else v.double() for v in (mean, var)]
        expected = exact(x, scale, shift, dy, training, *given)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        assert (y.dtype, mu.dtype, sigma.dtype) == (dtype, wide, wide)
        found = (y, mu, sigma, *native.backward(dy, x, scale, mu, sigma, EPS, training))
        assert max(distance(a, b) for a, b in zip(found, expected, strict=True)) < unit


def test_mean_is_what_numpy_says():
    x = np.random.default_rng(0).normal(7, 2, (50, 6, 11)).astype(np.float32)
    _, mean, var = numba.forward(torch.from_numpy(x), None, None, None, None, EPS)
    assert np.allclose(mean, x.mean(axis=(0, 2), dtype=np.float64), rtol=1e-6)
    assert np.allclose(var, x.var(axis=(0, 2), dtype=np.float64), rtol=1e-6)
