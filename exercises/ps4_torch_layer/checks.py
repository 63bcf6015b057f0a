"""Checks of problem set 4, a batch normalization layer for torch.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Expected values are
NumPy formulas in float64, or come from `bnlab.reference` and, for second derivatives, from `bnlab.functional`: torch's
own batch normalization is no judge of others. A named mistake is a wrong value that the hint explains.
"""

import contextlib
from functools import partial

import numpy as np
import torch

import bnlab.functional
from bnlab.checks import ProblemSet, Wrong, agree, holds
from bnlab.reference import batch_norm_backward, batch_norm_forward

problem_set = ProblemSet("ps4_torch_layer")

# The first gradient makes torch import a good deal more. That takes seconds, and they shouldn't count for an answer.
_ONE = torch.ones(1, requires_grad=True)
torch.autograd.grad(_ONE * 1, _ONE, torch.ones(1))

# Difference allowed, relative to the largest expected value: a right computation in float32 stays well within it,
# every mistake looked for is farther off.
NEAR = 2e-4

TINY = 1e-8  # an eps too small to matter, for the parts that don't ask where it goes

HALF = (torch.float16, torch.bfloat16)


# ------------------------------------------------------------------------------------------------------- the inputs
def sizes(rng, count):
    """Different axis lengths, so that a mixed-up axis shows."""
    return [3 + int(size) for size in rng.permutation(5)[:count]]


def other_shapes(rng):
    """Dense, a sequence, a volume: the parts that don't ask for other ranks take images."""
    return [tuple(sizes(rng, axes)) for axes in (2, 3, 5)]


def away_from_zero(rng, low, high, size):
    return (1 - 2 * rng.integers(2, size=size)) * rng.uniform(low, high, size)


def tensor(array, dtype=torch.float32):
    return torch.from_numpy(np.asarray(array, dtype=np.float64)).to(dtype)


def batch(rng, shape, dtype=torch.float32):
    """A batch whose channels have their own means and spreads, and whose examples and positions differ in level."""
    x = rng.normal(size=shape)
    if len(shape) > 2:
        x = x + rng.normal(size=(shape[0], 1, *[1] * (len(shape) - 2))) + rng.normal(size=shape[2:])
    c = shape[1]
    mean, std = per_channel(x, away_from_zero(rng, 2, 6, c), rng.uniform(1.5, 3, c))
    return tensor(mean + std * x, dtype)


def vector(rng, low, high, c, dtype=torch.float32):
    """A vector of shape (C,), its values away from 0 and of both signs."""
    return tensor(away_from_zero(rng, low, high, c), dtype)


def positive(rng, low, high, c, dtype=torch.float32):
    return tensor(rng.uniform(low, high, c), dtype)


def noise(rng, shape, dtype=torch.float32):
    """A gradient that comes from above: nothing regular about it."""
    return tensor(rng.normal(size=shape) + 0.5, dtype)


def vector_dtype(dtype):
    return torch.float32 if dtype in HALF else dtype


# --------------------------------------------------------------------------------------------------- what is expected
def exact(value):
    """The numbers of a tensor as a float64 array; None stays None."""
    return None if value is None else value.detach().double().numpy()


def per_channel(x, *values):
    """Views of shape (C, 1, ..., 1), which NumPy lines up with the channels of x. None stays None."""
    return [None if value is None else value.reshape(-1, *[1] * (np.ndim(x) - 2)) for value in values]


def as_tensor(array):
    """What a student should return: `agree` then asks for a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))


def trained(x, gamma, beta, eps):
    """y of a training batch by the reference, and its cache: mu, var, inv_std, x_hat, m."""
    y, cache = batch_norm_forward(exact(x), exact(gamma), exact(beta), eps=eps)
    return as_tensor(y), cache


def normalized(x, mean, var, gamma, beta, eps):
    """y with given statistics: tensors, or arrays of float64."""
    x, mean, var, gamma, beta = (exact(v) if isinstance(v, torch.Tensor) else v for v in (x, mean, var, gamma, beta))
    mean, var, gamma, beta = per_channel(x, mean, var, gamma, beta)
    y = (x - mean) / np.sqrt(var + eps)
    return as_tensor((1 if gamma is None else gamma) * y + (0 if beta is None else beta))


def transform_mistakes(x, mean, var, gamma, beta, eps):
    """What y becomes through a slip in the formula gamma * (x - mean) / sqrt(var + eps) + beta."""
    given = [exact(v) if isinstance(v, torch.Tensor) else v for v in (x, mean, var, gamma, beta)]
    x, own_mean, own_var = given[0], *moments(given[0])
    mean, var, gamma, beta, own_mean, own_var = per_channel(x, *given[1:], own_mean, own_var)
    gamma, beta = 1.0 if gamma is None else gamma, 0.0 if beta is None else beta
    x_hat = (x - mean) / np.sqrt(var + eps)
    mistakes = {
        "This normalizes x with its own mean and variance. Use those that belong here.": (
            gamma * (x - own_mean) / np.sqrt(own_var + eps) + beta
        ),
        "This divides by the variance. Divide by its square root.": gamma * (x - mean) / (var + eps) + beta,
        "eps was added outside the root. It belongs to the variance, inside: sqrt(var + eps).": (
            gamma * (x - mean) / (np.sqrt(var) + eps) + beta
        ),
        "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": (
            gamma * (x - mean) / np.sqrt(var) + beta
        ),
        "This is x_hat. Multiply it by gamma and add beta.": x_hat,
        "beta is missing: add it at the end.": gamma * x_hat,
        "gamma is missing: multiply x_hat by it.": x_hat + beta,
        "beta must be added after gamma has multiplied, not before.": gamma * (x_hat + beta),
        "gamma and beta have swapped their places.": beta * x_hat + gamma,
    }
    c = given[1].size
    if x.ndim > 2 and x.shape[-1] == c:
        mean, var, gamma, beta = (None if v is None else v.reshape(c) for v in given[1:])
        gamma, beta = 1.0 if gamma is None else gamma, 0.0 if beta is None else beta
        mistakes[LINED_UP] = gamma * (x - mean) / np.sqrt(var + eps) + beta
    return mistakes


LINED_UP = (
    "The vectors met the last axis of x: torch lines shapes up from the right. Give each the view (C, 1, ..., 1), "
    "with one 1 per position axis."
)


def moments(x):
    axes = (0, *range(2, x.ndim))
    return x.mean(axis=axes), x.var(axis=axes)


# ------------------------------------------------------------------------------------------------ what went wrong
CLUES = {
    "view size is not compatible": "`.view` needs values that lie in memory in the order of the axes. Those of a "
    "channels_last or transposed tensor don't: average over several axes at once, or use `.reshape`.",
    "incorrect number of gradients": "backward returns one value per argument of forward: dx, dgamma, dbeta, and None "
    "for eps.",
    "gradient different than None": "gamma and beta are None here, so there is nothing to return a gradient for. "
    "Compute each gradient only if ctx.needs_input_grad[i], and return None otherwise.",
    "invalid gradient": "A gradient has the shape of its argument: dgamma and dbeta have shape (C,), summed over all "
    "axes but 1. Are the gradients in the order of forward's arguments?",
    "must match the size": LINED_UP,
    "must match the existing size": LINED_UP,
    "is invalid for input of size": "The view doesn't fit. -1 stands for the channels: shape (-1, 1, ..., 1), with one "
    "1 per position axis.",
    "Dimension out of range": "Not every input has four axes: find them from x.dim().",
    "leaf Variable that requires grad": "Something is changed in place that gradients are asked for. The arguments are "
    "the caller's: compute a new tensor. A buffer is changed under torch.no_grad().",
    "modified by an inplace operation": "A tensor that the backward pass needs was changed in place.",
    "NoneType": "Something is None that the code computes with. gamma, beta and momentum may be None; so may be what "
    "a layer doesn't learn or track: ask `is not None` first.",
    "cannot assign": "A buffer is a tensor: `register_buffer(name, tensor)` in __init__, changed in place later.",
    "Missing key(s) in state_dict": "The state_dict must have the same names as torch's, no more and no fewer.",
    "Unexpected key(s) in state_dict": "The state_dict must have the same names as torch's, no more and no fewer.",
    "ZeroDivisionError": "The first batch is number 1: count it before you divide by the count.",
}


@contextlib.contextmanager
def clues():
    """Where a call raised an error, add what the error's message means here."""
    try:
        yield
    except Wrong as wrong:
        clue = next((text for key, text in CLUES.items() if key in wrong.message), "")
        if wrong.final or not clue:
            raise
        raise Wrong(wrong.message, f"{clue} {wrong.hint}".strip()) from None


