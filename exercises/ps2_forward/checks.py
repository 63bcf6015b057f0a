"""Checks of problem set 2, the forward pass of batch normalization.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Expected values are
NumPy formulas in float64 or come from `bnlab.reference`. A named mistake is a wrong value that the hint explains.
"""

import contextlib
import math
from functools import partial
from types import SimpleNamespace

import numpy as np

from bnlab.checks import BATCH_NORMS, ProblemSet, Wrong, agree, holds
from bnlab.reference import batch_norm_forward

problem_set = ProblemSet("ps2_forward")

MOMENTS = (*BATCH_NORMS, "bnlab.moments", "numpy.cov")  # whose diagonal holds the variances

# Difference allowed, relative to the largest expected value: a right computation in float32 stays well within it,
# every mistake looked for is farther off.
NEAR = 2e-4

TINY = 1e-8  # an eps too small to matter, for the parts that don't ask where it goes


def sizes(rng, count):
    """Different axis lengths, so that a mixed-up axis shows."""
    return [3 + int(size) for size in rng.permutation(5)[:count]]


def batch(rng, n, c, *positions):
    """A batch of shape (n, c, *positions): each channel with its own mean and spread.

    Where there are positions, each example also has its own brightness and each position its own level, as in photos.
    """
    x = rng.normal(size=(n, c, *positions))
    if positions:
        x = x + rng.normal(size=(n, 1, *[1] * len(positions))) + rng.normal(size=positions)
    mean, std = per_channel(x, away_from_zero(rng, 2, 6, c), rng.uniform(1.5, 3, c))
    return mean + std * x


def away_from_zero(rng, low, high, size):
    return (1 - 2 * rng.integers(2, size=size)) * rng.uniform(low, high, size)


def layer(rng, c):
    """gamma, beta, running_mean, running_var of a layer with c channels, none of them near 0 or 1."""
    gamma, beta = away_from_zero(rng, 1.5, 3, c), away_from_zero(rng, 1, 4, c)
    return gamma, beta, away_from_zero(rng, 2, 6, c), rng.uniform(2, 8, c)


def trained(x, gamma, beta, eps):
    """What training gives by the reference: y, and a cache with the batch's mu, var and m."""
    return batch_norm_forward(x, gamma, beta, eps=eps)


def evaluated(x, gamma, beta, running_mean, running_var, eps):
    """What evaluation gives by the reference: y."""
    running = SimpleNamespace(mean=running_mean, var=running_var)
    return batch_norm_forward(x, gamma, beta, running=running, training=False, eps=eps)[0]


def per_channel(x, *values):
    """Views of shape (C, 1, ..., 1), which NumPy lines up with the channels of x."""
    return [value.reshape(-1, *[1] * (x.ndim - 2)) for value in values]


def answer(student, x, *rest, hint):
    """The student's answer. Where shapes that don't fit raise an error, it comes with the shape of x and the hint."""
    try:
        return student(x, *rest)
    except Wrong:
        failure = student.replies[-1].failure
        if failure is None or not {"ValueError", "IndexError"} & set(failure.types):
            raise
        message = f"{student.name} raised {failure.types[0]} where x has shape {x.shape}: {failure.message}"
        raise Wrong(message, hint) from None


OWN_FUNCTIONS = "If you call your own functions here, make their checks pass first."


def works(student, x, *rest):
    """Whether the student's function takes x, a batch or a shape, without an error, and returns y in the shape of x."""
    try:
        first = student(x, *rest)[0]
        return not isinstance(x, np.ndarray) or np.shape(first) == x.shape
    except Wrong as wrong:
        if wrong.final:
            raise
    except ValueError:  # rows of different lengths have no shape
        pass
    return False


