"""`bnlab.functional.batch_norm` against its definition in float64, finite differences, and torch where it is right."""

import copy
import itertools
import shutil
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from bnlab import backends
from bnlab.backends import eager
from bnlab.functional import batch_norm

SHAPES = [(6, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)]
MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def make(shape, dtype=torch.float64, param_dtype=None, seed=0, mean=0.0):
    """Input, running statistics, weight and bias, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    c = shape[1]
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * 1.5 + mean + 0.3).to(dtype)
    vectors = torch.randn(4, c, generator=generator, dtype=torch.float64)
    vectors[1] = vectors[1].abs() + 0.5  # running_var
    return x, *(v.clone() for v in vectors.to(param_dtype or dtype))


def definition(x, running_mean, running_var, weight, bias, training, momentum=0.1, eps=1e-5):
    """Batch normalization as the paper has it, in float64, differentiable; also the new running statistics."""
    x, running_mean, running_var, weight, bias = (
        v if v is None else v.double() for v in (x, running_mean, running_var, weight, bias)
    )
    rows = x.transpose(0, 1).flatten(1)  # one row per channel
    mean, var = running_mean, running_var
    if training:
        mean, var = rows.mean(1), rows.var(1, correction=0)
        if running_mean is not None:
            running_mean = (1 - momentum) * running_mean + momentum * mean.detach()
            running_var = (1 - momentum) * running_var + momentum * rows.detach().var(1, correction=1)
    y = (rows - mean[:, None]) / torch.sqrt(var[:, None] + eps)
    y = y if weight is None else y * weight[:, None]
    y = y if bias is None else y + bias[:, None]
    return y.view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1), running_mean, running_var


def grads(y, inputs, seed=1):
    """Gradients of a random linear functional of y, so that nothing cancels by symmetry."""
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.autograd.grad(y, inputs, dy.to(y.dtype))


def leaf(*tensors):
    return tuple(t.detach().clone().requires_grad_() for t in tensors)


# The definition and torch


@MODES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", ["weight+bias", "weight", "bias", "none"])
def test_float64_equals_torch_and_the_definition(shape, affine, training):
    x, running_mean, running_var, weight, bias = make(shape)
    weight = weight if "weight" in affine else None
    bias = bias if "bias" in affine else None
    results = []
    for function in (batch_norm, F.batch_norm):
        statistics = running_mean.clone(), running_var.clone()
        inputs = leaf(*(v for v in (x, weight, bias) if v is not None))
        given = dict(zip([n for n, v in (("x", x), ("w", weight), ("b", bias)) if v is not None], inputs, strict=True))
        y = function(given["x"], *statistics, given.get("w"), given.get("b"), training, 0.3, 1e-3)
        results.append([y.detach(), *statistics, *grads(y, inputs)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-11, atol=1e-11)
    y, new_mean, new_var = definition(x, running_mean, running_var, weight, bias, training, 0.3, 1e-3)
    torch.testing.assert_close(results[0][:3], [y, new_mean, new_var], rtol=1e-11, atol=1e-11)


@MODES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "param_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
    ids=str,
)
def test_lower_precision_is_the_definition_rounded_once(shape, dtype, param_dtype, training):
    x, *vectors = make(shape, dtype, param_dtype)
    x, weight, bias = leaf(x, *vectors[2:])
    statistics = [v.clone() for v in vectors[:2]]
    y = batch_norm(x, *statistics, weight, bias, training)
    expected_y, *expected_statistics = definition(x, *vectors[:2], weight, bias, training)
    # One rounding at the end; a few more for float32, which is also the dtype of the arithmetic.
    tolerance = (
        {"rtol": 8e-6, "atol": 8e-6} if dtype == torch.float32 else {"rtol": torch.finfo(dtype).eps, "atol": 1e-5}
    )
    torch.testing.assert_close(y.double(), expected_y, **tolerance)
    for value, expected in zip(statistics, expected_statistics, strict=True):
        wide = max(torch.finfo(param_dtype).eps * 2, 2e-6)
        torch.testing.assert_close(value.double(), expected, rtol=wide, atol=wide)
    assert [v.dtype for v in (y, *statistics)] == [dtype, param_dtype, param_dtype]
    # Gradients. The reference gets the dy that a tensor of this dtype can carry.
    dy = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    actual = torch.autograd.grad(y, (x, weight, bias), dy)
    expected = torch.autograd.grad(expected_y, (x, weight, bias), dy.double())
    assert [g.dtype for g in actual] == [dtype, param_dtype, param_dtype]
    for value, reference in zip(actual, expected, strict=True):
        eps = max(torch.finfo(value.dtype).eps, 1e-5)
        torch.testing.assert_close(value.double(), reference.double(), rtol=2 * eps, atol=2 * eps)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0, -1.2, 2, torch.tensor(0.25)], ids=str)
def test_running_statistics_follow_momentum_over_several_batches(momentum):
    _, running_mean, running_var, *_ = make((4, 3))
    expected = running_mean, running_var
    running_mean, running_var = running_mean.clone(), running_var.clone()
    for seed in range(4):
        x = make((4, 3), seed=seed)[0]
        batch_norm(x, running_mean, running_var, training=True, momentum=momentum)
        _, *expected = definition(x, *expected, None, None, True, momentum)
    torch.testing.assert_close([running_mean, running_var], list(expected))


def test_running_variance_is_exact_where_it_is_far_below_eps():
    x = torch.tensor([[0.0], [1e-6]], dtype=torch.float64)
    running_mean, running_var = torch.zeros(1).double(), torch.zeros(1).double()
    batch_norm(x, running_mean, running_var, training=True, momentum=1.0, eps=1e-3)
    torch.testing.assert_close(running_var, torch.tensor([0.5e-12], dtype=torch.float64), rtol=1e-9, atol=0)


def test_training_without_running_statistics():
    x, _, _, weight, bias = make((4, 3, 5))
    torch.testing.assert_close(
        batch_norm(x, None, None, weight, bias, True), definition(x, None, None, weight, bias, True)[0]
    )


@MODES
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0), (2, 3, 0, 4)], ids=str)
def test_empty_batch(shape, training):
    results = []
    for function in (batch_norm, F.batch_norm):
        x, running_mean, running_var, weight, bias = make(shape, torch.float32)
        x, weight, bias = leaf(x, weight, bias)
        y = function(x, running_mean, running_var, weight, bias, training)
        first = torch.autograd.grad(y.sum(), (x, weight, bias), create_graph=function is batch_norm)
        results.append([y, running_mean, running_var, *first])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert results[0][4].tolist() == [0, 0, 0]  # no examples, no gradient; and not NaN


@MODES
def test_no_channels(training):
    y = batch_norm(torch.ones(2, 0, 4), torch.ones(0), torch.ones(0), torch.ones(0), torch.ones(0), training)
    assert y.shape == (2, 0, 4)


def test_nan_stays_in_its_channel():
    x, running_mean, running_var, *_ = make((4, 3, 5))
    x[1, 1, 2] = torch.nan
    y = batch_norm(x, running_mean, running_var, training=True)
    for value in (y.transpose(0, 1).flatten(1).isnan().all(1), running_mean.isnan(), running_var.isnan()):
        assert value.tolist() == [False, True, False]


# Derivatives


@MODES
@pytest.mark.parametrize("shape", [(4, 2), (2, 2, 3), (2, 2, 1, 2), (2, 1, 1, 2, 1)], ids=str)
@pytest.mark.parametrize("affine", ["weight+bias", "weight", "bias", "none"])
def test_first_and_second_derivatives_against_finite_differences(shape, affine, training):
    x, running_mean, running_var, weight, bias = make(shape)
    inputs = leaf(x, *([weight] if "weight" in affine else []), *([bias] if "bias" in affine else []))

    def function(x, *vectors):
        vectors = list(vectors)
        weight = vectors.pop(0) if "weight" in affine else None
        bias = vectors.pop(0) if "bias" in affine else None
        return batch_norm(x, running_mean.clone(), running_var.clone(), weight, bias, training, eps=1e-2)

    assert gradcheck(function, inputs, check_batched_grad=True)
    assert gradgradcheck(function, inputs, check_batched_grad=True)


@MODES
@pytest.mark.parametrize("needs", list(itertools.product([True, False], repeat=3))[:-1], ids=str)
def test_any_subset_of_inputs_may_require_grad(needs, training):
    x, running_mean, running_var, weight, bias = make((3, 2, 2))
    inputs = tuple(v.requires_grad_(need) for v, need in zip((x, weight, bias), needs, strict=True))

    def function(x, weight, bias):
        return batch_norm(x, running_mean.clone(), running_var.clone(), weight, bias, training, eps=1e-2)

    assert gradcheck(function, inputs)
    if needs != (False, False, True):  # the gradient to the bias is linear in dy alone, which gradgradcheck adds
        assert gradgradcheck(function, inputs)


@MODES
def test_third_derivative(training):
    x, running_mean, running_var, weight, _ = make((5, 2))
    third = []
    for function in (batch_norm, lambda *args: definition(*args)[0]):
        (z,) = leaf(x)
        value = function(z, running_mean.clone(), running_var.clone(), weight, None, training).pow(4).sum()
        for _ in range(2):
            (first,) = torch.autograd.grad(value, z, create_graph=True)
            value = first.pow(2).sum()
        third.append(torch.autograd.grad(value, z)[0])
    assert third[1].abs().max() > 1e-3
    torch.testing.assert_close(third[0], third[1], rtol=1e-9, atol=1e-9 * third[1].abs().max().item())


def test_gradient_through_evaluation_is_that_of_the_statistics_it_used():
    """A training step between forward and backward moves the running statistics; torch then returns a wrong number."""
    x, running_mean, running_var, weight, bias = make((4, 3))
    (x,) = leaf(x)
    y = batch_norm(x, running_mean, running_var, weight, bias)
    expected = definition(x, running_mean.clone(), running_var.clone(), weight, bias, False)[0]
    batch_norm(x.detach() * 10, running_mean, running_var, training=True, momentum=1.0)
    torch.testing.assert_close(grads(y, (x,)), grads(expected, (x,)))


@MODES
@pytest.mark.parametrize("position", [0, 3], ids=["input", "weight"])
def test_changing_what_backward_needs_is_an_error(position, training):
    args = list(make((4, 3)))
    args[0], args[3] = (v + 0 for v in leaf(args[0], args[3]))  # not leaves, which nobody may change in place
    y = batch_norm(*args, training)
    with torch.no_grad():
        args[position].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# What it must not touch, and what it must not keep


@MODES
def test_inputs_are_not_changed_and_running_statistics_hold_no_graph(training):
    x, running_mean, running_var, weight, bias = make((2, 3, 4, 5))
    before = [v.clone() for v in (x, running_mean, running_var, weight, bias)]
    x, weight, bias = (v.requires_grad_() for v in (x, weight, bias))
    for _ in range(3):
        batch_norm(x, running_mean, running_var, weight, bias, training).sum().backward()
    assert all(torch.equal(v, b) for v, b in zip((x, weight, bias), (before[0], *before[3:]), strict=True))
    for v, b in zip((running_mean, running_var), before[1:3], strict=True):
        assert not v.requires_grad and v.grad_fn is None
        assert torch.equal(v, b) is not training


def test_identity_does_not_alias_the_input():
    x = torch.ones(2, 3)
    y = batch_norm(x, torch.zeros(3), torch.ones(3), eps=0.0)
    y.zero_()
    assert x.eq(1).all()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_running_statistics_are_updated_without_grad_too(context):
    x, running_mean, running_var, *_ = make((4, 3))
    expected = definition(x, running_mean, running_var, None, None, True)[1:]
    with context():
        y = batch_norm(x, running_mean, running_var, training=True)
    assert not y.requires_grad
    torch.testing.assert_close((running_mean, running_var), expected)


# Accuracy: float64 is the oracle. torch's own channels_last kernel fails the first of these at 1e4.


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_statistics_and_results_are_accurate_far_from_zero(mean, memory_format):
    x, _, _, weight, bias = make((32, 4, 56, 56), torch.float32, mean=mean)
    x = x.contiguous(memory_format=memory_format)
    x64 = x.double()
    var64, mean64 = torch.var_mean(x64, (0, 2, 3), correction=0)
    y, batch_mean, batch_var = eager.forward(x, weight, bias, None, None, 1e-5)
    torch.testing.assert_close(batch_mean.double(), mean64, rtol=1e-7, atol=1e-6)  # as close as float32 can
    inv_std, inv_std64 = torch.rsqrt(batch_var.double() + 1e-5), torch.rsqrt(var64 + 1e-5)
    assert ((inv_std - inv_std64) / inv_std64).abs().max() < 1e-6
    # The input's distance from its mean is exact in float32, so the output can be too.
    y64 = definition(x, None, None, weight, bias, True)[0]
    torch.testing.assert_close(y.double(), y64, rtol=2e-6, atol=2e-6)
    # So can the gradients, for which float32 torch loses three digits in either layout at 1e4.
    x, weight, bias = leaf(x, weight, bias)
    actual = grads(batch_norm(x, None, None, weight, bias, True), (x, weight, bias))
    expected = grads(definition(x, None, None, weight, bias, True)[0], (x, weight, bias))
    for value, reference in zip(actual, expected, strict=True):
        assert ((value.double() - reference).norm() / reference.norm()) < 2e-6


def test_half_precision_sums_do_not_overflow():
    x = torch.full((64, 2, 28, 28), 300.0, dtype=torch.float16)
    x[::2] = -300
    running_mean, running_var = torch.zeros(2), torch.zeros(2)
    y = batch_norm(x, running_mean, running_var, training=True, momentum=1.0)
    assert running_var.tolist() == pytest.approx([9e4 * 50176 / 50175] * 2, rel=1e-6)  # above 65504
    assert y.abs().float().allclose(torch.ones(()), atol=1e-3)


# Memory layout


def layouts():
    image, volume = torch.randn(4, 3, 6, 5), torch.randn(2, 3, 4, 5, 6)
    yield "contiguous", image
    yield "channels_last", image.contiguous(memory_format=torch.channels_last)
    yield "channels_last_3d", volume.contiguous(memory_format=torch.channels_last_3d)
    yield "volume", volume
    yield "rows and columns exchanged", image.transpose(2, 3)
    yield "every second row", image[:, :, ::2]
    yield "every second row, channels_last", image.contiguous(memory_format=torch.channels_last)[:, :, ::2]
    yield "expanded", image[:1].expand(4, 3, 6, 5)
    yield "batch and channels exchanged", image.transpose(0, 1)
    yield "dense, transposed", torch.randn(3, 8).t()
    yield "sequence (N, L, C), transposed", torch.randn(4, 7, 3).transpose(1, 2)


LAYOUTS = dict(layouts())


@MODES
@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_layout_of_output_and_gradient_is_torchs(name, training):
    results = []
    for function in (batch_norm, F.batch_norm):
        x = LAYOUTS[name].detach().requires_grad_()
        _, running_mean, running_var, weight, bias = make(x.shape, torch.float32)
        y = function(x, running_mean, running_var, weight, bias, training)
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        results.append((y, dx))
    for ours, theirs in zip(*results, strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_noncontiguous_vectors():
    x, *vectors = make((4, 3, 5))
    strided = [torch.stack([v, v], 1)[:, 0] for v in vectors]
    assert not strided[0].is_contiguous()
    y = batch_norm(x, *strided, training=True)
    expected, *statistics = definition(x, *vectors, training=True)
    torch.testing.assert_close([y, *strided[:2]], [expected, *statistics])


# Bad calls: the type that torch raises, and its key phrase where users match on it


X, ZEROS, ONES = torch.randn(4, 3, 2), torch.zeros(3), torch.ones(3)
BAD_CALLS = {
    "evaluation without statistics": (lambda f: f(X, None, None), "running_mean must be defined in evaluation mode"),
    "evaluation without variance": (lambda f: f(X, ZEROS, None), "running_var must be defined in evaluation mode"),
    "training, mean alone": (lambda f: f(X, ZEROS, None, training=True), "both be None or neither be None"),
    "training, variance alone": (lambda f: f(X, None, ONES, training=True), "both be None or neither be None"),
    "running_mean too long": (lambda f: f(X, torch.zeros(4), ONES), "running_mean should contain 3 elements not 4"),
    "running_var too short": (lambda f: f(X, ZEROS, torch.ones(2)), "running_var should contain 3 elements not 2"),
    "weight too long": (lambda f: f(X, ZEROS, ONES, torch.ones(4)), "weight should contain 3 elements not 4"),
    "bias too long": (lambda f: f(X, ZEROS, ONES, ONES, torch.ones(4)), "bias should contain 3 elements not 4"),
    "one axis": (lambda f: f(ZEROS, ZEROS, ONES), None),
    "no axis": (lambda f: f(torch.tensor(1.0), ZEROS, ONES), None),
    "integers": (lambda f: f(torch.ones(4, 3, dtype=torch.int64), ZEROS, ONES), '"batch_norm" not implemented for'),
    "booleans": (lambda f: f(torch.ones(4, 3) > 0, ZEROS, ONES), '"batch_norm" not implemented for'),
    "complex": (lambda f: f(X.to(torch.complex64), None, None, training=True), '"batch_norm" not implemented for'),
    "sparse": (lambda f: f(X[..., 0].to_sparse(), ZEROS, ONES, training=True), None),
    "double beside float": (lambda f: f(X.double(), ZEROS, ONES), "mixed dtype"),
    "float beside double": (lambda f: f(X, None, None, ONES.double(), training=True), "mixed dtype"),
    "float beside half": (lambda f: f(X, ZEROS.half(), ONES.half()), "mixed dtype"),
    "bfloat16 beside half": (lambda f: f(X.bfloat16(), ZEROS.half(), ONES.half()), "mixed dtype"),
    "half beside both": (lambda f: f(X.half(), ZEROS, ONES, ONES.half(), training=True), None),
    "two dtypes of statistics": (lambda f: f(X, ZEROS.double(), ONES, training=True), "mixed dtype"),
    "two devices": (lambda f: f(X, ZEROS.to("meta"), ONES.to("meta"), training=True), None),
    "one value": (
        lambda f: f(X[:1, :, :1], ZEROS, ONES, training=True),
        "Expected more than 1 value per channel when tr",
    ),
    "an array": (lambda f: f(X.numpy(), ZEROS, ONES), "argument 'input'"),
    "a list of statistics": (lambda f: f(X, [0.0], ONES), "argument 'running_mean'"),
    "eps 0 in training": (lambda f: f(X, ZEROS, ONES, training=True, eps=0.0), "eps must be positive during training"),
    "negative eps": (lambda f: f(X, ZEROS, ONES, eps=-1e-5), "eps must be non-negative, but got -1e-05"),
    "eps a string": (lambda f: f(X, ZEROS, ONES, eps="1e-5"), None),
    "momentum None": (lambda f: f(X, ZEROS, ONES, momentum=None), "argument 'momentum'"),
    "training an int": (lambda f: f(X, ZEROS, ONES, training=1), "argument 'training'"),
    "statistics that require grad": (
        lambda f: f(X, ZEROS.clone().requires_grad_(), ONES),
        "not differentiable with respect to argument 'running_mean'. This input cannot have requires_grad True",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call_raises_as_torch_does(name):
    call, phrase = BAD_CALLS[name]
    try:
        call(F.batch_norm)
    except Exception as error:
        theirs = error
    else:
        pytest.skip(f"torch {torch.__version__} accepts this")
    with pytest.raises(type(theirs)) as ours:
        call(batch_norm)
    assert ours.type is type(theirs)
    if phrase is not None:
        assert phrase in str(theirs)
        assert phrase in str(ours.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("weight too long", ["(4, 3, 2)", "3 channels"]),
        (
            "two dtypes of statistics",
            ["running_mean is torch.float64", "running_var is torch.float32", "Give them all"],
        ),
        ("bfloat16 beside half", ["as torch.bfloat16 or all as torch.float32"]),
        ("one value", ["torch.Size([1, 3, 1])", "larger batch", ".eval()"]),
        ("evaluation without statistics", ["training=True"]),
        ("integers", ["torch.int64", "float32"]),
        ("one axis", ["(3,)", "(N, C, ...)"]),
        ("two devices", ["same device", "cpu", "meta"]),
        ("momentum None", ["momentum=None"]),
    ],
)
def test_error_says_what_was_given_and_what_to_do(name, says):
    with pytest.raises(Exception) as error:
        BAD_CALLS[name][0](batch_norm)
    for phrase in says:
        assert phrase in str(error.value)


def test_matrix_for_a_vector():
    with pytest.raises(RuntimeError, match=r"weight should contain 3 elements not \(3, 1\)"):
        batch_norm(X, ZEROS, ONES, torch.ones(3, 1))


def test_a_refused_batch_leaves_the_running_statistics_alone():
    running_mean, running_var = torch.zeros(3), torch.ones(3)
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_norm(torch.randn(1, 3), running_mean, running_var, training=True)
    assert running_mean.eq(0).all() and running_var.eq(1).all()


# Properties, on inputs that hypothesis draws


@st.composite
def batches(draw, min_values=2):
    """A float64 batch of 1 to 4 channels and rank 2 to 5, with at least `min_values` values per channel."""
    n = draw(st.integers(min_values, 6))
    shape = (n, draw(st.integers(1, 4)), *draw(st.lists(st.integers(1, 3), max_size=3)))
    x, *_ = make(shape, seed=draw(st.integers(0, 2**16)))
    location, scale = draw(st.floats(-100, 100)), draw(st.floats(0.1, 100))
    return x * scale + location


def normalize(x, eps=1e-30):
    return batch_norm(x, None, None, training=True, eps=eps)


def per_channel(x):
    return x.transpose(0, 1).flatten(1)


@settings(max_examples=50)
@given(x=batches())
def test_output_has_mean_0_and_variance_just_below_1(x):
    var = per_channel(x).var(1, correction=0)
    rows = per_channel(normalize(x, eps=0.1))
    torch.testing.assert_close(rows.mean(1), torch.zeros_like(var), rtol=0, atol=1e-10)
    torch.testing.assert_close(rows.var(1, correction=0), var / (var + 0.1), rtol=1e-9, atol=1e-10)


@settings(max_examples=50)
@given(x=batches(min_values=3), scale=st.floats(0.1, 1e3), shift=st.floats(-1e3, 1e3))
def test_scale_and_shift_of_a_channel_do_not_matter_but_its_sign_does(x, scale, shift):
    torch.testing.assert_close(normalize(x * scale + shift), normalize(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normalize(-x * scale + shift), -normalize(x), rtol=1e-6, atol=1e-6)


@settings(max_examples=50)
@given(x=batches(), seed=st.integers(0, 2**16))
def test_permutations_of_examples_and_of_channels_go_through(x, seed):
    generator = torch.Generator().manual_seed(seed)
    for axis in range(2):
        order = torch.randperm(x.shape[axis], generator=generator)
        torch.testing.assert_close(normalize(x.index_select(axis, order)), normalize(x).index_select(axis, order))


@settings(max_examples=50)
@given(x=batches())
def test_every_rank_is_the_dense_case_after_a_reshape(x):
    rows = per_channel(normalize(per_channel(x).t()))
    torch.testing.assert_close(per_channel(normalize(x)), rows)


@settings(max_examples=50)
@given(x=batches())
def test_gamma_and_beta_can_undo_the_normalization(x):
    var, mean = torch.var_mean(per_channel(x), 1, correction=0)
    y = batch_norm(x, None, None, (var + 1e-5).sqrt(), mean, True, eps=1e-5)
    torch.testing.assert_close(y, x, rtol=1e-10, atol=1e-10)


@settings(max_examples=50)
@given(x=batches(min_values=3))
def test_gradient_in_training_is_orthogonal_to_constants_and_to_the_input(x):
    """Because shifting or scaling a channel does not change the output, no gradient points that way."""
    (x,) = leaf(x)
    (dx,) = grads(normalize(x), (x,))
    rows, dx = per_channel(x.detach()), per_channel(dx)
    unit = dx.shape[1] ** 0.5 / rows.std(1, correction=0)  # the size of gamma / std * dy, before projection
    assert (dx.sum(1).abs() <= 1e-9 * unit).all()
    assert ((dx * rows).sum(1).abs() <= 1e-9 * unit * rows.norm(dim=1)).all()


# torch's machinery: autocast, compile, transforms


@MODES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_autocast_leaves_dtypes_as_torch_does(dtype, training):
    results = []
    for function in (batch_norm, F.batch_norm):
        args = make((4, 3, 5), dtype, torch.float64 if dtype == torch.float64 else torch.float32)
        x, weight, bias = leaf(args[0], *args[3:])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = function(x, *args[1:3], weight, bias, training)
        results.append([y.detach(), *args[1:3], *torch.autograd.grad(y, (x, weight, bias), torch.ones_like(y))])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(results[0], results[1], rtol=20 * eps, atol=20 * eps)


def compiled_and_not(compiled, shape=(4, 3, 5, 5), **options):
    results = []
    for function in (batch_norm, compiled):
        args = make(shape, torch.float32)
        x, weight, bias = leaf(args[0], *args[3:])
        y = function(x, *args[1:3], weight, bias, **options)
        results.append([y.detach(), *args[1:3], *grads(y, (x, weight, bias))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@MODES
def test_compiles_into_one_graph(training):
    torch._dynamo.reset()
    compiled_and_not(torch.compile(batch_norm, backend="aot_eager", fullgraph=True), training=training)


def test_compiled_for_dynamic_shapes_it_is_compiled_once():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(batch_norm, backend=backend, fullgraph=True, dynamic=True)
    for n in (5, 6, 9):
        compiled_and_not(compiled, (n, 3, n + 2, 4), training=True)
    assert len(graphs) == 1


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # in torch's own imports
def test_inductor_agrees_and_stays_accurate_far_from_zero():
    torch._dynamo.reset()
    compiled = torch.compile(batch_norm, fullgraph=True)
    x, _, _, weight, bias = make((8, 3, 32, 32), torch.float32, mean=1e4)
    x, weight, bias = leaf(x.contiguous(memory_format=torch.channels_last), weight, bias)
    y = compiled(x, None, None, weight, bias, True)
    y64 = definition(x, None, None, weight, bias, True)[0]
    torch.testing.assert_close(y.double(), y64, rtol=1e-5, atol=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        grads(y, (x, weight, bias)), grads(y64, (x, weight, bias)), rtol=1e-4, atol=1e-4, check_dtype=False
    )


def test_meta_tensors_have_the_right_shape():
    x, *vectors = (v.to("meta") for v in make((4, 3, 5)))
    y = batch_norm(x, *vectors, training=True)
    assert y.is_meta and y.shape == x.shape


@MODES
def test_transforms_grad_and_vmap(training):
    x, running_mean, running_var, weight, bias = make((4, 3, 5))

    def loss(function):
        statistics = running_mean.clone(), running_var.clone()
        gradient = torch.func.grad(lambda w: function(x, *statistics, w, bias, training).pow(3).sum())(weight)
        return gradient, statistics

    torch.testing.assert_close(loss(batch_norm), loss(F.batch_norm))
    many = torch.stack([make((4, 3, 5, 2), seed=s)[0] for s in range(3)])
    statistics = (None, None) if training else (running_mean, running_var)
    together = torch.func.vmap(lambda x: batch_norm(x, *statistics, weight, bias, training))(many)
    torch.testing.assert_close(
        together, torch.stack([batch_norm(x, *statistics, weight, bias, training) for x in many])
    )


def test_forward_mode_says_that_it_is_not_there():
    x = make((4, 3))[0]
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(lambda x: batch_norm(x, None, None, training=True), (x,), (x,))


# The choice of a backend


def test_chosen_backend_computes_values_and_first_derivatives_and_eager_the_rest(monkeypatch):
    calls = []

    def recorder(name):
        def function(*args):
            calls.append(name)
            return getattr(eager, name)(*args)

        return function

    spy = types.SimpleNamespace(forward=recorder("forward"), backward=recorder("backward"))
    monkeypatch.setattr("bnlab.functional.choose", lambda *tensors: spy)
    (x,) = leaf(make((4, 3))[0])
    batch_norm(x, None, None, training=True).pow(2).sum().backward()
    assert calls == ["forward", "backward"]
    calls.clear()
    y = batch_norm(x, None, None, training=True)
    torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    assert calls == ["forward"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_every_choice_is_a_backend(dtype):
    backend = backends.choose(torch.zeros(2, 3, dtype=dtype))
    y, mean, var = backend.forward(copy.deepcopy(make((4, 3), dtype)[0]), None, None, None, None, 1e-5)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, wide, wide)
    dx, dgamma, dbeta = backend.backward(y, make((4, 3), dtype)[0], None, mean, var, 1e-5, True)
    assert (dx.dtype, dgamma.dtype, dbeta.dtype) == (dtype, wide, wide)