def has_dtype(name, given, dtype, hint):
    """Whether a tensor has this dtype. That it is no tensor at all, `agree` says."""
    if isinstance(given, torch.Tensor):
        short = str(dtype).removeprefix("torch.")
        holds(
            given.dtype == dtype, f"{name} has dtype {str(given.dtype).removeprefix('torch.')}, expected {short}.", hint
        )


# --------------------------------------------------------------------------------------------- 1. channel_statistics
channel_statistics = problem_set.question("channel_statistics(x) -> mean, var", points=12)


def over_other_axes(x, moment):
    """What `moment` (np.mean or np.var) gives over other axes."""
    c, positions = x.shape[1], tuple(range(2, x.ndim))
    mistakes = {
        "This is one number for the whole batch. Every channel has its own.": moment(x),
        "This reshapes (N, C, ...) to (C, N * ...), which doesn't swap axes: the values of different channels are "
        "mixed. Move axis 1 to the front first, or average over several axes at once.": (
            moment(x.reshape(c, -1), axis=1)
        ),
        "It has extra axes of length 1, as keepdim=True leaves them. Drop them at the end: .view(-1).": (
            moment(x, axis=(0, *positions), keepdims=True)
        ),
        "This keeps the examples. The channels are axis 1: keep those.": moment(x, axis=tuple(range(1, x.ndim))),
    }
    if positions:
        mistakes |= {
            "This is a statistic of every pixel: it averages over the examples only. All positions of a channel share "
            "one: average over the positions, too.": moment(x, axis=0),
            "This is a statistic of each channel of each example: average over the examples, too.": (
                moment(x, axis=positions)
            ),
            "This keeps the last axis. The channels are axis 1.": moment(x, axis=tuple(range(x.ndim - 1))),
        }
    return mistakes


def variance_mistakes(x):
    axes = (0, *range(2, x.ndim))
    mistakes = {
        "This divides by m - 1, which is torch's default (correction=1). Normalization wants the biased variance: "
        "divide by m.": x.var(axis=axes, ddof=1),
        "This is the standard deviation. The variance is its square.": x.std(axis=axes),
        "This is the mean of x**2. Subtract the mean from x before you square.": (x**2).mean(axis=axes),
    }
    if x.ndim > 2:
        text = "This is the mean of the variances within each example. It misses that examples differ in level."
        mistakes[text] = x.var(axis=axes[1:]).mean(axis=0)
    return mistakes | over_other_axes(x, np.var)


def check_statistics(student, x):
    mean, var = student(x)
    wide = exact(x)
    expected_mean, expected_var = map(as_tensor, moments(wide))
    agree("mean", mean, expected_mean, mistakes=partial(over_other_axes, wide, np.mean), tolerance=NEAR)
    agree("var", var, expected_var, mistakes=partial(variance_mistakes, wide), tolerance=NEAR)


@channel_statistics.part("mean and variance of images", weight=4)
@clues()
def _(student, rng):
    check_statistics(student, batch(rng, sizes(rng, 4)))


@channel_statistics.part("any rank", weight=2, most_cases=1)
@clues()
def _(student, rng):
    for shape in other_shapes(rng):
        check_statistics(student, batch(rng, shape))


@channel_statistics.part("any order in memory", weight=1)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    for variant in (x.to(memory_format=torch.channels_last), x.transpose(0, 2)):
        mean, _ = student(variant)
        wide = exact(variant)
        agree(
            "mean", mean, as_tensor(moments(wide)[0]), mistakes=partial(over_other_axes, wide, np.mean), tolerance=NEAR
        )


@channel_statistics.part("half precision: computed and returned in float32", weight=3)
@clues()
def _(student, rng):
    # 2048 values per channel: biased or unbiased makes no difference here. Squares overflow float16, sums do as well.
    (c,) = sizes(rng, 1)
    x64 = rng.normal(size=(8, c, 16, 16)) * rng.uniform(300, 500, (c, 1, 1)) + away_from_zero(rng, 500, 900, (c, 1, 1))
    for dtype in HALF:
        x = tensor(x64, dtype)
        mean, var = student(x)
        for name, given, expected in zip(("mean", "var"), (mean, var), map(as_tensor, moments(exact(x))), strict=True):
            has_dtype(
                name, given, torch.float32, "A half input is converted first, x.float(), and its statistics stay so."
            )
            agree(
                name,
                given,
                expected,
                mistakes=partial(over_other_axes, exact(x), np.mean if name == "mean" else np.var),
                tolerance=2e-3,
                hint=f"x is {str(dtype).removeprefix('torch.')}. Something was computed in it before the conversion: "
                "float16 ends at 65504, and both keep 3 digits at most. Convert x itself, x.float(), before all else.",
            )


@channel_statistics.part("the dtype of a full-precision input stays", weight=1, counts_alone=False, most_cases=1)
@clues()
def _(student, rng):
    for dtype in (torch.float32, torch.float64):
        for name, given in zip(("mean", "var"), student(batch(rng, sizes(rng, 4), dtype)), strict=True):
            has_dtype(name, given, dtype, "Convert half inputs only.")


@channel_statistics.part("variance of a channel with a large mean", weight=2)
@clues()
def _(student, rng):
    # With 256 values and a tolerance of 2%, dividing by m - 1 passes here.
    x = tensor(rng.normal(size=(4, 3, 8, 8)) * rng.uniform(1, 1.5, (3, 1, 1)) + 1e4)
    _, var = student(x)
    hint = (
        "Rounding. The mean of x**2 is near 1e8 here, and float32 keeps 7 digits of it: subtracting mean**2 leaves "
        "nothing of a variance near 1. Subtract the mean from x first, then square."
    )
    centered = exact(x) - 1e4  # exact
    agree(
        "var",
        var,
        as_tensor(moments(centered)[1]),
        mistakes=partial(variance_mistakes, centered),
        tolerance=0.02,
        hint=hint,
    )


@channel_statistics.part("gradient flows through both", weight=2)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    c = x.shape[1]
    a, b = vector(rng, 1, 2, c), vector(rng, 1, 2, c)
    wide = exact(x)
    m = wide.size // c
    mean, above_mean, above_var = per_channel(wide, moments(wide)[0], exact(a), exact(b))
    missing = (
        "No gradient gets from {} to x. Was it computed under torch.no_grad(), detached, or taken from .data or "
        ".numpy()? Backward would then treat it as a constant."
    )
    _, (through_mean,) = student.vjp((x,), (a, None))
    expected = as_tensor(np.broadcast_to(above_mean / m, wide.shape))
    agree("the gradient through mean", through_mean, expected, tolerance=NEAR, hint=missing.format("mean"))
    _, (through_var,) = student.vjp((x,), (None, b))
    expected = 2 * above_var * (wide - mean) / m
    mistakes = {"This is the gradient of the unbiased variance: divide by m, not m - 1.": expected * m / (m - 1)}
    agree(
        "the gradient through var",
        through_var,
        as_tensor(expected),
        mistakes=mistakes,
        tolerance=NEAR,
        hint=missing.format("var") if through_var is None else "It is 2 (x - mean) / m for each value.",
    )


channel_statistics.keeps_its_inputs(lambda rng: (batch(rng, sizes(rng, 4)),))


# ------------------------------------------------------------------------------------------------------ 2. normalize
normalize = problem_set.question("normalize(x, mean, var, gamma, beta, eps) -> y", points=10)


def normalize_arguments(rng, shape, dtype=torch.float32, eps=TINY):
    """A batch, and statistics that aren't its own, as in evaluation."""
    c, wide = shape[1], vector_dtype(dtype)
    statistics = vector(rng, 2, 6, c, wide), positive(rng, 2, 8, c, wide)
    return batch(rng, shape, dtype), *statistics, vector(rng, 1.5, 3, c, wide), vector(rng, 1, 4, c, wide), eps