def transform_mistakes(x, gamma, beta, mean, var, eps):
    """What y becomes through a slip in the formula gamma * (x - mean) / sqrt(var + eps) + beta."""
    gamma, beta, mean, var = per_channel(x, gamma, beta, mean, var)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return {
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


# ------------------------------------------------------------------------------------------------ 1. batch_moments
batch_moments = problem_set.question("batch_moments(x) -> mean, var", points=13, borrowed=MOMENTS)


@batch_moments.part("mean of each feature", weight=4)
def _(student, rng):
    x = batch(rng, *sizes(rng, 2))
    mean, _ = student(x)
    mistakes = {
        "This is the mean of each example. A statistic belongs to a feature: average over the examples, axis 0.": (
            x.mean(axis=1)
        ),
        "This is the mean of all numbers in the batch. Every feature has its own.": x.mean(),
        "This is the sum. Divide it by the number of examples.": x.sum(axis=0),
        "It has the shape (1, D). One number per feature is asked, shape (D,).": x.mean(axis=0, keepdims=True),
    }
    agree("mean", mean, x.mean(axis=0), mistakes=mistakes, tolerance=NEAR)


@batch_moments.part("variance of each feature, divided by m", weight=4)
def _(student, rng):
    x = batch(rng, *sizes(rng, 2))
    _, var = student(x)
    agree("var", var, x.var(axis=0), mistakes=partial(variance_mistakes, x), tolerance=NEAR)


@batch_moments.part("variance of a feature with a large mean", weight=4)
def _(student, rng):
    # With m = 64 and a tolerance of 2%, dividing by m - 1 passes here: it has its own part.
    small = rng.normal(size=(64, 3)) * rng.uniform(1, 1.5, 3)
    for dtype, mean in ((np.float32, 1e4), (np.float64, 1e9)):
        x = (small + mean).astype(dtype)
        _, var = student(x)
        exact = (x.astype(np.float64) - mean).var(axis=0)  # subtracting the round number is exact
        agree(
            "var",
            var,
            exact,
            mistakes=partial(variance_mistakes, x.astype(np.float64) - mean),
            tolerance=0.02,
            hint=f"Rounding. The mean of x**2 is near {mean**2:.0e} here, and {np.dtype(dtype).name} keeps about "
            f"{np.finfo(dtype).precision + 1} digits of it: subtracting mean**2 leaves nothing of a variance near 1. "
            "Subtract the mean from x first, then square.",
        )


def variance_mistakes(x):
    return {
        "This divides by m - 1, the unbiased variance. The transform wants the biased one: divide by m.": (
            x.var(axis=0, ddof=1)
        ),
        "This is the standard deviation. The variance is its square.": x.std(axis=0),
        "This is the variance of each example. A statistic belongs to a feature: axis 0.": x.var(axis=1),
        "This is the variance of all numbers in the batch. Every feature has its own.": x.var(),
        "This is the mean of x**2. Subtract the mean from x before you square.": (x**2).mean(axis=0),
        "This is the mean distance from the mean. The variance is the mean of the squared distances.": (
            np.abs(x - x.mean(axis=0)).mean(axis=0)
        ),
        "This is the sum of the squared distances. Divide it by m.": len(x) * x.var(axis=0),
        "It has the shape (1, D). One number per feature is asked, shape (D,).": x.var(axis=0, keepdims=True),
    }


batch_moments.keeps_its_inputs(lambda rng: (batch(rng, *sizes(rng, 2)),))


# ---------------------------------------------------------------------------------------------------- 2. normalize
normalize = problem_set.question("normalize(x, mean, var, eps) -> x_hat", points=11)


def normalize_arguments(rng):
    """A batch and statistics that aren't its own, as in evaluation."""
    x = batch(rng, *sizes(rng, 2))
    return x, x.mean(axis=0) + rng.uniform(0.5, 1, x.shape[1]), rng.uniform(2, 8, x.shape[1])


def normalize_mistakes(x, mean, var, eps):
    centered = x - mean
    return {
        "This divides by the variance. Divide by its square root: x_hat has no unit then, and standard deviation 1.": (
            centered / (var + eps)
        ),
        "This multiplies by the standard deviation instead of dividing by it.": centered * np.sqrt(var + eps),
        "The mean was not subtracted.": x / np.sqrt(var + eps),
        "This only subtracts the mean: divide by the standard deviation, too.": centered,
        "This is mean - x: the sign is turned around.": -centered / np.sqrt(var + eps),
        "This normalizes x with its own mean and variance. Use the mean and var that were given: in evaluation they "
        "come from elsewhere.": (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps),
        "This subtracts the mean of x itself. Use the mean that was given: in evaluation it comes from elsewhere.": (
            (x - x.mean(axis=0)) / np.sqrt(var + eps)
        ),
        "Two slips: this subtracts the mean of x itself (use the mean that was given), and it divides by the variance "
        "(divide by its square root).": (x - x.mean(axis=0)) / (var + eps),
        "Two slips: this takes the mean and variance of x itself (use those that were given), and it divides by the "
        "variance (divide by its square root).": (x - x.mean(axis=0)) / (x.var(axis=0) + eps),
        "eps was added outside the root: sqrt(var) + eps. It belongs to the variance, inside: then the result of a "
        "tiny variance stays below 1 / sqrt(eps) instead of 1 / eps.": centered / (np.sqrt(var) + eps),
        "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": centered
        / np.sqrt(var),
    }


@normalize.part("subtracts the mean, divides by the standard deviation", weight=5)
def _(student, rng):
    x, mean, var = normalize_arguments(rng)
    x_hat = student(x, mean, var, TINY)
    mistakes = normalize_mistakes(x, mean, var, TINY)
    agree("x_hat", x_hat, (x - mean) / np.sqrt(var + TINY), mistakes=mistakes, tolerance=NEAR)


@normalize.part("eps inside the square root", weight=3)
def _(student, rng):
    x, mean, _ = normalize_arguments(rng)
    var, eps = rng.uniform(0.5, 0.8, x.shape[1]), rng.uniform(0.3, 0.5)
    mistakes = normalize_mistakes(x, mean, var, eps)
    agree("x_hat", student(x, mean, var, eps), (x - mean) / np.sqrt(var + eps), mistakes=mistakes, tolerance=NEAR)


@normalize.part("a constant feature becomes zero", weight=2)
def _(student, rng):
    n, d = sizes(rng, 2)
    mean = away_from_zero(rng, 2, 6, d)
    x = np.tile(mean, (n, 1))
    hint = "Every value equals the mean and var is 0, so this is 0/0 without eps. With eps it is 0 / sqrt(eps) = 0."
    agree("x_hat", student(x, mean, np.zeros(d), 1e-5), np.zeros((n, d)), tolerance=NEAR, hint=hint)


normalize.keeps_its_inputs(lambda rng: (*normalize_arguments(rng), 1e-5))


# ------------------------------------------------------------------------------- 3. why_not_the_variance, in words
problem_set.written("why_not_the_variance", points=3)


# ---------------------------------------------------------------------------------------------------- 4. undo_with
undo_with = problem_set.question("undo_with(mean, var, eps) -> gamma, beta", points=10)


def undo_arguments(rng):
    d = sizes(rng, 1)[0]
    return away_from_zero(rng, 2, 6, d), rng.uniform(2, 8, d), 1e-5


def gamma_mistakes(mean, var, eps):
    return {
        "gamma is the variance. The normalization divided by the standard deviation, so gamma must multiply by that: "
        "take the square root.": var,
        "gamma is the variance plus eps. The normalization divided by the square root of that.": var + eps,
        "gamma is 1 / sqrt(var + eps): that normalizes a second time. To undo a division, multiply.": (
            1 / np.sqrt(var + eps)
        ),
        "The two are swapped: return gamma, beta in this order.": mean,
        "eps is missing. The normalization divided by sqrt(var + eps), and where var is as small as eps, "
        "sqrt(var) is quite another number.": np.sqrt(var),
        "eps was added outside the root: the normalization divided by sqrt(var + eps).": np.sqrt(var) + eps,
    }


@undo_with.part("gamma", weight=3)
def _(student, rng):
    mean, var, eps = undo_arguments(rng)
    gamma, _ = student(mean, var, eps)
    mistakes = gamma_mistakes(mean, var, eps)
    agree("gamma", gamma, np.sqrt(var + eps), mistakes=mistakes, tolerance=NEAR)


@undo_with.part("beta", weight=3)
def _(student, rng):
    mean, var, eps = undo_arguments(rng)
    std = np.sqrt(var + eps)
    _, beta = student(mean, var, eps)
    mistakes = {
        "beta has the wrong sign. The mean was subtracted: add it back.": -mean,
        "beta is added after gamma has multiplied, so the mean needs no scaling any more.": mean / std,
        "beta = -mean / std normalizes a second time. To undo a subtraction, add.": -mean / std,
        "beta is 0. The mean was subtracted: something has to add it back.": np.zeros_like(mean),
        "beta is 0: one number. It should add the mean of each feature back.": 0.0,
        "The two are swapped: return gamma, beta in this order.": std,
    }
    agree("beta", beta, mean, mistakes=mistakes, tolerance=NEAR)


@undo_with.part("gamma of a feature that hardly varies", weight=3)
def _(student, rng):
    mean, var, eps = undo_arguments(rng)
    var = var * 1e-6
    gamma, _ = student(mean, var, eps)
    mistakes = gamma_mistakes(mean, var, eps)
    agree("gamma", gamma, np.sqrt(var + eps), mistakes=mistakes, tolerance=NEAR)


undo_with.keeps_its_inputs(undo_arguments)


# ----------------------------------------------------------------------------------------------- 5. update_running
update_running = problem_set.question(
    "update_running(running_mean, running_var, mean, var, m, momentum) -> running_mean, running_var", points=13
)


def update_arguments(rng, momentum=0.1):
    d, m = sizes(rng, 2)
    _, _, running_mean, running_var = layer(rng, d)
    return running_mean, running_var, running_mean + away_from_zero(rng, 1, 3, d), rng.uniform(9, 20, d), m, momentum


def blend_mistakes(old, new, momentum):
    return {
        "The weights are the other way round: momentum is the weight of the new batch here, as in PyTorch. (In Keras "
        "and Flax it is the weight of the old value.)": momentum * old + (1 - momentum) * new,
        "The old value must fade: multiply it by (1 - momentum).": old + momentum * new,
        "This is the batch's statistic alone; the old value is forgotten.": new,
        "This is the old value: the batch had no effect.": old,
        "momentum seems to be fixed at 0.1. Use the one that was given.": 0.9 * old + 0.1 * new,
    }


@update_running.part("running mean", weight=4)
def _(student, rng):
    running_mean, running_var, mean, var, m, momentum = update_arguments(rng)
    new_mean, _ = student(running_mean, running_var, mean, var, m, momentum)
    expected = (1 - momentum) * running_mean + momentum * mean
    mistakes = blend_mistakes(running_mean, mean, momentum)
    agree("running_mean", new_mean, expected, mistakes=mistakes, tolerance=NEAR)


@update_running.part("running variance, from the unbiased one", weight=5)
def _(student, rng):
    # With equal weights the direction of momentum doesn't matter: the running mean's part asks for that.
    running_mean, running_var, mean, var, m, momentum = update_arguments(rng, momentum=0.5)
    _, new_var = student(running_mean, running_var, mean, var, m, momentum)
    unbiased = var * m / (m - 1)
    expected = (1 - momentum) * running_var + momentum * unbiased
    mistakes = {
        "The biased variance went in. It is too small by a factor (m - 1) / m on average: correct it to the unbiased "
        "one first.": (1 - momentum) * running_var + momentum * var,
        "The correction is upside down: the unbiased variance is the larger of the two.": (
            (1 - momentum) * running_var + momentum * var * (m - 1) / m
        ),
        "The old running_var was corrected as well. It is unbiased already: correct the batch's variance only.": (
            expected + (1 - momentum) * running_var / (m - 1)
        ),
        "The standard deviation went in. Running statistics keep the variance.": (
            (1 - momentum) * running_var + momentum * np.sqrt(unbiased)
        ),
    }
    mistakes |= blend_mistakes(running_var, unbiased, momentum)
    agree("running_var", new_var, expected, mistakes=mistakes, tolerance=NEAR)


@update_running.part("any momentum", weight=3)
def _(student, rng):
    m = 100_000  # so large that biased and unbiased are the same
    for momentum in (rng.uniform(0.2, 0.4), 1.0, 0.0):
        running_mean, running_var, mean, var, _, _ = update_arguments(rng)
        new_mean, new_var = student(running_mean, running_var, mean, var, m, momentum)
        for name, given, old, new in (
            ("running_mean", new_mean, running_mean, mean),
            ("running_var", new_var, running_var, var),
        ):
            mistakes = blend_mistakes(old, new, momentum)
            expected = (1 - momentum) * old + momentum * new
            agree(name, given, expected, mistakes=mistakes, tolerance=NEAR)


update_running.keeps_its_inputs(update_arguments)


# ---------------------------------------------------------------------------------------------- 6. batch_norm_eval
batch_norm_eval = problem_set.question(
    "batch_norm_eval(x, gamma, beta, running_mean, running_var, eps) -> y", points=11
)


def eval_arguments(rng, n, d, eps=TINY):
    """The running statistics come from other data: x has moved away from them."""
    return batch(rng, n, d), *layer(rng, d), eps


def eval_mistakes(x, gamma, beta, running_mean, running_var, eps):
    return {
        "This normalizes with the statistics of x itself. In evaluation the running ones take their place, so that no "
        "prediction depends on its batch mates.": trained(x, gamma, beta, eps)[0] if len(x) > 1 else beta[None],
    } | transform_mistakes(x, gamma, beta, running_mean, running_var, eps)


@batch_norm_eval.part("the running statistics normalize", weight=3)
def _(student, rng):
    given = eval_arguments(rng, *sizes(rng, 2))
    hint = "All parameters and statistics have one number per feature, shape (D,): that fits (N, D) without reshaping."
    y = answer(student, *given, hint=hint)
    agree("y", y, evaluated(*given), mistakes=partial(eval_mistakes, *given), tolerance=NEAR, hint=OWN_FUNCTIONS)


@batch_norm_eval.part("eps inside the square root", weight=2)
def _(student, rng):
    given = eval_arguments(rng, *sizes(rng, 2), eps=rng.uniform(0.2, 0.5))
    y = student(*given)
    agree("y", y, evaluated(*given), mistakes=partial(eval_mistakes, *given), tolerance=NEAR, hint=OWN_FUNCTIONS)


@batch_norm_eval.part("a batch of one example", weight=2)
def _(student, rng):
    x, _, _, running_mean, _, eps = eval_arguments(rng, 1, sizes(rng, 1)[0])
    one, zero = np.ones(x.shape[1]), np.zeros(x.shape[1])
    y = student(x, one, zero, running_mean, one, eps)
    hint = "With one example, the batch's own mean is x and its variance is 0: take the running statistics."
    mistakes = {
        "This is 0 whatever x is: with one example, the batch's own mean is x. Take the running statistics.": 0 * x,
        "This is x: a batch of one is normalized, too, with the running statistics.": x,
        "There is a row for every feature here. gamma and beta have shape (D,), which fits x without reshaping.": (
            np.tile(x - running_mean, (x.shape[1], 1))
        ),
    }
    agree("y", y, (x - running_mean) / np.sqrt(1 + eps), mistakes=mistakes, tolerance=NEAR, hint=hint)


@batch_norm_eval.part("batch mates don't matter", weight=1, counts_alone=False)
def _(student, rng):
    x, *rest = eval_arguments(rng, *sizes(rng, 2))
    other = x.copy()
    other[1:] = 10 * batch(rng, len(x) - 1, x.shape[1])
    among_these, among_those = student(x, *rest), student(other, *rest)
    for y in (among_these, among_those):
        holds(
            isinstance(y, np.ndarray) and y.shape == x.shape and y.dtype.kind in "fiu",
            f"y should be an array of numbers of shape {x.shape}, as x is.",
        )
    agree(
        "y[0]",
        among_those[0],
        among_these[0],
        tolerance=NEAR,
        hint="All examples but the first were replaced, and y[0] changed with them. Something is computed from the "
        "batch: take the running statistics alone.",
    )


@batch_norm_eval.part("gamma and beta go with the features", weight=2)
def _(student, rng):
    size = sizes(rng, 1)[0]  # as many examples as features: nothing stops a mixed-up axis here
    x, gamma, beta, mean, _, eps = eval_arguments(rng, size, size)
    var = np.ones(size)
    expected = evaluated(x, gamma, beta, mean, var, eps)
    mistakes = {
        "gamma and beta went with the examples: one per row. Each feature, a column, has its own.": (
            gamma[:, None] * (x - mean) + beta[:, None]
        ),
        "The running statistics went with the examples: one per row. Each feature, a column, has its own.": (
            gamma * (x - mean[:, None]) + beta
        ),
        "All four went with the examples: one per row. Each feature, a column, has its own.": (
            gamma[:, None] * (x - mean[:, None]) + beta[:, None]
        ),
    }
    mistakes |= eval_mistakes(x, gamma, beta, mean, var, eps)
    y = student(x, gamma, beta, mean, var, eps)
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR, hint=OWN_FUNCTIONS)


batch_norm_eval.keeps_its_inputs(lambda rng: eval_arguments(rng, *sizes(rng, 2)))


# ---------------------------------------------------------------------------------------- 7. batch_mates, in words
problem_set.written("batch_mates", points=4)


# -------------------------------------------------------------------------------------------------- 8. layer_sizes
layer_sizes = problem_set.question("layer_sizes(shape) -> learned, remembered, m", points=6)


def shapes(rng):
    """One shape of each kind: dense, sequence, image, volume."""
    return [tuple(sizes(rng, axes)) for axes in (2, 3, 4, 5)]


def count_mistakes(shape):
    n, c, *positions = shape
    mistakes = {
        "Each channel has two of them: this counts one.": c,
        "This is one pair for the whole layer. Every channel has its own.": 2,
        "This counts the examples, too. The layer is the same for all examples of a batch.": 2 * n * c,
        "This counts a pair for every example. Every channel has one.": 2 * n,
    }
    if positions:
        mistakes |= {
            "This counts a pair for every position of every channel. All positions of a channel share one.": (
                2 * c * math.prod(positions)
            ),
            "This counts a pair for each index of the last axis. The channels are axis 1.": 2 * positions[-1],
            "This counts a pair for every position. Every channel has one.": 2 * math.prod(positions),
        }
    return mistakes