@normalize.part("normalizes, scales and shifts images", weight=4)
@clues()
def _(student, rng):
    n, c, h = sizes(rng, 3)
    given = normalize_arguments(rng, (n, c, h, c))  # as many columns as channels: no error stops a mixed-up axis
    agree("y", student(*given), normalized(*given), mistakes=partial(transform_mistakes, *given), tolerance=NEAR)


@normalize.part("any rank", weight=2, most_cases=1)
@clues()
def _(student, rng):
    for shape in other_shapes(rng):
        given = normalize_arguments(rng, shape)
        agree("y", student(*given), normalized(*given), mistakes=partial(transform_mistakes, *given), tolerance=NEAR)


@normalize.part("eps inside the square root", weight=1)
@clues()
def _(student, rng):
    given = normalize_arguments(rng, sizes(rng, 4), eps=float(rng.uniform(2, 4)))
    agree("y", student(*given), normalized(*given), mistakes=partial(transform_mistakes, *given), tolerance=NEAR)


@normalize.part("the dtype of x; half precision computed in float32", weight=2)
@clues()
def _(student, rng):
    n, c = sizes(rng, 2)
    # Halfway between two neighbors near 100, so that rounding the mean to half precision moves all of x_hat.
    for dtype, mean, tolerance in (
        (torch.float64, 100.0, NEAR),
        (torch.float32, 100.0, NEAR),
        (torch.float16, 100 + 2**-5, 3e-3),
        (torch.bfloat16, 100.25, 1.2e-2),
    ):
        wide = vector_dtype(dtype)
        x = tensor(100 + rng.normal(size=(n, c)), dtype)
        one = torch.ones(c, dtype=wide)
        given = x, mean * one, positive(rng, 0.5, 1, c, wide), 2 * one, one / 8, TINY
        y = student(*given)
        has_dtype("y", y, dtype, "y has the dtype of x: end with .to(x.dtype).")
        name = str(dtype).removeprefix("torch.")
        hint = (
            f"x is {name} and the vectors are float32. Something was rounded to {name} too early, such as the mean: "
            "keep the vectors as they are, and convert once, at the end."
        )
        mistakes = partial(transform_mistakes, *given)
        agree("y", y, normalized(*given), mistakes=mistakes, tolerance=tolerance, hint=hint if dtype in HALF else "")


@normalize.part("the memory format of x", weight=1, counts_alone=False, most_cases=1)
@clues()
def _(student, rng):
    x, *rest = normalize_arguments(rng, sizes(rng, 4))
    for name, memory_format in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        y = student(x.to(memory_format=memory_format), *rest)
        agree("y", y, normalized(x, *rest), mistakes=partial(transform_mistakes, x, *rest), tolerance=NEAR)
        holds(
            y.is_contiguous(memory_format=memory_format),
            f"x is {name}, but y isn't: it has shape {tuple(y.shape)} and strides {y.stride()}.",
            "Elementwise operations with vectors of view (C, 1, 1) keep the memory format. .contiguous(), reshape, a "
            "transpose or a fresh torch.empty in the computation lose it.",
        )


@normalize.part("gamma or beta may be None", weight=1)
@clues()
def _(student, rng):
    x, mean, var, gamma, beta, eps = normalize_arguments(rng, sizes(rng, 4))
    for g, b in ((None, beta), (gamma, None), (None, None)):
        given = x, mean, var, g, b, eps
        agree("y", student(*given), normalized(*given), mistakes=partial(transform_mistakes, *given), tolerance=NEAR)


normalize.keeps_its_inputs(lambda rng: normalize_arguments(rng, sizes(rng, 4)))


# ---------------------------------------------------------------------------------------------- 3. BatchNormFunction
SIGNATURE = "(x, gamma, beta, eps) -> y"
BatchNormFunction = problem_set.question(f"BatchNormFunction{SIGNATURE}", points=19)


def function_arguments(rng, shape, dtype=torch.float32, eps=TINY):
    c, wide = shape[1], vector_dtype(dtype)
    return batch(rng, shape, dtype), vector(rng, 1.5, 3, c, wide), vector(rng, 1, 4, c, wide), eps


def training_mistakes(x, gamma, beta, eps):
    cache = trained(x, gamma, beta, eps)[1]
    unbiased = cache.var * cache.m / (cache.m - 1)
    return {
        "This normalizes with the unbiased variance (m - 1), torch's default in x.var(). Divide by m: correction=0.": (
            normalized(x, cache.mu, unbiased, gamma, beta, eps)
        )
    } | transform_mistakes(x, cache.mu, cache.var, gamma, beta, eps)


def both_passes(x, gamma, beta, eps, dy):
    """y, dx, dgamma, dbeta by the reference; the last two also where gamma and beta are None."""
    one = np.ones(x.shape[1])
    gamma, beta = (one if gamma is None else exact(gamma)), (0 * one if beta is None else exact(beta))
    y, cache = batch_norm_forward(exact(x), gamma, beta, eps=eps)
    return tuple(map(as_tensor, (y, *batch_norm_backward(exact(dy), cache))))


def gradients(x, gamma, beta, eps, dy):
    """dx, dgamma, dbeta by the reference."""
    return both_passes(x, gamma, beta, eps, dy)[1:]


def dx_mistakes(x, gamma, beta, eps, dy):
    cache, dy = trained(x, gamma, beta, eps)[1], exact(dy)
    axes = (0, *range(2, dy.ndim))
    one = np.ones(x.shape[1])
    inv_std, g = per_channel(dy, cache.inv_std, one if gamma is None else exact(gamma))
    x_hat = cache.x_hat

    def total(a):
        return a.sum(axis=axes, keepdims=True)

    m = cache.m
    right = g * inv_std * (dy - total(dy) / m - x_hat * total(dy * x_hat) / m)
    return {
        "This treats mean and variance as constants. Both depend on x: two more terms belong to dx.": g * inv_std * dy,
        "The term of the variance is missing: x_hat times the mean of dx_hat * x_hat.": g
        * inv_std
        * (dy - total(dy) / m),
        "The term of the mean is missing: the mean of dx_hat.": g * inv_std * (dy - x_hat * total(dy * x_hat) / m),
        "gamma is missing in dx: dx_hat is gamma * dy.": right / g,
        "gamma is squared in dx: it belongs to dx_hat alone.": right * g,
        "The two terms are sums here. They are means: divide by m.": (
            g * inv_std * (dy - total(dy) - x_hat * total(dy * x_hat))
        ),
        "These means divide by N alone. They go over all m values of the channel.": (
            g * inv_std * (dy - total(dy) / len(dy) - x_hat * total(dy * x_hat) / len(dy))
        ),
        "1/sqrt(var + eps) is missing in dx.": right / inv_std,
        "This divides by the variance. Divide by its square root.": right * inv_std,
        "This has the wrong sign.": -right,
    }


def vector_gradient_mistakes(x, gamma, beta, eps, dy):
    """For dgamma and for dbeta."""
    _, dgamma, dbeta = map(exact, gradients(x, gamma, beta, eps, dy))
    cache, x, dy = trained(x, gamma, beta, eps)[1], exact(x), exact(dy)
    axes = (0, *range(2, dy.ndim))
    per_pixel = dy.ndim > 2
    swapped = "dgamma and dbeta have swapped their places: return dx, dgamma, dbeta, None."
    for_gamma = {
        swapped: dbeta,
        "This is the mean over the channel. Every value adds its part: dgamma is a sum.": dgamma / cache.m,
        "This is the sum of dy * x. The factor of gamma in y is x_hat, the normalized x.": (dy * x).sum(axis=axes),
        "This is the sum of dy * (x - mean): the factor of gamma in y is x_hat, divided by the standard deviation.": (
            dgamma / cache.inv_std
        ),
        "gamma multiplies dgamma here. The factor of gamma in y is x_hat alone, so dy stands beside it, not dx_hat.": (
            dgamma * (1 if gamma is None else exact(gamma))
        ),
    }
    for_beta = {
        swapped: dgamma,
        "This is the mean over the channel. Every value adds its part: dbeta is a sum.": dbeta / cache.m,
        "gamma multiplies dbeta here: it is the sum of dy, not of dx_hat.": dbeta
        * (1 if gamma is None else exact(gamma)),
    }
    if per_pixel:
        for_gamma["This sums over the examples only: sum over the positions, too."] = (dy * cache.x_hat).sum(axis=0)
        for_beta["This sums over the examples only: sum over the positions, too."] = dy.sum(axis=0)
    return for_gamma, for_beta