def one_shape(student, rng):
    """The shape of images, or a dense one for a function that takes no other: other ranks have a part of their own."""
    dense, _, image, _ = shapes(rng)
    return dense if works(student, dense) and not works(student, image) else image


def check_m(m, shape):
    n, _, *positions = shape
    mistakes = {
        "This is the number of examples. Each of them brings all its positions.": n,
        "This counts the values of all channels. A statistic belongs to one channel.": math.prod(shape),
        "This counts the positions of one example. All examples of the batch take part.": math.prod(positions),
        "This is the number of channels.": shape[1],
    }
    hint = "m counts the values that one mean is taken over. Which axes does it average?"
    agree("m", m, n * math.prod(positions), mistakes=mistakes, hint=hint)


@layer_sizes.part("learned parameters", weight=2)
def _(student, rng):
    shape = one_shape(student, rng)
    learned, _, _ = student(shape)
    agree("learned", learned, 2 * shape[1], mistakes=partial(count_mistakes, shape))


@layer_sizes.part("remembered statistics", weight=1)
def _(student, rng):
    shape = one_shape(student, rng)
    _, remembered, _ = student(shape)
    agree("remembered", remembered, 2 * shape[1], mistakes=partial(count_mistakes, shape))


@layer_sizes.part("values behind one statistic", weight=2)
def _(student, rng):
    shape = one_shape(student, rng)
    _, _, m = student(shape)
    check_m(m, shape)