NO_GRADIENT = (
    "backward returned None for it, or the output has no graph. Return dx, dgamma, dbeta, None in the order of "
    "forward's arguments, each where ctx.needs_input_grad asks for it."
)


SAME_NUMBERS = "Is y right? x_hat and 1/sqrt(var + eps) are the same numbers in both passes."


def check_y(y, given, expected, tolerance=NEAR, hint=""):
    agree("y", y, expected, mistakes=partial(training_mistakes, *given), tolerance=tolerance, hint=hint)


def check_dx(dx, given, dy, expected, tolerance=NEAR, hint=SAME_NUMBERS):
    mistakes, why = partial(dx_mistakes, *given, dy), NO_GRADIENT if dx is None else hint
    agree("dx", dx, expected, mistakes=mistakes, tolerance=tolerance, hint=why)


def check_vectors(dgamma, dbeta, given, dy, expected, tolerance=NEAR, hint=SAME_NUMBERS):
    for which, (name, value) in enumerate((("dgamma", dgamma), ("dbeta", dbeta))):
        mistakes = partial(lambda which: vector_gradient_mistakes(*given, dy)[which], which)
        why = NO_GRADIENT if value is None else hint
        agree(name, value, expected[which], mistakes=mistakes, tolerance=tolerance, hint=why)


def check_all(y, found, given, dy, tolerance=NEAR, hint=SAME_NUMBERS):
    """y and the gradients with respect to x, gamma and beta."""
    expected_y, expected_dx, *expected_vectors = both_passes(*given, dy)
    check_y(y, given, expected_y, tolerance, hint)
    check_dx(found[0], given, dy, expected_dx, tolerance, hint)
    check_vectors(*found[1:3], given, dy, expected_vectors, tolerance, hint)


@BatchNormFunction.part("y", weight=3)
@clues()
def _(student, rng):
    given = function_arguments(rng, sizes(rng, 4), eps=float(rng.uniform(2, 4)))
    agree("y", student(*given), trained(*given)[0], mistakes=partial(training_mistakes, *given), tolerance=NEAR)


@BatchNormFunction.part("gradient with respect to x", weight=5)
@clues()
def _(student, rng):
    given = function_arguments(rng, sizes(rng, 4), eps=float(rng.uniform(0.1, 0.2)))
    dy = noise(rng, given[0].shape)
    _, (dx, *_) = student.vjp(given, dy)
    check_dx(dx, given, dy, gradients(*given, dy)[0])


@BatchNormFunction.part("gradients with respect to gamma and beta", weight=3)
@clues()
def _(student, rng):
    given = function_arguments(rng, sizes(rng, 4))
    dy = noise(rng, given[0].shape)
    _, (_, dgamma, dbeta, _) = student.vjp(given, dy)
    check_vectors(dgamma, dbeta, given, dy, gradients(*given, dy)[1:])


@BatchNormFunction.part("any rank", weight=2, most_cases=1)
@clues()
def _(student, rng):
    for shape in other_shapes(rng):
        given = function_arguments(rng, shape)
        dy = noise(rng, shape)
        check_all(*student.vjp(given, dy), given, dy)


@BatchNormFunction.part("gamma or beta may be None", weight=2, most_cases=1)
@clues()
def _(student, rng):
    x, gamma, beta, eps = function_arguments(rng, sizes(rng, 4))
    dy = noise(rng, x.shape)
    for g, b in ((None, beta), (gamma, None), (None, None)):
        given = x, g, b, eps
        y, (dx, *_) = student.vjp(given, dy)
        expected_y, expected_dx, *_ = both_passes(*given, dy)
        check_y(y, given, expected_y)
        check_dx(dx, given, dy, expected_dx)


@BatchNormFunction.part("eight digits in float64", weight=2)
@clues()
def _(student, rng):
    given = function_arguments(rng, sizes(rng, 4), torch.float64, eps=float(rng.uniform(0.1, 0.2)))
    dy = noise(rng, given[0].shape, torch.float64)
    answer = student.vjp(given, dy)
    hint = "Right to float32's seven digits only: convert half inputs to float32, and leave float64 alone."
    try:
        check_all(*answer, given, dy, tolerance=1e-8, hint=hint)
    except Wrong:
        check_all(*answer, given, dy)  # says more where it isn't a matter of digits
        raise


@BatchNormFunction.part("half precision", weight=1, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    for dtype in HALF:
        # Squares of these values overflow float16. dy is large enough that dx doesn't underflow.
        x = tensor(rng.normal(size=(16, c, 16)) * rng.uniform(300, 500, (c, 1)), dtype)
        given = x, vector(rng, 1.5, 3, c), vector(rng, 1, 4, c), TINY
        dy = noise(rng, x.shape, dtype) * 16
        hint = f"x is {str(dtype).removeprefix('torch.')}: compute in float32, both ways, convert at the end."
        y, found = student.vjp(given, dy)
        has_dtype("y", y, dtype, "y has the dtype of x: end forward with .to(x.dtype).")
        only_beta = np.broadcast_to(per_channel(exact(x), exact(given[2]))[0], x.shape)
        beta_alone = {f"This is beta alone: the variance became infinite. {hint}": only_beta}
        expected_y, expected_dx, *expected_vectors = both_passes(*given, dy)
        agree("y", y, expected_y, mistakes=beta_alone, tolerance=2e-2, hint=hint)
        check_dx(found[0], given, dy, expected_dx, 2e-2, hint)
        check_vectors(*found[1:3], given, dy, expected_vectors, 2e-2, hint)


BatchNormFunction.keeps_its_inputs(lambda rng: function_arguments(rng, sizes(rng, 4)))


# ------------------------------------------------------------------------------------------------- 4. BatchNormTwice
BatchNormTwice = problem_set.question(f"BatchNormTwice{SIGNATURE}", points=12)


def seconds(x, gamma, beta, eps, dy, v, u):
    """Derivatives of sum(dx * v) + sum(dgamma * u) with respect to x, gamma and dy."""
    x, gamma, beta, dy = (t.double().requires_grad_() for t in (x, gamma, beta, dy))
    y = bnlab.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
    dx, dgamma = torch.autograd.grad(y, (x, gamma), dy, create_graph=True)
    return torch.autograd.grad((dx * v).sum() + (dgamma * u).sum(), (x, gamma, dy))


def forgetful(x, gamma, beta, eps, dy, v, u):
    """What the second derivative with respect to x becomes where backward takes saved numbers for what depends on x."""
    cache, dy, v = trained(x, gamma, beta, eps)[1], exact(dy), exact(v)
    axes = (0, *range(2, dy.ndim))
    inv_std, g, above = per_channel(dy, cache.inv_std, exact(gamma), exact(u))

    def mean(a):
        return a.mean(axis=axes, keepdims=True)

    saved = (
        "The second derivative treats {} as a constant. forward computed it without a graph, so what comes back from "
        "saved_tensors has forgotten that it depends on x. Save x, and compute it again in backward."
    )
    both = inv_std * (above * dy - inv_std * g * (v * mean(dy * cache.x_hat) + dy * mean(v * cache.x_hat)))
    return {saved.format("mean and variance"): both, saved.format("the variance"): both - mean(both)}


CUT = (
    "Nothing that leads to {} is left in the graph of backward. Did backward take it from what forward had computed "
    "(saved tensors that aren't inputs), or use torch.no_grad(), .detach(), .data or once_differentiable?"
)


def twice(rng, kinds):
    """Arguments, dy and two directions, for a dense batch and for images."""
    for axes in kinds:
        given = function_arguments(rng, sizes(rng, axes), eps=float(rng.uniform(0.1, 0.2)))
        x, gamma, *_ = given
        yield given, noise(rng, x.shape), noise(rng, x.shape), vector(rng, 1, 2, len(gamma))


@BatchNormTwice.part("y and the first derivatives", weight=4, most_cases=2)
@clues()
def _(student, rng):
    for given, dy, _, _ in twice(rng, (2, 4)):
        check_all(*student.vjp(given, dy), given, dy)


@BatchNormTwice.part("second derivatives with respect to x", weight=5, most_cases=2)
@clues()
def _(student, rng):
    for given, dy, v, u in twice(rng, (2, 4)):
        expected = seconds(*given, dy, v, u)[0]
        second = student.vjp(given, dy, directions=(v, u, None, None))[2]
        mistakes = partial(forgetful, *given, dy, v, u)
        cut = CUT.format("x") if second[0] is None or not torch.any(second[0]) else ""
        agree("the derivative by x", second[0], expected, mistakes=mistakes, tolerance=NEAR, hint=cut)


@BatchNormTwice.part("second derivatives with respect to gamma and dy", weight=2, most_cases=2)
@clues()
def _(student, rng):
    for given, dy, v, u in twice(rng, (4,)):
        _, by_gamma, by_dy = seconds(*given, dy, v, u)
        second = student.vjp(given, dy, directions=(v, u, None, None))[2]
        for name, found, expected in (("gamma", second[1], by_gamma), ("dy", second[-1], by_dy)):
            agree(
                f"the derivative by {name}",
                found,
                expected,
                tolerance=NEAR,
                hint=CUT.format(name) if found is None else "",
            )


BatchNormTwice.keeps_its_inputs(lambda rng: function_arguments(rng, sizes(rng, 4)))


# ---------------------------------------------------------------------------------------------- 5. RunningStatistics
RunningStatistics = problem_set.question("RunningStatistics(num_features, momentum) -> statistics", points=15)

BUFFERS = {"running_mean": torch.float32, "running_var": torch.float32, "num_batches_tracked": torch.int64}


class Memory:
    """Holds on to what a module remembers, as an exponential average of a model does. Made on the student's side."""

    def __init__(self, module):
        self.module = module
        self.held = {name: getattr(module, name, None) for name in BUFFERS}

    def values(self):
        """The numbers in the tensors that were held on to."""
        return {name: value for name, value in self.held.items() if value is not None}

    def on_a_graph(self):
        """Names of what is part of a graph now."""
        now = {name: getattr(self.module, name, None) for name in BUFFERS}
        return [name for name, value in now.items() if isinstance(value, torch.Tensor) and value.grad_fn is not None]

    def parameters(self):
        """Names of what an optimizer would be given."""
        return [name for name, _ in self.module.named_parameters()]


def statistics_of(rng, c):
    """Mean and biased variance of a batch, away from those that a module starts with."""
    return vector(rng, 2, 6, c), positive(rng, 4, 9, c)


def blend_mistakes(old, new, momentum):
    mistakes = {
        "The weights are the other way round: momentum is the weight of the new batch here. (In Keras and Flax it is "
        "the weight of the old value.)": momentum * old + (1 - momentum) * new,
        "The old value must fade: multiply it by (1 - momentum).": old + momentum * new,
        "This is the batch's statistic alone; the old value is forgotten.": new,
        "This is the old value: the batch had no effect.": old,
        "momentum seems to be fixed at 0.1. Use the one that was given.": 0.9 * old + 0.1 * new,
    }
    if momentum == 0.0:
        text = (
            "momentum=0.0 was taken for None. It means that no batch counts. Ask `momentum is None`: 0.0 is false, too."
        )
        mistakes = {text: new} | mistakes
    return mistakes


def variance_blend_mistakes(old, var, m, momentum, n=None):
    """`var` is the biased variance of m values per channel, from n examples."""
    unbiased = var * m / (m - 1)
    mistakes = {
        "The biased variance went in. It is too small by a factor (m - 1) / m on average: correct it to the unbiased "
        "one first.": (1 - momentum) * old + momentum * var,
        "The correction is upside down: the unbiased variance is the larger of the two.": (
            (1 - momentum) * old + momentum * var * (m - 1) / m
        ),
        "This corrects an unbiased variance a second time: the factor m / (m - 1) belongs to the biased one.": (
            (1 - momentum) * old + momentum * unbiased * m / (m - 1)
        ),
        "The standard deviation went in. Running statistics keep the variance.": (
            (1 - momentum) * old + momentum * np.sqrt(unbiased)
        ),
        "The old running_var was corrected as well. Correct the batch's variance only.": (
            (1 - momentum) * old * m / (m - 1) + momentum * unbiased
        ),
    }
    if n is not None:
        mistakes["m is N alone here. For images a channel has N * H * W values."] = (
            1 - momentum
        ) * old + momentum * var * n / (n - 1)
    return mistakes | blend_mistakes(old, unbiased, momentum)


def average_mistakes(start, batches):
    """What comes out instead of the plain average of the batches' statistics, from the starting value `start`."""
    k = len(batches)

    def steps(weight):
        value = start
        for number, new in enumerate(batches, start=1):
            value = (1 - weight(number)) * value + weight(number) * new
        return value

    return {
        "The start counts as a batch here. The k-th batch has the weight 1/k, and the first is k = 1: count it before "
        "you divide.": steps(lambda number: 1 / (number + 1)),
        "momentum=None was taken for 0.1. It asks for the average of all batches: weight 1/k for the k-th.": (
            steps(lambda _: 0.1)
        ),
        "momentum=None was taken for 0. It asks for the average of all batches: weight 1/k for the k-th.": start,
        "Only the newest batch is left. The k-th batch has the weight 1/k: is the counter ever raised?": batches[-1],
        "This is the sum of the batches: the old value must fade by 1 - 1/k.": sum(batches),
        "The weights are the other way round: the k-th batch has the weight 1/k, the past 1 - 1/k.": (
            steps(lambda number: 1 - 1 / number)
        ),
        "This weighs the k-th batch by k over the number of batches.": steps(lambda number: number / k),
    }


def remembered(statistics, name):
    """A buffer of a student's module."""
    with clues():
        return statistics.get(name)


def same_state(name, given, expected, source):
    """Whether a state_dict has the entries, shapes and dtypes of `expected`."""
    holds(
        isinstance(given, dict) and all(isinstance(value, torch.Tensor) for value in given.values()),
        f"{name} is {given!r}, expected a dictionary of tensors.",
    )
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    found = f"{name} has {', '.join(given) or 'no entries'}"
    if missing:
        hint = "A buffer enters it by self.register_buffer(name, tensor), a plain attribute does not."
        if {"weight", "bias"} & set(missing):
            hint = "A plain tensor as attribute isn't learned and isn't saved: make it an nn.Parameter."
        raise Wrong(f"{found}; {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.", hint)
    holds(
        not extra,
        f"{found}; {', '.join(extra)} should not be there.",
        f"{source} Where a layer doesn't learn or track something, register it as None.",
    )
    for key, value in expected.items():
        short = str(value.dtype).removeprefix("torch.")
        hint = "It counts batches: an integer, torch.tensor(0), not a float." if key == "num_batches_tracked" else ""
        has_dtype(key, given[key], value.dtype, hint or f"{key} is {short} by default.")
        shape = tuple(given[key].shape)
        if shape != tuple(value.shape):
            hint = "A single number: torch.tensor(0), of shape ()." if not value.ndim else "One number per channel."
            raise Wrong(f"{key} has shape {shape}, expected {tuple(value.shape)}.", hint)


@RunningStatistics.part("the buffers: names, shapes, dtypes, starting values", weight=3, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    statistics = student(c, momentum=0.1)
    expected = {"running_mean": torch.zeros(c), "running_var": torch.ones(c), "num_batches_tracked": torch.tensor(0)}
    state = statistics.call("state_dict")
    same_state("state_dict()", state, expected, "There are three buffers.")
    for name, value in expected.items():
        agree(name, state[name], value, hint=f"It starts as {int(value.max())}.")
    learned = student.make("checks:Memory", statistics).call("parameters")
    holds(
        not learned,
        f"The optimizer would be handed {' and '.join(learned)}.",
        "What is remembered isn't learned: no nn.Parameter, but self.register_buffer(name, tensor).",
    )


@RunningStatistics.part("running mean", weight=3)
@clues()
def _(student, rng):
    for momentum in (float(rng.uniform(0.2, 0.4)), 0.0):
        (c,) = sizes(rng, 1)
        statistics, old = student(c, momentum=momentum), np.zeros(c)
        for _ in range(2):
            mean, var = statistics_of(rng, c)
            statistics.call("update", mean, var, 20)
            new = (1 - momentum) * old + momentum * exact(mean)
            mistakes = partial(blend_mistakes, old, exact(mean), momentum)
            found = remembered(statistics, "running_mean")
            agree("running_mean", found, as_tensor(new), mistakes=mistakes, tolerance=NEAR)
            old = new


@RunningStatistics.part("running variance, from the unbiased one", weight=3)
@clues()
def _(student, rng):
    # With equal weights the direction of momentum doesn't matter: the running mean's part asks for that.
    c, m = sizes(rng, 2)
    statistics, old = student(c, momentum=0.5), np.ones(c)
    for _ in range(2):
        mean, var = statistics_of(rng, c)
        statistics.call("update", mean, var, m)
        new = 0.5 * old + 0.5 * exact(var) * m / (m - 1)
        mistakes = partial(variance_blend_mistakes, old, exact(var), m, 0.5)
        agree("running_var", remembered(statistics, "running_var"), as_tensor(new), mistakes=mistakes, tolerance=NEAR)
        old = new


@RunningStatistics.part("momentum=None: the average of all batches", weight=3)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    m = 100_000  # so large that biased and unbiased are the same
    statistics, means, variances = student(c, momentum=None), [], []
    for _ in range(3):
        mean, var = statistics_of(rng, c)
        statistics.call("update", mean, var, m)
        means.append(exact(mean))
        variances.append(exact(var))
        for name, batches, start in (("running_mean", means, np.zeros(c)), ("running_var", variances, np.ones(c))):
            expected, mistakes = as_tensor(np.mean(batches, axis=0)), partial(average_mistakes, start, batches)
            agree(name, remembered(statistics, name), expected, mistakes=mistakes, tolerance=NEAR)


@RunningStatistics.part("counts the batches", weight=1, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    for momentum in (0.1, None):
        statistics = student(c, momentum=momentum)
        for _ in range(3):
            statistics.call("update", *statistics_of(rng, c), 20)
        hint = f"update was called 3 times, with momentum={momentum}. It adds 1 each time, whatever the momentum."
        agree("num_batches_tracked", remembered(statistics, "num_batches_tracked"), 3, hint=hint)


@RunningStatistics.part("in place", weight=1, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    statistics = student(c, momentum=0.5)
    memory = student.make("checks:Memory", statistics)
    statistics.call("update", *statistics_of(rng, c), 20)
    held = memory.call("values")
    for name in BUFFERS:
        holds(name in held, f"There is no {name}.", "Register three buffers in __init__.")
        now = remembered(statistics, name)
        start = 1.0 if name == "running_var" else 0.0
        if name != "num_batches_tracked":  # the count has a part of its own
            holds(
                not torch.all(now == start), f"{name} is still {start:g} after an update.", "update has to change it."
            )
        holds(
            torch.equal(held[name], now),
            f"{name} is another tensor after the update: whoever held on to the buffer still sees {start:g}.",
            "An assignment self.name = ... puts a new tensor in its place. Change its values: mul_, add_, copy_.",
        )


@RunningStatistics.part("no graph hangs on the buffers", weight=2, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    statistics = student(c, momentum=0.1)
    memory = student.make("checks:Memory", statistics)
    mean, var = statistics_of(rng, c)
    statistics.call("update", mean.requires_grad_(), var.requires_grad_(), 20)  # as they come from a training step
    hanging = memory.call("on_a_graph")
    holds(
        not hanging,
        f"{' and '.join(hanging)} became part of the graph of the training step.",
        "The graphs of all steps would stay in memory. Do the update inside `with torch.no_grad():`.",
    )
    found = remembered(statistics, "running_mean")
    holds(not torch.all(found == 0), "running_mean is still 0 after an update.", "update has to change it.")


@RunningStatistics.part("leaves its inputs as they were", weight=1, counts_alone=False, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    statistics = student(c, momentum=0.1)
    statistics.call("update", *statistics_of(rng, c), 20)
    changed = student.replies[-1].changed
    names = ("mean", "var", "m")
    holds(
        not changed,
        f"update changed its argument {' and '.join(names[key] for key in changed)} in place.",
        "The caller normalizes with these numbers: work in place on the buffers only.",
    )


problem_set.written("parameter_or_buffer", points=3)


# ------------------------------------------------------------------------------------------------------ 7. BatchNorm
BatchNorm = problem_set.question(
    "BatchNorm(num_features, eps, momentum, affine, track_running_stats) -> layer", points=17
)


class WithoutGradients:
    """Calls a layer while no gradients are recorded. Made on the student's side."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        with torch.no_grad():
            return self.layer(x)


def random_state(rng, c, affine=True, track_running_stats=True):
    """A state_dict with the entries of torch's own layer, and random values."""
    state = {"weight": vector(rng, 1.5, 3, c), "bias": vector(rng, 1, 4, c)} if affine else {}
    if track_running_stats:
        state |= {"running_mean": vector(rng, 2, 6, c), "running_var": positive(rng, 2, 8, c)}
        state["num_batches_tracked"] = torch.tensor(int(rng.integers(3, 9)))
    return state


def a_layer(student, rng, c, eps=TINY, momentum=0.1, **options):
    """A student's layer with random weights and statistics, and these."""
    layer = student(c, eps=eps, momentum=momentum, **options)
    state = random_state(rng, c, **options)
    layer.call("load_state_dict", state, strict=False)
    return layer, state


LOADED = "Before this batch, load_state_dict gave {} other values. Did it reach them? Then they are in the state_dict."


def layer_training_mistakes(x, state, eps):
    gamma, beta = state.get("weight"), state.get("bias")
    mistakes = training_mistakes(x, gamma, beta, eps)
    if gamma is not None:
        unlearned = "This is x_hat: weight and bias have no effect. " + LOADED.format("them")
        mistakes = {unlearned: trained(x, None, None, eps)[0]} | mistakes
    if "running_mean" in state:
        running = state["running_mean"], state["running_var"]
        mistakes = {
            "This normalizes with the running statistics. In training mode, those of the batch are used.": (
                normalized(x, *running, gamma, beta, eps)
            )
        } | mistakes
    return mistakes


def layer_evaluation_mistakes(x, state, eps):
    gamma, beta, mean, var = (state.get(name) for name in ("weight", "bias", "running_mean", "running_var"))
    return {
        "This normalizes with the statistics of the batch. In evaluation mode the running ones take their place, so "
        "that no output depends on the batch mates. The mode is self.training.": trained(x, gamma, beta, eps)[0],
        "The running statistics are still 0 and 1: load_state_dict didn't reach them. A plain attribute isn't part of "
        "the state: register_buffer.": normalized(x, torch.zeros_like(mean), torch.ones_like(var), gamma, beta, eps),
        "This is x_hat: weight and bias have no effect. " + LOADED.format("them"): normalized(
            x, mean, var, None, None, eps
        ),
    } | transform_mistakes(x, mean, var, gamma, beta, eps)


def check_running(layer, state, x, momentum):
    """The running statistics after one batch."""
    wide = exact(x)
    mean, var = moments(wide)
    m = wide.size // wide.shape[1]
    old_mean, old_var = exact(state["running_mean"]), exact(state["running_var"])
    new_mean = (1 - momentum) * old_mean + momentum * mean
    new_var = (1 - momentum) * old_var + momentum * var * m / (m - 1)
    mistakes, hint = partial(blend_mistakes, old_mean, mean, momentum), LOADED.format("running_mean and running_var")
    agree("running_mean", layer.get("running_mean"), as_tensor(new_mean), mistakes=mistakes, tolerance=NEAR, hint=hint)
    mistakes = partial(variance_blend_mistakes, old_var, var, m, momentum, wide.shape[0])
    agree("running_var", layer.get("running_var"), as_tensor(new_var), mistakes=mistakes, tolerance=NEAR)


@BatchNorm.part("the state_dict of torch's layer, both ways", weight=3, most_cases=1)
@clues()
def _(student, rng):
    (c,) = sizes(rng, 1)
    for options in ({}, {"affine": False}, {"track_running_stats": False}):
        own = torch.nn.BatchNorm2d(c, **options)
        layer = student(c, **options)
        name = (
            f"The state_dict() with {', '.join(f'{k}={v}' for k, v in options.items())}" if options else "state_dict()"
        )
        state = layer.call("state_dict")
        same_state(name, state, own.state_dict(), "torch's has no such entry.")
        for key, value in own.state_dict().items():
            agree(key, state[key], value, hint=f"It starts as {int(value.max())}.")
        own.load_state_dict(state)
        loaded = random_state(rng, c, **options)
        layer.call("load_state_dict", loaded)
        state = layer.call("state_dict")
        for key, value in loaded.items():
            agree(f"{key}, after load_state_dict,", state[key], value)
    learned = student.make("checks:Memory", student(c)).call("parameters")
    holds(
        sorted(learned) == ["bias", "weight"],
        f"The layer's parameters are {', '.join(learned) or 'none'}, expected weight and bias.",
        "weight and bias are learned: nn.Parameter. What is remembered isn't: register_buffer.",
    )


@BatchNorm.part("training: y", weight=2)
@clues()
def _(student, rng):
    x, eps = batch(rng, sizes(rng, 4)), float(rng.uniform(2, 4))
    layer, state = a_layer(student, rng, x.shape[1], eps=eps)
    expected = trained(x, state["weight"], state["bias"], eps)[0]
    y = layer.call("__call__", x)
    mistakes = partial(layer_training_mistakes, x, state, eps)
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR, hint=OWN_FUNCTIONS)


OWN_FUNCTIONS = "If you call your own functions here, make their checks pass first."


@BatchNorm.part("training: the running statistics and the count", weight=3)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    momentum = float(rng.uniform(0.2, 0.4))
    layer, state = a_layer(student, rng, x.shape[1], momentum=momentum)
    layer.call("__call__", x)
    check_running(layer, state, x, momentum)
    count = int(state["num_batches_tracked"])
    agree(
        "num_batches_tracked", layer.get("num_batches_tracked"), count + 1, hint=f"It was {count}: every batch adds 1."
    )


@BatchNorm.part("evaluation: y from the running statistics, which stay", weight=3)
@clues()
def _(student, rng):
    x, eps = batch(rng, sizes(rng, 4)), float(rng.uniform(2, 4))
    layer, state = a_layer(student, rng, x.shape[1], eps=eps)
    layer.call("eval")
    y = layer.call("__call__", x)
    mistakes = partial(layer_evaluation_mistakes, x, state, eps)
    expected = normalized(x, state["running_mean"], state["running_var"], state["weight"], state["bias"], eps)
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR, hint=OWN_FUNCTIONS)
    for name in BUFFERS:
        hint = "Evaluation trains the statistics: update them only if self.training."
        agree(f"{name} after an evaluation", layer.get(name), state[name], tolerance=NEAR, hint=hint)


@BatchNorm.part("the mode doesn't depend on recording gradients", weight=1, counts_alone=False, most_cases=1)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    for mode, momentum in (("train", 0.5), ("eval", 0.0)):  # so that nothing moves in evaluation, even by mistake
        layer, _ = a_layer(student, rng, x.shape[1], momentum=momentum)
        silent = student.make("checks:WithoutGradients", layer)
        layer.call(mode)
        before = layer.get("running_mean")
        without = silent.call("__call__", x)
        moved = not torch.equal(before, layer.get("running_mean"))
        hint = (
            f"After layer.{mode}(), the layer does something else inside torch.no_grad() than outside: the mode is "
            "self.training, which has nothing to do with recording gradients."
        )
        holds(moved or mode == "eval", "In training mode, under torch.no_grad(), running_mean stays as it is.", hint)
        agree("y under torch.no_grad()", without, layer.call("__call__", x), tolerance=NEAR, hint=hint)


@BatchNorm.part("gradients", weight=2, most_cases=2)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    layer, state = a_layer(student, rng, x.shape[1], eps=0.1)
    dy, given = noise(rng, x.shape), (x, state["weight"], state["bias"], 0.1)
    _, found = layer.vjp((x,), dy)
    for name in ("weight", "bias"):
        hint = f"{name} never learns: is it an nn.Parameter that takes part in y?"
        holds(found.get(name) is not None, f"There is no gradient for {name}.", hint)
    expected_dx, *expected_vectors = gradients(*given, dy)
    check_dx(found["0"], given, dy, expected_dx)
    check_vectors(found["weight"], found["bias"], given, dy, expected_vectors)
    layer.call("load_state_dict", state, strict=False)  # the training step moved the running statistics
    layer.call("eval")
    _, found = layer.vjp((x,), dy)
    gamma, var = per_channel(exact(x), exact(state["weight"]), exact(state["running_var"]))
    expected = as_tensor(gamma / np.sqrt(var + 0.1) * exact(dy))
    hint = "In evaluation the statistics are constants: dx = gamma / sqrt(running_var + eps) * dy."
    agree("dx in evaluation", found["0"], expected, tolerance=NEAR, hint=hint)


@BatchNorm.part("in place, without a graph", weight=1, most_cases=1)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    layer, _ = a_layer(student, rng, x.shape[1])
    memory = student.make("checks:Memory", layer)
    layer.vjp((x,), noise(rng, x.shape))
    hanging = memory.call("on_a_graph")
    holds(
        not hanging,
        f"{' and '.join(hanging)} became part of the graph of the training step.",
        "The graphs of all steps would stay in memory. Update the running statistics inside `with torch.no_grad():`.",
    )
    held = memory.call("values")
    for name in BUFFERS:
        holds(name in held, f"The layer has no {name}.", "Register three buffers in __init__.")
        holds(
            isinstance(held[name], torch.Tensor) and torch.equal(held[name], layer.get(name)),
            f"{name} is another tensor after a training step.",
            "An assignment self.name = ... puts a new tensor in its place. Change its values: mul_, add_, copy_.",
        )


@BatchNorm.part("affine=False, track_running_stats=False, momentum=None", weight=2, most_cases=1)
@clues()
def _(student, rng):
    x, other = batch(rng, sizes(rng, 4)), None
    layer, state = a_layer(student, rng, x.shape[1], affine=False)
    mistakes = partial(layer_training_mistakes, x, state, TINY)
    agree(
        "y with affine=False",
        layer.call("__call__", x),
        trained(x, None, None, TINY)[0],
        mistakes=mistakes,
        tolerance=NEAR,
    )

    layer, state = a_layer(student, rng, x.shape[1], track_running_stats=False)
    expected = trained(x, state["weight"], state["bias"], TINY)[0]
    for mode in ("train", "eval"):
        layer.call(mode)
        hint = "Without running statistics both modes normalize with the batch."
        name = f"y after {mode}(), with track_running_stats=False,"
        mistakes = partial(layer_training_mistakes, x, state, TINY)
        agree(name, layer.call("__call__", x), expected, mistakes=mistakes, tolerance=NEAR, hint=hint)

    layer, means = student(x.shape[1], momentum=None), []
    for _ in range(3):
        other = batch(rng, x.shape)
        layer.call("__call__", other)
        means.append(moments(exact(other))[0])
    mistakes = partial(average_mistakes, np.zeros(x.shape[1]), means)
    expected = as_tensor(np.mean(means, axis=0))
    agree("running_mean", layer.get("running_mean"), expected, mistakes=mistakes, tolerance=NEAR)


@BatchNorm.part("any rank, half precision, any memory format", weight=2, most_cases=1)
@clues()
def _(student, rng):
    n, c, *positions = sizes(rng, 5)
    layer, state = a_layer(student, rng, c, momentum=0.5)
    for axes in (0, 1, 3):
        x = batch(rng, (n, c, *positions[:axes]))
        y = layer.call("__call__", x)
        expected = trained(x, state["weight"], state["bias"], TINY)[0]
        agree("y", y, expected, mistakes=partial(layer_training_mistakes, x, state, TINY), tolerance=NEAR)
    x = batch(rng, (n, c, *positions[:2]))
    y = layer.call("__call__", x.to(memory_format=torch.channels_last))
    agree("y of a channels_last input", y, trained(x, state["weight"], state["bias"], TINY)[0], tolerance=NEAR)
    holds(
        y.is_contiguous(memory_format=torch.channels_last),
        f"x is channels_last, but y isn't: it has shape {tuple(y.shape)} and strides {y.stride()}.",
        "Elementwise operations with vectors of view (C, 1, 1) keep the memory format. .contiguous(), reshape, a "
        "transpose or a fresh torch.empty in the computation lose it.",
    )
    for dtype in HALF:
        x = tensor(rng.normal(size=(16, c, 16)) * rng.uniform(300, 500, (c, 1)), dtype)
        y = layer.call("__call__", x)
        has_dtype("y", y, dtype, "y has the dtype of x: end with .to(x.dtype).")
        hint = f"x is {str(dtype).removeprefix('torch.')}: compute in float32, and convert at the end."
        agree("y", y, trained(x, state["weight"], state["bias"], TINY)[0], tolerance=2e-2, hint=hint)


@BatchNorm.part("leaves its inputs as they were", weight=1, counts_alone=False, most_cases=1)
@clues()
def _(student, rng):
    x = batch(rng, sizes(rng, 4))
    layer, _ = a_layer(student, rng, x.shape[1])
    for mode in ("train", "eval"):
        layer.call(mode)
        layer.call("__call__", x)
        holds(
            not student.replies[-1].changed,
            f"The layer changed its input in place, after {mode}().",
            "The caller still needs those numbers: make a new tensor, a = a - b instead of a -= b.",
        )


problem_set.written("which_switch", points=4)


# ------------------------------------------------------------------------------------------------------ 9. translate
# The task is to fill torch's layer, so making one on the way is no shortcut.
translate = problem_set.question("translate(framework, config, arrays) -> options, state", points=8, borrowed=())

NAMES = {
    "keras": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
    "flax": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
}
LEARNS = {"keras": {"weight": "scale", "bias": "center"}, "flax": {"weight": "use_scale", "bias": "use_bias"}}


def a_checkpoint(rng, framework, weight=True, bias=True):
    """A layer's configuration and its arrays, and the same arrays by torch's names."""
    (c,) = sizes(rng, 1)
    ours = {
        "weight": away_from_zero(rng, 1.5, 3, c),
        "bias": away_from_zero(rng, 1, 4, c),
        "running_mean": away_from_zero(rng, 5, 9, c),
        "running_var": rng.uniform(10, 20, c),
    }
    ours = {name: array.astype(np.float32) for name, array in ours.items()}
    learns = LEARNS[framework]
    config = {
        "momentum": float(rng.choice([0.8, 0.9, 0.95, 0.99])),
        "epsilon": float(rng.choice([1e-3, 2e-3, 1e-4])),
        learns["weight"]: weight,
        learns["bias"]: bias,
        "axis": -1,
    }
    absent = {name for name, learned in (("weight", weight), ("bias", bias)) if not learned}
    arrays = {theirs: ours[name].copy() for name, theirs in NAMES[framework].items() if name not in absent}
    ours["weight"] = ours["weight"] if weight else np.ones(c)
    ours["bias"] = ours["bias"] if bias else np.zeros(c)
    return config, arrays, ours


def entry(name, values, key, expected):
    """values[key], where values is the student's dictionary."""
    holds(isinstance(values, dict), f"{name} is a {type(values).__name__}, expected a dictionary.")
    holds(
        key in values,
        f"{name} has {', '.join(map(str, values)) or 'no entries'}, but no {key}.",
        f"Expected: {expected}.",
    )
    return values[key]


def option(options, key):
    return entry("options", options, key, "num_features, eps, momentum")


def in_state(state, key):
    return entry("state", state, key, "weight, bias, running_mean, running_var, num_batches_tracked")


@translate.part("options: num_features, eps, momentum", weight=3)
@clues()
def _(student, rng):
    for framework in NAMES:
        config, arrays, ours = a_checkpoint(rng, framework)
        options, _ = student(framework, config, arrays)
        momentum, eps = config["momentum"], config["epsilon"]
        mistakes = {
            "momentum was copied. There it weighs the old value, here the newest batch: take the complement.": momentum,
            "This is torch's default. The configuration says how fast the layer forgets.": 0.1,
            "This is the inverse. The two weights add up to 1.": 1 / momentum,
        }
        agree("momentum", option(options, "momentum"), 1 - momentum, mistakes=mistakes, tolerance=1e-6)
        mistakes = {
            "This is torch's default. Take the epsilon of the configuration, or evaluation gives other numbers.": 1e-5,
            "epsilon is added to the variance in all three frameworks: copy it.": eps**0.5,
        }
        agree("eps", option(options, "eps"), eps, mistakes=mistakes, tolerance=1e-6)
        hint = "The number of channels is the length of each array."
        agree("num_features", option(options, "num_features"), len(ours["running_mean"]), hint=hint)


@translate.part("the arrays under torch's names", weight=3)
@clues()
def _(student, rng):
    for framework, names in NAMES.items():
        config, arrays, ours = a_checkpoint(rng, framework)
        _, state = student(framework, config, arrays)
        eps = config["epsilon"]
        for name in names:
            found, expected = in_state(state, name), ours[name].astype(np.float64)
            mistakes = {
                f"These are the numbers that {framework} calls {names[other]}: torch calls them {other}.": ours[other]
                for other in names
                if other != name
            }
            mistakes |= {
                "This is the square root. Both store the variance: copy it.": np.sqrt(np.abs(expected)),
                "epsilon was added to the variance. Both add it when they normalize: copy the array as it is.": expected
                + eps,
            }
            agree(name, found, as_tensor(expected), mistakes=mistakes, tolerance=1e-6)
            has_dtype(name, found, torch.float32, "The vectors are float32.")


@translate.part("gamma or beta that isn't learned", weight=1, most_cases=1)
@clues()
def _(student, rng):
    for framework, names in NAMES.items():
        for weight, bias in ((False, True), (True, False), (False, False)):
            config, arrays, ours = a_checkpoint(rng, framework, weight, bias)
            try:
                _, state = student(framework, config, arrays)
            except Wrong as wrong:
                failure = student.replies[-1].failure
                if failure is None or failure.kind != "raised":
                    raise
                hint = f"The arrays are {', '.join(arrays)}. What isn't learned is missing, and stands for 1 or 0."
                raise Wrong(wrong.message, hint) from None
            for name in ("weight", "bias"):
                stands = "1" if name == "weight" else "0"
                hint = f"{framework} has no {names[name]} here: it stands for {stands}."
                if names[name] in arrays:
                    hint = ""
                agree(name, in_state(state, name), as_tensor(ours[name]), tolerance=1e-6, hint=hint)


@translate.part("the counter, and torch loads it", weight=1, most_cases=1)
@clues()
def _(student, rng):
    for framework in NAMES:
        config, arrays, ours = a_checkpoint(rng, framework)
        options, state = student(framework, config, arrays)
        count = in_state(state, "num_batches_tracked")
        holds(
            isinstance(count, torch.Tensor),
            f"num_batches_tracked is a {type(count).__name__}, expected a tensor.",
            "torch loads tensors only: torch.tensor(0).",
        )
        agree("num_batches_tracked", count, 0, hint="Neither framework counts: it starts at 0, and has shape ().")
        has_dtype("num_batches_tracked", count, torch.int64, "It counts batches: an integer, torch.tensor(0).")
        layer = torch.nn.BatchNorm2d(len(ours["running_mean"]))
        extra = sorted(state.keys() - layer.state_dict().keys())
        holds(not extra, f"state has {', '.join(extra)}, which torch's layer has not.", "Five entries, no more.")
        try:
            torch.nn.BatchNorm2d(**options).load_state_dict(state)
        except (RuntimeError, TypeError, ValueError) as error:
            hint = "options are the arguments of nn.BatchNorm2d, state is what its load_state_dict takes: five tensors."
            raise Wrong(f"torch refused it: {error}", hint) from None


translate.keeps_its_inputs(lambda rng: ("keras", *a_checkpoint(rng, "keras")[:2]))


check = problem_set.check