@layer_sizes.part("any number of position axes", weight=1)
def _(student, rng):
    for shape in shapes(rng):
        failure = student.failure(shape)
        if failure is not None:
            raise Wrong(
                f"layer_sizes raised {failure.types[0]} for shape = {shape}: {failure.message}",
                "It should work for (N, C), (N, C, L), (N, C, H, W) and (N, C, D, H, W): take shape[0] and shape[1], "
                "and whatever positions are left in shape[2:].",
            )
        learned, remembered, m = student(shape)
        agree("learned", learned, 2 * shape[1], mistakes=partial(count_mistakes, shape))
        agree("remembered", remembered, 2 * shape[1], mistakes=partial(count_mistakes, shape))
        check_m(m, shape)


# ---------------------------------------------------------------------------------------------- 9. channel_moments
channel_moments = problem_set.question("channel_moments(x) -> mean, var", points=11, borrowed=MOMENTS)


def images(rng):
    return batch(rng, *sizes(rng, 4))


def channel_mistakes(x, moment):
    """What `moment` (np.mean or np.var) gives over other axes."""
    c, positions = x.shape[1], tuple(range(2, x.ndim))
    mistakes = {
        "This is one number for the whole batch. Every channel has its own.": moment(x),
        "This reshapes (N, C, ...) to (C, N * ...), which doesn't swap axes: the values of different channels are "
        "mixed. Move axis 1 to the front first, or average over several axes at once.": (
            moment(x.reshape(c, -1), axis=1)
        ),
    }
    if positions:
        mistakes |= {
            "This is a statistic of every pixel: it averages over the examples only. All positions of a channel share "
            "one: average over the positions, too.": moment(x, axis=0),
            "This is a statistic of each channel of each example: average over the examples, too.": (
                moment(x, axis=positions)
            ),
            "This is a statistic of every example. Average over the examples and the positions, keep the channels.": (
                moment(x, axis=(1, *positions))
            ),
            "This keeps the last axis. The channels are axis 1.": moment(x, axis=tuple(range(x.ndim - 1))),
        }
    else:
        mistakes |= {
            "This is a statistic of every example. The channels are axis 1: keep those.": moment(x, axis=1),
            "Nothing was averaged. Without positions, the examples are still there to average over.": moment(
                x, axis=()
            ),
        }
    return mistakes


def channel_variance_mistakes(x):
    axes = (0, *range(2, x.ndim))
    mistakes = {
        "This divides by m - 1, the unbiased variance. The transform wants the biased one: divide by m.": (
            x.var(axis=axes, ddof=1)
        ),
        "This is the standard deviation. The variance is its square.": x.std(axis=axes),
    }
    if x.ndim > 2:
        mistakes |= {
            "This is the mean of the variances within each example. It misses that some examples are brighter than "
            "others: average once, over all axes but the channels.": x.var(axis=axes[1:]).mean(axis=0),
            "This is the mean of the variances of each pixel. It misses that some positions are brighter than others: "
            "average once, over all axes but the channels.": x.var(axis=0).mean(axis=tuple(range(1, x.ndim - 1))),
        }
    return mistakes | channel_mistakes(x, np.var)


def values(statistic, c):
    """The numbers of a statistic of c channels. Their shape has a part of its own."""
    shape = np.shape(statistic)
    return np.reshape(statistic, -1) if shape and math.prod(shape) == c else statistic


@channel_moments.part("mean of each channel of images", weight=3)
def _(student, rng):
    x = images(rng)
    mean = values(student(x)[0], x.shape[1])
    agree("mean", mean, x.mean(axis=(0, 2, 3)), mistakes=partial(channel_mistakes, x, np.mean), tolerance=NEAR)


@channel_moments.part("variance of each channel of images", weight=3)
def _(student, rng):
    x = images(rng)
    var = values(student(x)[1], x.shape[1])
    agree("var", var, x.var(axis=(0, 2, 3)), mistakes=partial(channel_variance_mistakes, x), tolerance=NEAR)


@channel_moments.part("one number per channel: shape (C,)", weight=2, counts_alone=False)
def _(student, rng):
    x = images(rng)
    c = x.shape[1]
    for name, statistic in zip(("mean", "var"), student(x), strict=True):
        shape = np.shape(statistic)
        extra = "It has extra axes of length 1, as keepdims=True leaves them. The values may be right: drop those axes "
        extra += "at the end, for instance with .reshape(-1)."
        hint = extra if math.prod(shape) == c else "Average over all axes but axis 1."
        holds(shape == (c,), f"{name} has shape {shape}, expected {(c,)}.", hint)


@channel_moments.part("any number of position axes", weight=2)
def _(student, rng):
    for shape in shapes(rng):
        x = batch(rng, *shape)
        hint = "It should work for (N, C), (N, C, L), (N, C, H, W) and (N, C, D, H, W): find the axes from x.ndim."
        mean, var = (values(statistic, shape[1]) for statistic in answer(student, x, hint=hint))
        axes = (0, *range(2, x.ndim))
        agree("mean", mean, x.mean(axis=axes), mistakes=partial(channel_mistakes, x, np.mean), tolerance=NEAR)
        agree("var", var, x.var(axis=axes), mistakes=partial(channel_variance_mistakes, x), tolerance=NEAR)


channel_moments.keeps_its_inputs(lambda rng: (images(rng),))


# -------------------------------------------------------------------------------------------------- 10. batch_norm
batch_norm = problem_set.question(
    "batch_norm(x, gamma, beta, running_mean, running_var, training, momentum, eps) -> y, running_mean, running_var",
    points=18,
)


def step(rng, shape, eps=TINY):
    """All arguments of batch_norm but `training`, which goes before the last two: momentum and eps."""
    return batch(rng, *shape), *layer(rng, shape[1]), rng.uniform(0.2, 0.4), eps


def training_mistakes(x, gamma, beta, running_mean, running_var, momentum, eps):
    cache = trained(x, gamma, beta, eps)[1]
    unbiased = cache.var * cache.m / (cache.m - 1)
    new_mean = (1 - momentum) * running_mean + momentum * cache.mu
    new_var = (1 - momentum) * running_var + momentum * unbiased
    mistakes = {
        "This normalizes with the running statistics. In training, those of the batch are used.": (
            evaluated(x, gamma, beta, running_mean, running_var, eps)
        ),
        "This normalizes with the running statistics after their update. In training, those of the batch are used.": (
            evaluated(x, gamma, beta, new_mean, new_var, eps)
        ),
        "This normalizes with the unbiased variance (m - 1). That one is for running_var only: divide by m here.": (
            evaluated(x, gamma, beta, cache.mu, unbiased, eps)
        ),
    } | transform_mistakes(x, gamma, beta, cache.mu, cache.var, eps)
    if x.ndim > 2:
        gamma, beta = per_channel(x, gamma, beta)
        for whose, axes in (
            ("every pixel, over the examples only. All positions of a channel share one", 0),
            ("every example by itself. Average over the examples, too", tuple(range(2, x.ndim))),
            ("every example, over all its channels. Each channel has its own", tuple(range(1, x.ndim))),
        ):
            mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
            mistakes[f"The statistics are those of {whose}."] = gamma * (x - mean) / np.sqrt(var + eps) + beta
    return mistakes


IMAGES_ONLY = (
    "It works for images, but not for every rank. The shape (1, C, 1, 1) fits images only: take as many 1s as x "
    "has position axes, and find the axes to average over from x.ndim."
)
CHANNELS = (
    "The channels are axis 1, but NumPy lines up shapes from the right. Give whatever has one number per channel "
    "the shape (1, C, 1, ..., 1), with as many axes as x."
)


def one_rank(student, rng, training, eps=TINY):
    """Arguments with a dense x, or with images for a function that takes no dense x: any rank has its own parts."""
    dense, _, image, _ = shapes(rng)
    *arrays, momentum, eps = step(rng, dense, eps)
    *on_images, _, _ = step(rng, image)
    flags = training, momentum, eps
    takes_images_only = not works(student, *arrays, *flags) and works(student, *on_images, *flags)
    return on_images if takes_images_only else arrays, momentum, eps


def rank_hint(student, rng, training):
    """What to do where some rank fails."""
    arrays, _, _ = one_rank(student, rng, training)
    return IMAGES_ONLY if arrays[0].ndim == 4 else CHANNELS


def check_y(student, arrays, momentum, eps, training, hint=CHANNELS):
    x = arrays[0]
    expected = trained(*arrays[:3], eps)[0] if training else evaluated(*arrays, eps)
    y, _, _ = answer(student, *arrays, training, momentum, eps, hint=hint)
    with contextlib.suppress(Wrong):  # the mistakes take their time: only where there is one
        return agree("y", y, expected, tolerance=NEAR)
    mistakes = training_mistakes(*arrays, momentum, eps) if training else eval_mistakes(*arrays, eps)
    otherwise = OWN_FUNCTIONS if getattr(y, "shape", x.shape) == x.shape else hint
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR, hint=otherwise)


def check_running(student, arrays, momentum, eps, hint):
    x, gamma, beta, running_mean, running_var = arrays
    _, new_mean, new_var = answer(student, *arrays, True, momentum, eps, hint=hint)
    cache = trained(x, gamma, beta, eps)[1]
    n, m = len(x), cache.m
    unbiased = cache.var * m / (m - 1)
    kept = (1 - momentum) * running_var

    expected = (1 - momentum) * running_mean + momentum * cache.mu
    mistakes = blend_mistakes(running_mean, cache.mu, momentum)
    agree("running_mean", new_mean, expected, mistakes=mistakes, tolerance=NEAR, hint=OWN_FUNCTIONS)

    mistakes = {
        "The biased variance went in. running_var is updated with the unbiased one.": kept + momentum * cache.var,
        "The correction used m = N. But m counts all values of a channel: the positions, too.": (
            kept + momentum * cache.var * n / (n - 1)
        ),
    } | blend_mistakes(running_var, unbiased, momentum)
    agree("running_var", new_var, kept + momentum * unbiased, mistakes=mistakes, tolerance=NEAR, hint=OWN_FUNCTIONS)


AVERAGES = "The new running statistics have shape (C,): average over all axes but axis 1 of x."


@batch_norm.part("y in training", weight=3)
def _(student, rng):
    check_y(student, *one_rank(student, rng, True), training=True)


@batch_norm.part("y in evaluation", weight=3)
def _(student, rng):
    check_y(student, *one_rank(student, rng, False), training=False)


@batch_norm.part("the running statistics after training", weight=3)
def _(student, rng):
    check_running(student, *one_rank(student, rng, True), hint=AVERAGES)


@batch_norm.part("evaluation leaves the running statistics", weight=1, counts_alone=False)
def _(student, rng):
    arrays, momentum, eps = one_rank(student, rng, False)
    *_, running_mean, running_var = arrays
    _, new_mean, new_var = student(*arrays, False, momentum, eps)
    hint = "Evaluation only reads the running statistics: return them as they came."
    agree("running_mean", new_mean, running_mean, tolerance=NEAR, hint=hint)
    agree("running_var", new_var, running_var, tolerance=NEAR, hint=hint)


@batch_norm.part("eps inside the square root", weight=1)
def _(student, rng):
    for training in (True, False):
        check_y(student, *one_rank(student, rng, training, eps=rng.uniform(0.2, 0.5)), training=training)


@batch_norm.part("any number of position axes: y", weight=4)
def _(student, rng):
    hints = {training: rank_hint(student, rng, training) for training in (True, False)}
    for shape in shapes(rng):
        *arrays, momentum, eps = step(rng, shape)
        for training, hint in hints.items():
            check_y(student, arrays, momentum, eps, training, hint)


@batch_norm.part("any number of position axes: the running statistics after training", weight=2)
def _(student, rng):
    hint = IMAGES_ONLY if rank_hint(student, rng, True) == IMAGES_ONLY else AVERAGES
    for shape in shapes(rng)[:3]:
        *arrays, momentum, eps = step(rng, shape)
        check_running(student, arrays, momentum, eps, hint)


def training_step(rng):
    size = sizes(rng, 1)[0]
    *arrays, momentum, eps = step(
        rng, [size] * 4
    )  # all axes alike: nothing raises an error, whatever it is lined up with
    return *arrays, True, momentum, eps


batch_norm.keeps_its_inputs(training_step)


check = problem_set.check
