"""Checks of problem set 3, the backward pass of batch normalization.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Expected values come
from `bnlab.reference`, from central differences, or are NumPy formulas in float64. A named mistake is a wrong value
that the hint explains.
"""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import numpy as np

from bnlab.checks import BATCH_NORMS, Named, ProblemSet, Wrong, agree
from bnlab.reference import batch_norm_backward, batch_norm_backward_staged, batch_norm_forward

problem_set = ProblemSet("ps3_backward")

# Difference allowed, relative to the largest expected value: a right computation in float32 stays well within it,
# every mistake looked for is farther off.
NEAR = 2e-4

TINY = 1e-8  # an eps too small to matter, for the parts that don't ask where it goes


def sizes(rng, count, least=3):
    """Different axis lengths, so that a mixed-up axis shows."""
    return [least + int(size) for size in rng.permutation(5)[:count]]


def table_size(rng):
    """N and D for questions in which numbers are divided by m: D is neither N nor N - 1, nor a simple part of N."""
    return int(rng.integers(7, 9)), int(rng.choice([3, 5]))


def away_from_zero(rng, low, high, size):
    return (1 - 2 * rng.integers(2, size=size)) * rng.uniform(low, high, size)


def per_channel(x, *values):
    """Views of shape (C, 1, ..., 1), which NumPy lines up with the channels of x."""
    return [value.reshape(-1, *[1] * (x.ndim - 2)) for value in values]


def batch(rng, n, c, *positions, spread=(1.5, 3)):
    """x of shape (n, c, *positions), and a gradient dy like it.

    Each channel of x has its own mean and spread. Where there are positions, each example also has its own brightness
    and each position its own level, as in photos. dy has a mean and a part along x, so that leaving either in shows.
    """
    values = rng.normal(size=(n, c, *positions))
    if n == 2:  # two that happen to be alike would have a variance as small as eps
        values[1] = values[0] + away_from_zero(rng, 1, 3, (c, *positions))
    if positions:
        values = values + rng.normal(size=(n, 1, *[1] * len(positions))) + rng.normal(size=positions)
    mean, std = per_channel(values, away_from_zero(rng, 2, 6, c), rng.uniform(*spread, c))
    level, slope = per_channel(values, away_from_zero(rng, 0.7, 1.5, c), away_from_zero(rng, 0.7, 1.5, c))
    dy = rng.normal(size=values.shape) + level + slope * values
    return mean + std * values, dy


def gammas(rng, c):
    """None of them near 0 or 1."""
    return away_from_zero(rng, 1.5, 3, c)


def normalized(x, eps=TINY):
    """x_hat and inv_std in training."""
    axes = (0, *range(2, x.ndim))
    centered = x - x.mean(axis=axes, keepdims=True)
    inv_std = 1 / np.sqrt((centered**2).mean(axis=axes) + eps)
    return centered * per_channel(x, inv_std)[0], inv_std


def answer(student, given, hint):
    """The student's answer. Where shapes that don't fit raise an error, it comes with the shape and the hint."""
    try:
        return student(*given)
    except Wrong:
        failure = student.replies[-1].failure
        if failure is None or not {"ValueError", "IndexError"} & set(failure.types):
            raise
        name, shape = student.arguments[1], given[1].shape
        message = f"{student.name} raised {failure.types[0]} where {name} has shape {shape}: {failure.message}"
        raise Wrong(message, hint) from None


def in_order(student, found, dy):
    """dx, dgamma and dbeta as they were returned; raises Wrong where dx clearly isn't the first of them."""
    shapes = [value.shape if isinstance(value, np.ndarray) else None for value in found]
    if shapes[0] != dy.shape and dy.shape in shapes[1:]:
        raise Wrong(
            f"{student.name} returned dx, of shape {dy.shape}, as number {shapes.index(dy.shape) + 1} of three.",
            "Return dx first: return dx, dgamma, dbeta.",
        )
    return found


def compare(name, given, expected, mistakes, *, hint="", **options):
    """`agree`, with the mistakes worked out by ``mistakes()`` only where the answer is wrong; so is a hint."""
    try:
        agree(name, given, expected, **options)
    except Wrong:
        hint = hint() if callable(hint) else hint
        agree(name, given, expected, mistakes=mistakes(), hint=hint, **options)


def agrees(given, expected):
    """Whether a value is right, within what is allowed everywhere."""
    try:
        agree("", given, expected, tolerance=NEAR)
    except Wrong:
        return False
    return True


def not_right(found, right):
    """The names of the values in `found` that differ from those of `right`, as in a sentence."""
    names = [name for name, value in found.items() if not agrees(value, getattr(right, name))]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# ------------------------------------------------------------------------------- what a slip in a formula comes to
def sum_mistakes(dy, x_hat, also=()):
    """What dgamma and dbeta become through a slip: two dictionaries. `also` are other arrays than x_hat, by name."""
    axes = (0, *range(2, dy.ndim))
    m = dy.size // dy.shape[1]
    dgamma, dbeta = (dy * x_hat).sum(axis=axes), dy.sum(axis=axes)
    of_gamma = {
        "This is dbeta. The two are swapped, or x_hat is missing: y changes with gamma by x_hat.": dbeta,
        "This is the mean over the examples. Gradients that meet add up: take the sum. (If the loss is a mean, the 1/m "
        "is in dy already.)": dgamma / m,
        "The sign is turned around.": -dgamma,
        "This is the sum of x_hat alone: multiply it by dy first.": x_hat.sum(axis=axes),
        "This multiplies two sums. Multiply example by example first, then sum.": dbeta * x_hat.sum(axis=axes),
        "This is dy * x_hat itself. One gamma serves all examples: sum over them.": dy * x_hat,
    }
    of_gamma |= {text: (dy * array).sum(axis=axes) for text, array in dict(also).items()}
    of_beta = {
        "This is dgamma: return dgamma first, then dbeta.": dgamma,
        "This is the mean over the examples. Gradients that meet add up: take the sum. (If the loss is a mean, the 1/m "
        "is in dy already.)": dbeta / m,
        "The sign is turned around.": -dbeta,
        "This counts the examples. The sum is that of dy.": np.full(dbeta.shape, float(m)),
        "This is dy itself. One beta serves all examples: sum over them.": dy,
    }
    whole = "This is one number for all features. Each has its own gamma and beta: sum over the examples only."
    of_gamma[whole], of_beta[whole] = (dy * x_hat).sum(), dy.sum()
    kept = "It has extra axes of length 1, as keepdims=True leaves them. One number per channel is asked: .reshape(-1)."
    shape = tuple(1 if axis in axes else dy.shape[1] for axis in range(dy.ndim))
    of_gamma[kept], of_beta[kept] = dgamma.reshape(shape), dbeta.reshape(shape)
    for text, other in wrong_axes(dy).items():
        of_gamma[text], of_beta[text] = (dy * x_hat).sum(axis=other), dy.sum(axis=other)
        flat = f"{text} (Reshaping what is left doesn't add it up.)"
        of_gamma[flat], of_beta[flat] = of_gamma[text].reshape(-1), of_beta[text].reshape(-1)
    return of_gamma, of_beta


def wrong_axes(x):
    """Other axes than those that a channel is summed over, by the hint that names the mistake."""
    if x.ndim == 2:
        return {"This sums over the features. Sum over the examples, axis 0: one number per feature is left.": 1}
    positions = tuple(range(2, x.ndim))
    return {
        "This sums over the examples only, pixel by pixel. All positions of a channel share its gamma and beta: sum "
        "over the positions, too.": 0,
        "This sums over the positions only, example by example. All examples share gamma and beta: sum over axis 0, "
        "too.": positions,
        "This keeps the last axis. The channels are axis 1.": tuple(range(x.ndim - 1)),
        "This sums over the channels. They are axis 1, the only axis to keep.": (1, *positions),
    }


def dx_mistakes(dy, x, gamma, eps, in_stages=False):
    """What dx becomes through a slip in inv_std * gamma * (dy - dbeta / m - x_hat * dgamma / m).

    With `in_stages` only what can be said to somebody who has dx_hat, dvar and dmu in the place of that formula.
    """
    axes = (0, *range(2, x.ndim))
    m, n = x.size // x.shape[1], len(x)
    gamma = per_channel(x, gamma)[0]
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    centered, inv_std = x - mean, 1 / np.sqrt(var + eps)
    x_hat = centered * inv_std
    level = dy.mean(axis=axes, keepdims=True)
    slope = (dy * x_hat).mean(axis=axes, keepdims=True)

    def of(kept, scale=gamma * inv_std):
        return scale * kept

    right = dy - level - x_hat * slope
    mistakes = {
        "mean and variance are treated as constants here: they were made from x, so the gradient flows through both of "
        "them, too. (Nothing in the forward pass shows this mistake, which is why it is so common.)": of(dy),
        "The way through the variance is missing: dx has a third term, along x_hat.": of(dy - level),
        "The way through the mean is missing: something has to take the mean of dy out.": of(dy - x_hat * slope),
        "gamma is missing: y = gamma * x_hat + beta, so dx_hat = gamma * dy.": of(right, inv_std),
        "gamma is in it twice. Either take dx_hat = gamma * dy in the bracket, or gamma in front, not both.": (
            of(right, gamma**2 * inv_std)
        ),
        "inv_std is missing: x_hat changes with x by 1 / sqrt(var + eps).": of(right, gamma),
        "This divides by inv_std. It is 1 / sqrt(var + eps) already: multiply.": of(right, gamma / inv_std),
        "This divides by the variance in place of the standard deviation.": of(right, gamma * inv_std**2),
        "The factor 2 is missing: the derivative of a square is twice the number.": of(dy - level - x_hat * slope / 2),
        "The derivative of the root is -1/2 * (var + eps)**(-3/2): the 1/2 is missing.": (
            of(dy - level - 2 * x_hat * slope)
        ),
        "The way through the variance has the wrong sign: more variance makes x_hat smaller.": (
            of(dy - level + x_hat * slope)
        ),
        "The way through the mean has the wrong sign: a larger mean makes x_hat smaller.": (
            of(dy + level - x_hat * slope)
        ),
        "The sign of it all is turned around.": of(-right),
    }
    if m > 2:  # of two, m - 1 is 1: that would be no division at all
        mistakes |= {
            "The sums are divided by m - 1. The forward pass took the biased variance and the mean: divide by m.": (
                of(dy - (level + x_hat * slope) * m / (m - 1))
            ),
            "The way through the variance is divided by m - 1. The forward pass took the biased variance: divide by "
            "m.": of(dy - level - x_hat * slope * m / (m - 1)),
        }
    if not in_stages:
        mistakes |= {
            "gamma is in two of the three terms twice: dbeta and dgamma are sums of dy, without gamma, where gamma "
            "stands in front.": of(dy - gamma * (level + x_hat * slope)),
            "gamma is in one of the three terms twice: dgamma is the sum of dy * x_hat, without gamma.": (
                of(dy - level - gamma * x_hat * slope)
            ),
            "The two sums must be divided by m: they come through a mean.": of(dy - m * (level + x_hat * slope)),
            "dbeta must be divided by m: the mean is a sum divided by m.": of(dy - m * level - x_hat * slope),
            "dgamma must be divided by m: the variance is a sum divided by m.": of(dy - level - m * x_hat * slope),
            "The sums are divided by the size of the whole array. m counts the values of one feature or channel: leave "
            "its axis out.": of(dy - (level + x_hat * slope) * m / x.size),
            "The two parts are added. They are taken out: subtract them.": of(dy + level + x_hat * slope),
            "The last term needs x_hat once more: each example has its own share of dgamma / m.": of(
                dy - level - slope
            ),
            "The last term has x in the place of x_hat.": of(dy - level - x * slope),
            "The last term has x - mean in the place of x_hat. Divide by the standard deviation, too.": (
                of(dy - level - centered * slope)
            ),
            "This has x in the place of x_hat, also in the sum.": (
                of(dy - level - x * (dy * x).mean(axis=axes, keepdims=True))
            ),
            "This has gamma * x_hat, the output y, in the place of x_hat. The part to take out lies along x_hat.": (
                of(dy - level - gamma**2 * x_hat * slope)
            ),
            "This is the part that passes, before the factor gamma / sqrt(var + eps).": right,
            "The last term is divided by the sum of x_hat**2: that would be the exact projection on x_hat. The "
            "derivative has 1/m, which is not the same where eps matters.": (
                of(dy - level - x_hat * slope / (x_hat**2).mean(axis=axes, keepdims=True))
            ),
            "The sums are divided by the length of axis 1, the number of features or channels. m counts the values "
            "that each of them has.": of(dy - (level + x_hat * slope) * m / x.shape[1]),
        }
    # The same formula with another factor in the place of 1 / sqrt(var + eps), also in x_hat.
    for text, factor in (
        (
            "The unbiased variance (m - 1) normalized here. BN normalizes with the biased one: divide by m.",
            1 / np.sqrt(var * m / (m - 1) + eps),
        ),
        (
            "eps has no effect here. Is it forgotten, or fixed at 1e-5? The root holds var + eps, both ways.",
            1 / np.sqrt(var),
        ),
        (
            "eps was added outside the root. It belongs to the variance, inside: 1 / sqrt(var + eps).",
            1 / (np.sqrt(var) + eps),
        ),
    ):
        other = centered * factor
        mistakes[text] = gamma * factor * (dy - level - other * (dy * other).mean(axis=axes, keepdims=True))
    if x.ndim > 2:
        mistakes["The sums are divided by N. But m counts all values of a channel: the positions, too."] = of(
            dy - (level + x_hat * slope) * m / n
        )
        mistakes[SCRAMBLED] = scrambled(dy, x, gamma, eps)[0]
    for text, other in wrong_axes(x).items():
        level_, slope_ = dy.mean(axis=other, keepdims=True), (dy * x_hat).mean(axis=other, keepdims=True)
        mistakes[text] = of(dy - level_ - x_hat * slope_)
        short = dy.size // level_.size / m  # the sums are divided by m all the same
        mistakes[f"{text} (This holds for both sums in dx.)"] = of(dy - short * (level_ + x_hat * slope_))
        mistakes[f"In dgamma: {text}"] = of(dy - level - short * x_hat * slope_)
        mistakes[f"In dbeta: {text}"] = of(dy - short * level_ - x_hat * slope)
        mistakes["The statistics of x were taken over the wrong axes. " + text] = wrongly_averaged(
            dy, x, gamma, eps, other
        )
    return mistakes


def wrongly_averaged(dy, x, gamma, eps, axes):
    """dx where everything is averaged over other axes than it should be."""
    inv_std = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) * inv_std
    level, slope = dy.mean(axis=axes, keepdims=True), (dy * x_hat).mean(axis=axes, keepdims=True)
    return gamma * inv_std * (dy - level - x_hat * slope)


SCRAMBLED = (
    "x.reshape(-1, C) fills the columns in the order of memory, and each gets values of several channels. Move the "
    "channels to the end first: np.moveaxis(x, 1, -1).reshape(-1, C)."
)


def scrambled(dy, x, gamma, eps):
    """dx, dgamma and dbeta where images are made into a table without moving the channels to the end."""
    c = x.shape[1]
    dy, table = dy.reshape(-1, c), x.reshape(-1, c)
    inv_std = 1 / np.sqrt(table.var(axis=0) + eps)
    x_hat = (table - table.mean(axis=0)) * inv_std
    dx = gamma.reshape(-1) * inv_std * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    return dx.reshape(x.shape), (dy * x_hat).sum(axis=0), dy.sum(axis=0)


def size_of(dy, x, gamma, eps):
    """Size of the numbers that dx is computed from: what is left after subtracting may be smaller."""
    inv_std = normalized(x, eps)[1]
    scale = per_channel(x, gamma * inv_std)[0]
    return float(np.abs(scale * dy).max())


# ----------------------------------------------------------------------------------------- 1. parameter_gradients
parameter_gradients = problem_set.question("parameter_gradients(dy, x, mean, var, eps) -> dgamma, dbeta", points=8)


def parameter_arguments(rng, shape=None, eps=TINY):
    """The statistics aren't those of x: whoever computes them anew gets something else."""
    x, dy = batch(rng, *(shape or sizes(rng, 2)))
    mean = x.mean(axis=0) + away_from_zero(rng, 0.5, 1, x.shape[1])
    return dy, x, mean, rng.uniform(2, 8, x.shape[1]), eps


def parameter_mistakes(dy, x, mean, var, eps):
    std = np.sqrt(var + eps)
    own = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + eps)
    return sum_mistakes(
        dy,
        (x - mean) / std,
        also={
            "This multiplies dy by x. The derivative of y with respect to gamma is x_hat: normalize x first.": x,
            "This multiplies dy by x - mean. Divide by the standard deviation, too: x_hat is asked.": x - mean,
            "x_hat is divided by the variance here. Divide by its square root.": (x - mean) / (var + eps),
            "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": (
                (x - mean) / np.sqrt(var)
            ),
            "eps was added outside the root. It belongs to the variance, inside: sqrt(var + eps).": (
                (x - mean) / (np.sqrt(var) + eps)
            ),
            "x_hat is made with the mean and variance of x itself. Use those that were given.": own,
        },
    )


@parameter_gradients.part("dgamma", weight=4)
def _(student, rng):
    given = dy, x, mean, var, eps = parameter_arguments(rng)
    dgamma, _ = student(*given)
    expected = (dy * (x - mean) / np.sqrt(var + eps)).sum(axis=0)
    scale = float(np.abs(dy).sum(axis=0).max())
    compare("dgamma", dgamma, expected, lambda: parameter_mistakes(*given)[0], tolerance=NEAR, scale=scale)


@parameter_gradients.part("dbeta", weight=2)
def _(student, rng):
    given = dy, *_ = parameter_arguments(rng)
    _, dbeta = student(*given)
    compare("dbeta", dbeta, dy.sum(axis=0), lambda: parameter_mistakes(*given)[1], tolerance=NEAR)


@parameter_gradients.part("eps inside the square root", weight=1)
def _(student, rng):
    dy, x, mean, _, _ = parameter_arguments(rng)
    var, eps = rng.uniform(0.5, 0.8, len(mean)), rng.uniform(0.3, 0.5)
    given = dy, x, mean, var, eps
    dgamma, _ = student(*given)
    expected = (dy * (x - mean) / np.sqrt(var + eps)).sum(axis=0)
    scale = float(np.abs(dy).sum(axis=0).max())
    compare("dgamma", dgamma, expected, lambda: parameter_mistakes(*given)[0], tolerance=NEAR, scale=scale)


parameter_gradients.keeps_its_inputs(parameter_arguments)


# ------------------------------------------------------------------------------------------ 2. numerical_gradient
class Mixed:
    """f(x) for x of shape (N, D): cubes of weighted sums of each example, plus a square of what all have in common.

    Every output depends on several inputs, and the result has another shape than x.
    """

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, x):
        s = x @ self.weights
        return s**3 / 20 + 2 * s + s.mean(axis=0) ** 2


class Normalization:
    """f(x) = gamma * x_hat + beta with the statistics of x, for x of shape (N, D)."""

    def __init__(self, gamma, beta, eps):
        self.gamma, self.beta, self.eps = gamma, beta, eps

    def __call__(self, x):
        average = np.full(len(x), 1 / len(x))  # on small tables a product is several times as fast as x.mean()
        centered = x - average @ x
        x_hat = centered / np.sqrt(average @ centered**2 + self.eps)
        return self.gamma * x_hat + self.beta


def mirrored(x):
    """f(x) for x with any number of axes: each entry times its mirror image, so that no entry stands alone."""
    return np.sin(x) * x[::-1] + x.sum(axis=-1, keepdims=True)


def central(f, x, dy, h):
    """The answer to question 2: central differences, one entry after the other."""
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        dx[k] = (dy * (f(x + step) - f(x - step))).sum() / (2 * h)
    return dx


OWN_OUTPUT = (
    "This looks at one output for every entry of x, the one at the same index. Moving x_k changes other outputs, too: "
    "sum dy * (f(x + step) - f(x - step)) over all of them."
)


def own_outputs(f, x, dy, h):
    """dx where for each entry of x only the output at the same index is looked at."""
    dx = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        dx[k] = dy[k] * (f(x + step) - f(x - step))[k] / (2 * h)
    return dx


def difference_mistakes(f, x, dy, h):
    right = central(f, x, dy, h)
    middle = f(x)
    up, down, stays_up, stays_down = (np.zeros(x.shape) for _ in range(4))
    moved_up, moved_twice = x.astype(np.float64), x.astype(np.float64)
    for k in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[k] = h
        up[k] = (dy * (f(x + step) - middle)).sum() / h
        down[k] = (dy * (middle - f(x - step))).sum() / h
        # moved in place and not put back, after one step up or after one up and two down
        before = f(moved_up)
        moved_up[k] += h
        stays_up[k] = (dy * (f(moved_up) - before)).sum() / h
        moved_twice[k] += h
        above = f(moved_twice)
        moved_twice[k] -= 2 * h
        stays_down[k] = (dy * (above - f(moved_twice))).sum() / (2 * h)
    with np.errstate(over="ignore"):
        at_once = f(x + h) - f(x - h)
    mistakes = {
        "This is a one-sided difference, f(x + h) - f(x). Go h up and h down, and divide by 2h: the error falls with "
        "the square of h then.": up,
        "This is a one-sided difference, f(x) - f(x - h). Go h up and h down, and divide by 2h: the error falls with "
        "the square of h then.": down,
        "Divide by 2 * h: the two points are 2h apart.": 2 * right,
        "The sign is turned around: f(x + step) comes first.": -right,
        "dy has no effect here: this is the gradient of the sum of f. Multiply the difference by dy, then sum.": (
            central(f, x, np.ones(dy.shape), h)
        ),
        "An entry that was moved stays moved: the next ones are tried at another point. Put it back, or move a copy.": (
            stays_down
        ),
        "An entry that was moved stays moved, and the difference is one-sided: start from x again for every entry, go "
        "h up and h down.": stays_up,
        "This is the mean over the outputs. The loss is the sum of dy * f(x).": right / dy.size,
    }
    if dy.ndim == x.ndim and all(has >= needs for has, needs in zip(dy.shape, x.shape, strict=True)):
        mistakes[OWN_OUTPUT] = own_outputs(f, x, dy, h)
    mistakes |= {
        "All entries were moved at the same time. That is right only where each output depends on one input: move "
        "one entry after the other.": dy * at_once / (2 * h),
        "All entries were moved at the same time, which gives one number. Each entry has its own slope: move one after "
        "the other.": (dy * at_once).sum() / (2 * h),
    }
    if h > 0.01:  # otherwise these are next to nothing, and so is much else
        mistakes |= {
            "This is the difference alone. A slope is the difference divided by 2 * h.": 2 * h * right,
            "The precedence: / 2 * h divides by 2 and multiplies by h. Write / (2 * h).": right * h * h,
        }
    all_moved = "All entries were moved at the same time, so every one gets the same number. Move one after the other."
    mistakes[all_moved] = np.full(x.shape, (dy * at_once).sum() / (2 * h))
    return mistakes


DIFFERENCES = ("scipy.optimize.approx_fprime", "scipy.differentiate", "torch.autograd.functional.jacobian")
AUTOGRAD = ("torch.autograd.backward", "torch.autograd.grad", "torch.autograd.gradcheck")

numerical_gradient = problem_set.question(
    "numerical_gradient(f, x, dy, h) -> dx", points=10, borrowed=(*BATCH_NORMS, *DIFFERENCES, *AUTOGRAD)
)

# No mistake gives a central difference, so there is no need for more than this; the step is large enough for rounding
# not to matter.
EXACT = 1e-6


def mixed_arguments(student, rng, h=None):
    """f (the trusted copy and the one on the student's side), x, dy and h. With a large h the method shows."""
    n, d, k = (int(size) for size in rng.permutation([2, 3, 4]))
    weights = away_from_zero(rng, 0.5, 1, (d, k))
    x, dy = rng.normal(1, 1, size=(n, d)), rng.normal(size=(n, k)) + 0.5
    return Mixed(weights), student.make("checks:Mixed", weights), x, dy, h or rng.uniform(0.2, 0.4)


OTHER_SHAPE = (
    "f(x) may have another shape than x, and dy has that of f(x). Moving one entry x_k changes many outputs: sum "
    "dy * (f(x + step) - f(x - step)) over all of them."
)
ONE_EACH = (
    "Every entry of x has its own slope: move one after the other, all outputs summed each time. (If all entries move "
    "at the same time, nobody can tell which of them made the difference.)"
)
ANY_AXES = "x may have one axis or three: np.ndindex(x.shape) walks through the indices of any array."


def compare_slopes(dx, expected, mistakes, hint="", **options):
    """`compare` for question 2: another shape than that of x has its own hint."""
    if np.shape(dx) != expected.shape:
        hint = ONE_EACH
    compare("dx", dx, expected, mistakes, hint=hint, **options)


@numerical_gradient.part("a step up, a step down", weight=3)
def _(student, rng):
    f, its_f, x, dy, h = mixed_arguments(student, rng)
    dx = answer(student, (its_f, x, dy, h), OTHER_SHAPE)
    compare_slopes(dx, central(f, x, dy, h), lambda: difference_mistakes(f, x, dy, h), tolerance=EXACT)


@numerical_gradient.part("close to the true gradient of BN", weight=2)
def _(student, rng):
    n, d = 4, int(rng.integers(2, 4))
    x, dy = batch(rng, n, d)
    gamma, beta, eps = gammas(rng, d), rng.normal(size=d), 1e-3
    f, its_f = Normalization(gamma, beta, eps), student.make("checks:Normalization", gamma, beta, eps)
    exact = batch_norm_backward(dy, batch_norm_forward(x, gamma, beta, eps=eps)[1]).dx
    hint = "The step is 1e-5 here, with x in float64: then central differences are right to nine digits or so."
    hint += " Is the step that you take the h that was given? A far smaller one leaves nothing but rounding."
    dx = answer(student, (its_f, x, dy, 1e-5), OTHER_SHAPE)
    scale = size_of(dy, x, gamma, eps)

    def mistakes():
        nothing = (
            "This is 0 everywhere. The sum of the outputs of BN is always the same, and moving all entries "
            "together changes nothing. Multiply the difference by dy, and move one entry after the other. (Or is it "
            "multiplied by h, not divided?)"
        )
        return {nothing: np.zeros(x.shape)} | difference_mistakes(f, x, dy, 1e-5)

    compare_slopes(dx, exact, mistakes, hint, tolerance=1e-7, scale=scale)


@numerical_gradient.part("an array with any number of axes", weight=1)
def _(student, rng):
    for count in (1, 3):
        shape = tuple(int(size) for size in rng.permutation([2, 3, 4])[:count])
        x, dy = rng.normal(size=shape), rng.normal(size=shape)
        dx = answer(student, (student.the("checks:mirrored"), x, dy, 0.1), ANY_AXES)
        arguments = mirrored, x, dy, 0.1
        compare_slopes(dx, central(*arguments), partial(difference_mistakes, *arguments), ANY_AXES, tolerance=EXACT)


@numerical_gradient.part("float64 inside, whatever comes in", weight=2)
def _(student, rng):
    f, its_f, x, dy, h = mixed_arguments(student, rng, h=1e-5)
    for given in (x.astype(np.float32), np.round(3 * x).astype(np.int64)):
        dx = answer(student, (its_f, given, dy, h), OTHER_SHAPE)
        exact = central(f, given.astype(np.float64), dy, h)
        if given.dtype == np.float32:
            hint = "x is float32 here. A step of 1e-5 is nearly lost in its seven digits: take x.astype(np.float64)."
        else:
            hint = "x holds integers here. A step of 1e-5 written into such an array becomes 0: work with float64."
        mistakes = partial(difference_mistakes, f, given.astype(np.float64), dy, h)
        compare_slopes(dx, exact, mistakes, hint, tolerance=1e-6)


@numerical_gradient.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    _, its_f, x, dy, h = mixed_arguments(student, rng)
    changed = student.changed_by(its_f, x, dy, h)
    if changed:
        raise Wrong(
            f"numerical_gradient changed its input {' and '.join(changed)} in place.",
            "After x[k] += h the caller's array is another one, and subtracting h again doesn't give back the last "
            "digit. Move an entry of a copy.",
        )


# ---------------------------------------------------------------------------------------------- 3. gradient_error
gradient_error = problem_set.question(
    "gradient_error(f, x, dy, dx) -> error", points=10, borrowed=(*BATCH_NORMS, *DIFFERENCES, *AUTOGRAD)
)


def judged(student, rng, spread=1.0):
    """A normalization (as on the student's side), x, dy, and the right dx."""
    n, d = 4, 2
    x = spread * (rng.normal(size=(n, d)) + rng.uniform(-1, 1, d))
    dy = rng.normal(size=(n, d)) + 0.5
    gamma, beta = gammas(rng, d), rng.normal(size=d)
    eps = 1e-3 * spread**2
    dx = batch_norm_backward(dy, batch_norm_forward(x, gamma, beta, eps=eps)[1]).dx
    return student.make("checks:Normalization", gamma, beta, eps), x, dy, dx


def number(error):
    """The error as a float, or what to say where it is none."""
    if isinstance(error, bool | np.bool_):
        raise Wrong(f"error is {error}, expected a number.", "Return the relative error itself, no verdict.")
    shape = np.shape(error)
    if shape:
        raise Wrong(
            f"error is an array of shape {shape}, expected one number.",
            "Take the largest difference of all entries, and the largest entry of all.",
        )
    if not isinstance(error, int | float | np.integer | np.floating):
        raise Wrong(f"error is a {type(error).__name__}, expected a number.")
    return float(error)


def accepted(error, hint):
    error = number(error)
    if not error <= 1e-6:
        if 0 < error < 1e-4:
            hint = (
                "An error of this size is what a one-sided difference leaves: go h up and h down, and divide by 2h. "
                "Then a step of 1e-5 times x.std() has an error of 1e-9 or so. (Or is the step far from that, or the "
                "difference not divided by the largest entry?)"
            )
        raise Wrong(f"dx is right here, but error is {error:.2g}, expected less than 1e-06.", hint)


@gradient_error.part("a right gradient has a small error", weight=2)
def _(student, rng):
    f, x, dy, dx = judged(student, rng)
    error = student(f, x, dy, dx)
    if number(error) < 0:
        raise Wrong(f"error is {float(error):.2g}, expected a number that is not negative.", "Is an abs missing?")
    accepted(
        error,
        "Is the step 1e-5 times x.std()? A far smaller one leaves nothing but rounding, a far larger one misses the "
        "curve. And is the largest difference of all divided by the largest entry of all? Entry by entry, one that is "
        "nearly 0 makes a large ratio.",
    )


def error_mistakes(given, right):
    """What the error of a wrong dx becomes through another definition than the one asked."""
    difference = np.abs(given - right)
    largest = max(np.abs(given).max(), np.abs(right).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        single = difference / np.maximum(np.abs(given), np.abs(right))
        single_sum = difference / (np.abs(given) + np.abs(right))
    per_entry = (
        "This compares every entry with itself, so an entry that is nearly 0 decides. Take the largest difference, and "
        "divide it by the largest entry."
    )
    norm = (
        "This takes the norm or the mean of all entries: a fine measure, too, but one wrong entry among many hides "
        "in it. The largest difference is asked, divided by the largest entry."
    )
    difference_norm = np.linalg.norm(difference)
    sizes_ = np.linalg.norm(given), np.linalg.norm(right)
    return [
        (
            "This is the absolute difference: it grows and shrinks with the gradient. Divide it by the largest entry.",
            difference.max(),
        ),
        ("This is the absolute difference: it grows and shrinks with the gradient. Divide it.", difference.mean()),
        (
            "The denominator is the sum of both largest entries. The larger of the two is asked.",
            difference.max() / (np.abs(given).max() + np.abs(right).max()),
        ),
        (
            "The denominator is the largest entry of the numerical gradient alone. The larger one of both "
            "gradients' is asked.",
            difference.max() / np.abs(right).max(),
        ),
        (
            "The denominator is the largest entry of dx alone. The larger one of both gradients' is asked.",
            difference.max() / np.abs(given).max(),
        ),
        (per_entry, single.max()),
        (per_entry, single_sum.max()),
        (per_entry, single.mean()),
        (per_entry, (difference / np.abs(right)).max()),
        (per_entry, (difference / np.abs(given)).max()),
        (norm, difference_norm / max(sizes_)),
        (norm, difference_norm / sum(sizes_)),
        (norm, difference_norm / sizes_[1]),
        (norm, difference.mean() / largest),
        (norm, difference.mean() / max(np.abs(given).mean(), np.abs(right).mean())),
        ("This is the largest value, not the largest absolute value.", (given - right).max() / largest),
        (
            "The largest entry is found without its sign: take np.abs(...) before .max().",
            difference.max() / max(given.max(), right.max()),
        ),
        ("This is the squared error: take the difference itself.", (difference.max() / largest) ** 2),
    ]


def check_error(student, given, dx, right, what):
    error = number(student(*given, dx))
    expected = float(np.abs(dx - right).max() / max(np.abs(dx).max(), np.abs(right).max()))
    hint = (
        f"dx is wrong here: {what}. Its largest difference, divided by the largest entry, is {expected:.3g}. If "
        "yours is close to that, look at the step."
    )
    named = (text for text, value in error_mistakes(dx, right) if math.isclose(value, error, rel_tol=1e-4))
    agree("error", error, expected, tolerance=1e-4, hint=next(named, hint))


@gradient_error.part("the error of a wrong one", weight=3)
def _(student, rng):
    *given, right = judged(student, rng)
    for what, dx in (
        ("one entry differs", right + 0.1 * np.abs(right).max() * one_entry(rng, right.shape)),
        ("1.5 times too large", 1.5 * right),
        ("1.5 times too small", right / 1.5),
    ):
        check_error(student, given, dx, right, what)


def one_entry(rng, shape):
    entries = np.zeros(math.prod(shape))
    entries[rng.integers(entries.size)] = 1
    return entries.reshape(shape)


@gradient_error.part("the size of the gradient doesn't matter", weight=1)
def _(student, rng):
    f, x, dy, dx = judged(student, rng)
    size = 10.0 ** -rng.integers(9, 13)
    error = number(student(f, x, size * dy, 2 * size * dx))
    largest = np.abs(dx).max()
    mistakes = {
        "The denominator is the largest entry of the numerical gradient alone. The larger one of both gradients' is "
        "asked.": 1.0,
        "This is the largest value, not the largest absolute value: is an np.abs missing?": dx.max() / (2 * largest),
    }
    hint = (
        f"This gradient is small, near {size:.0e}, and the dx given is twice what it should be: a relative error of "
        "0.5. Divide by the largest entry, whatever its size, and add no constant to it."
    )
    agree("error", error, 0.5, mistakes=mistakes, tolerance=1e-4, hint=hint)


@gradient_error.part("the size of x doesn't matter", weight=1)
def _(student, rng):
    for spread in (1e-4, 1e7):
        f, x, dy, dx = judged(student, rng, spread=spread)
        accepted(
            student(f, x, dy, dx),
            f"The standard deviation of x is near {spread:.0e} here, and a step that suits other data doesn't suit it: "
            "a step beside which x is small misses the curve, one that is tiny beside x drowns in rounding. Take 1e-5 "
            "times x.std(). (And divide: the gradient is large or small here as well.)",
        )


@gradient_error.part("NaN, infinity and other shapes are infinitely wrong", weight=1, most_cases=1)
def _(student, rng):
    f, x, dy, dx = judged(student, rng)
    bad = dx.copy()
    bad[0, 0] = np.nan
    unlimited = dx.copy()
    unlimited[-1, -1] = np.inf
    column = "NumPy broadcasts it against the numerical gradient without a word. Compare the shapes first."
    for given, what, hint in (
        (bad, "dx has a NaN", "Every comparison with NaN is false, so NaN > 1e-3 is, too. Test np.isfinite(dx).all()."),
        (unlimited, "dx has an infinite entry", "inf / inf is NaN: test np.isfinite(dx).all() first."),
        (dx[:1], f"dx has the shape {dx[:1].shape}, x {x.shape}", column),
        (dx.T, f"dx has the shape {dx.T.shape}, x {x.shape}", "Compare the shapes before anything else."),
    ):
        try:
            error = number(student(f, x, dy, given))
        except Wrong:
            failure = student.replies[-1].failure
            if failure is None or failure.kind != "raised":
                raise
            raise Wrong(f"gradient_error raised {failure.types[0]} where {what}: expected inf.", hint) from None
        if error != np.inf:
            raise Wrong(f"error is {error:.3g} where {what}: expected inf.", hint)


@gradient_error.part("a zero gradient agrees with zero alone", weight=1)
def _(student, rng):
    f, x, dy, dx = judged(student, rng)
    error = number(student(f, x, 0 * dy, 0 * dx))
    hint = "dy is 0 here, both gradients are 0 everywhere, and 0/0 is NaN. They agree: the error is 0."
    agree("error", error, 0.0, tolerance=1e-12, hint=hint)
    for dy_, dx_, hint in (
        (
            dy,
            0 * dx,
            "dx is 0 everywhere, but the numerical gradient isn't. That is as wrong as can be: the difference is as "
            "large as the largest entry, and the error is 1. Only where both are 0 is it 0.",
        ),
        (
            0 * dy,
            dx,
            "dy is 0 here, so the numerical gradient is 0 everywhere, but dx isn't. The difference is as large as the "
            "largest entry, that of dx, and the error is 1. Only where both are 0 is it 0.",
        ),
    ):
        error = number(student(f, x, dy_, dx_))
        absolute = "This is the absolute difference. Divide it by the largest entry of both gradients."
        agree("error", error, 1.0, mistakes={absolute: np.abs(dx).max()}, tolerance=1e-4, hint=hint)


gradient_error.keeps_its_inputs(
    lambda rng: (
        Named("checks:mirrored"),
        rng.normal(size=(3, 2)),
        rng.normal(size=(3, 2)),
        rng.normal(size=(3, 2)),
    )
)


# --------------------------------------------------------------------------------------------- 4. judge_the_check
problem_set.written("judge_the_check", points=4)


# --------------------------------------------------------------------------------------------- 5. backward_staged
backward_staged = problem_set.question("backward_staged(dy, x, gamma, eps) -> dx_hat, dvar, dmu, dx", points=16)


def staged_arguments(rng, eps=TINY, spread=(1.5, 3)):
    x, dy = batch(rng, *table_size(rng), spread=spread)
    return dy, x, gammas(rng, x.shape[1]), eps


def staged(dy, x, gamma, eps):
    """The reference's gradients at every node, and the node values."""
    cache = batch_norm_forward(x, gamma, eps=eps)[1]
    return batch_norm_backward_staged(dy, cache), cache


def dx_hat_mistakes(dy, x, gamma, eps):
    return {
        "gamma is missing: y = gamma * x_hat + beta, so y changes with x_hat by gamma.": dy,
        "This divides by gamma. y = gamma * x_hat + beta, so y changes with x_hat by gamma: multiply.": dy / gamma,
        "The factor 1 / sqrt(var + eps) belongs to the next step, from x_hat to x.": (
            dy * gamma * normalized(x, eps)[1]
        ),
        "This multiplies by x_hat: that would be the share of gamma. y changes with x_hat by gamma.": (
            dy * normalized(x, eps)[0]
        ),
        "The sign is turned around.": -dy * gamma,
    }


def own_dx_hat(given, dx_hat):
    """The student's dx_hat, if it is something to go on with; the right one otherwise.

    So a slip there isn't charged again two lines on.
    """
    dy, _, gamma, _ = given
    right = dy * gamma
    usable = isinstance(dx_hat, np.ndarray) and dx_hat.shape == right.shape and dx_hat.dtype.kind == "f"
    if not usable or not np.isfinite(dx_hat).all() or not (np.abs(dx_hat).max(axis=0) > 0).all():
        return right
    return dx_hat.astype(np.float64)


OVER_EXAMPLES = (
    "All statistics and all sums run over the examples, axis 0. One number per feature is left, which NumPy lines up "
    "with the last axis of x."
)


def other_axes(dy, x, gamma, eps):
    """dvar, dmu and dx where the statistics or the sums run over the features: by the hint that names it."""
    statistics = "The mean and the variance are taken over the features. " + OVER_EXAMPLES
    summed = "This sums over the features. " + OVER_EXAMPLES
    dx_hat, found = dy * gamma, []
    for text, of_x, of_sums in ((statistics, 1, 0), (summed, 0, 1), (statistics, 1, 1)):
        centered = x - x.mean(axis=of_x, keepdims=True)
        inv_std = 1 / np.sqrt((centered**2).mean(axis=of_x, keepdims=True) + eps)
        dvar = (dx_hat * centered * -0.5 * inv_std**3).sum(axis=of_sums, keepdims=True)
        dmu = -(dx_hat * inv_std).sum(axis=of_sums, keepdims=True)
        dx = [dx_hat * inv_std + dvar * 2 * centered / m + dmu / m for m in x.shape]
        flat = [value.reshape(-1) for value in (dvar, dmu)]
        # where one factor is outside of the sum, it may be that nothing was summed up
        spread_out = [np.broadcast_to(value, x.shape) for value in (dvar, dmu)]
        outside = (dx_hat * centered).sum(axis=of_sums, keepdims=True) * -0.5 * inv_std**3
        outside_mu = -dx_hat.sum(axis=of_sums, keepdims=True) * inv_std
        dx += [dx_hat * inv_std + outside * 2 * centered / m + outside_mu / m for m in x.shape]
        found.append((text, (dvar, flat[0], spread_out[0], outside), (dmu, flat[1], spread_out[1], outside_mu), dx))
    return found


def axes_hint(given, which, value):
    """The hint of `other_axes` that fits what was returned as dvar (0), dmu (1) or dx (2); "" where none does."""
    for text, *values in other_axes(*given):
        if any(agrees(value, wrong) for wrong in values[which]):
            return text
    return ""


def agree_with_either(name, given, right, from_own, mistakes, hint):
    """Right, or right for the dx_hat that the student returned."""
    if not agrees(given, from_own):
        compare(name, given, right, mistakes, tolerance=NEAR, hint=hint)


@backward_staged.part("dx_hat", weight=2)
def _(student, rng):
    given = dy, _, gamma, _ = staged_arguments(rng)
    dx_hat, *_ = answer(student, given, OVER_EXAMPLES)
    agree("dx_hat", dx_hat, dy * gamma, mistakes=lambda: dx_hat_mistakes(*given), tolerance=NEAR)


@backward_staged.part("dvar", weight=4)
def _(student, rng):
    given = dy, x, gamma, eps = staged_arguments(rng)
    right, cache = staged(*given)
    dx_hat, dvar, _, _ = answer(student, given, OVER_EXAMPLES)
    centered, inv_std = x - cache.mu, cache.inv_std

    def dvar_of(d):
        return (d * centered).sum(axis=0) * -0.5 * inv_std**3

    own = own_dx_hat(given, dx_hat)

    def mistakes():
        named = {}
        for d in (dy * gamma, own):
            moment = (d * centered).sum(axis=0)
            named |= {
                "The sign is turned around: more variance makes x_hat smaller.": -dvar_of(d),
                "The factor 1/2 is missing: the derivative of s**(-1/2) is -1/2 * s**(-3/2).": 2 * dvar_of(d),
                "The power is -1/2 here. Differentiating s**(-1/2) makes it -3/2.": -0.5 * moment * inv_std,
                "The power is -1 here, the derivative of s**(-1/2) has -3/2: inv_std**3.": -0.5 * moment * inv_std**2,
                "This is the mean over the examples. One variance serves all of them: take the sum.": dvar_of(d)
                / len(x),
                "This multiplies by x_hat. The derivative of x_hat with respect to the variance has x - mean, times "
                "the power -3/2.": dvar_of(d) * inv_std,
                "This multiplies by x. The mean is missing: x - mean.": (d * x).sum(axis=0) * -0.5 * inv_std**3,
                "x - mean is missing: each example counts by its distance from the mean.": (
                    d.sum(axis=0) * -0.5 * inv_std**3
                ),
                "This is the gradient with respect to inv_std. One more derivative: -1/2 * (var + eps)**(-3/2).": (
                    moment
                ),
                "It isn't summed over the examples: one variance serves all of them.": -0.5 * d * centered * inv_std**3,
                "It has the shape (1, D). One number per feature is asked, shape (D,).": dvar_of(d)[None],
            }
        named["This uses dy. The gradient that arrives at x_hat is dx_hat, with gamma in it."] = dvar_of(dy)
        named["The unbiased variance (m - 1) normalized here. BN normalizes with the biased one: divide by m."] = (
            (right.dx_hat * centered).sum(axis=0) * -0.5 * (cache.var * len(x) / (len(x) - 1) + eps) ** -1.5
        )
        return named

    hint = "One number per feature: the sum over the examples of dx_hat * (x - mean), times -1/2 * (var + eps)**(-3/2)."
    agree_with_either("dvar", dvar, right.dvar, dvar_of(own), mistakes, lambda: axes_hint(given, 0, dvar) or hint)


@backward_staged.part("dmu", weight=3)
def _(student, rng):
    given = dy, x, gamma, _ = staged_arguments(rng)
    right, cache = staged(*given)
    dx_hat, _, dmu, _ = answer(student, given, OVER_EXAMPLES)
    own = own_dx_hat(given, dx_hat)

    def mistakes():
        named = {}
        for d in (dy * gamma, own):
            dmu_of = -d.sum(axis=0) * cache.inv_std
            named |= {
                "The sign is turned around: a larger mean makes every x_hat smaller.": -dmu_of,
                "This is the mean over the examples. One mean serves all of them: take the sum here. (The 1/m comes "
                "with dx.)": dmu_of / len(x),
                "inv_std is missing: x_hat changes with the mean by -1 / sqrt(var + eps).": -d.sum(axis=0),
                "This divides by the variance in place of its root.": dmu_of * cache.inv_std,
                "It isn't summed over the examples: one mean serves all of them.": -d * cache.inv_std,
                "It has the shape (1, D). One number per feature is asked, shape (D,).": dmu_of[None],
            }
        named["This uses dy. The gradient that arrives at x_hat is dx_hat, with gamma in it."] = (
            -dy.sum(axis=0) * cache.inv_std
        )
        named["The unbiased variance (m - 1) normalized here. BN normalizes with the biased one: divide by m."] = (
            -right.dx_hat.sum(axis=0) / np.sqrt(cache.var * len(x) / (len(x) - 1))
        )
        return named

    hint = "Its second term, through the variance, is zero: x - mean sums to 0. If yours isn't, look at its sum."
    from_own = -own.sum(axis=0) * cache.inv_std
    agree_with_either("dmu", dmu, right.dmu, from_own, mistakes, lambda: axes_hint(given, 1, dmu) or hint)


def check_staged_dx(student, given):
    dx_hat, dvar, dmu, dx = answer(student, given, OVER_EXAMPLES)
    right = staged(*given)[0]

    def mistakes():
        return staged_mistakes(*given) | dx_mistakes(*given, in_stages=True)

    def hint():
        found = axes_hint(given, 2, dx)
        slips = not_right({"dx_hat": dx_hat, "dvar": dvar, "dmu": dmu}, right)
        if found or slips:
            return found or f"dx is made from dx_hat, dvar and dmu. Here {slips} can't be right: start there."
        return (
            "dx_hat, dvar and dmu are right, so the slip is in the last line. It has three terms, one for each way by "
            "which x reaches the loss: dx_hat / std, dvar times the derivative of the variance, dmu times that of the "
            "mean."
        )

    compare("dx", dx, right.dx, mistakes, tolerance=NEAR, scale=size_of(*given), hint=hint)


def staged_mistakes(dy, x, gamma, eps):
    """Slips in the last line that only the staged form has."""
    nodes, cache = staged(dy, x, gamma, eps)
    m, centered = len(x), x - cache.mu
    direct, by_var, by_mean = nodes.dx_hat * cache.inv_std, nodes.dvar * 2 * centered / m, nodes.dmu / m
    by_features = m / x.shape[1]
    features = "x.shape[1], the number of features. m counts the examples, x.shape[0] or len(x)."
    return {
        "The way through the mean lacks its 1/m: the mean is a sum divided by m.": direct + by_var + m * by_mean,
        "The way through the variance lacks its 1/m: the variance is a sum divided by m, so dvar meets "
        "2 * (x - mean) / m.": direct + m * by_var + by_mean,
        f"The last two terms are divided by {features}": direct + by_features * (by_var + by_mean),
        f"The way through the variance is divided by {features}": direct + by_features * by_var + by_mean,
        f"The way through the mean is divided by {features}": direct + by_var + by_features * by_mean,
        "The last two terms are divided by x.size. m counts the examples, len(x).": (
            direct + (by_var + by_mean) / x.shape[1]
        ),
        "The way through the variance is larger by the standard deviation. Does dvar have inv_std**2? Differentiating "
        "s**(-1/2) makes it s**(-3/2), which is inv_std**3.": direct + by_var / cache.inv_std + by_mean,
        "The way through the variance is larger by the variance. Does dvar have the power -1/2? Differentiating "
        "s**(-1/2) makes it s**(-3/2), which is inv_std**3.": direct + by_var / cache.inv_std**2 + by_mean,
        "Both the mean and the variance are sums divided by m: two of the three terms need their 1/m.": (
            direct + m * (by_var + by_mean)
        ),
        "The direct way lacks its factor: x_hat changes with x by 1 / sqrt(var + eps).": (
            nodes.dx_hat + by_var + by_mean
        ),
        "The direct way is missing: x_hat changes with x also where mean and variance are held fixed.": by_var
        + by_mean,
        "The way through the variance has x in the place of x - mean.": direct + nodes.dvar * 2 * x / m + by_mean,
        "The way through the variance has x_hat in the place of x - mean.": (direct + by_var * cache.inv_std + by_mean),
        "The way through the variance is missing, 2 * (x - mean) / m for every example.": (
            direct + nodes.dvar * 2 / m + by_mean
        ),
    }


@backward_staged.part("dx", weight=5)
def _(student, rng):
    check_staged_dx(student, staged_arguments(rng))


@backward_staged.part("eps inside the square root", weight=1)
def _(student, rng):
    check_staged_dx(student, staged_arguments(rng, eps=rng.uniform(0.3, 0.5), spread=(0.6, 0.9)))


backward_staged.keeps_its_inputs(staged_arguments)


# ---------------------------------------------------------------------------------------------- 6. split_gradient
split_gradient = problem_set.question("split_gradient(dy, x_hat) -> mean_part, x_hat_part, rest", points=8)


def split_arguments(rng, eps=TINY, spread=(1.5, 3)):
    x, dy = batch(rng, *table_size(rng), spread=spread)
    return dy, normalized(x, eps)[0]


def parts_of(dy, x_hat):
    level = np.broadcast_to(dy.mean(axis=0), dy.shape)
    slope = x_hat * (dy * x_hat).mean(axis=0)
    return level, slope, dy - level - slope


def mean_part_mistakes(dy, x_hat):
    level, slope, rest = parts_of(dy, x_hat)
    repeat = "The values are right. One row for every example is asked, the shape of dy: add np.zeros_like(dy)."
    return {
        repeat: level[0],
        f"{repeat} (It has one row so far.)": level[:1],
        "This is the mean of each example. Every feature has its own mean: average over the examples, axis 0.": (
            np.broadcast_to(dy.mean(axis=1, keepdims=True), dy.shape)
        ),
        "This is the sum. The mean part is the mean of each feature's gradient, in every row.": len(dy) * level,
        "This is the mean of all numbers in dy. Every feature has its own.": np.full(dy.shape, dy.mean()),
        "This is dy minus its mean: what is left. The mean itself is asked first.": dy - level,
        "This is the part along x_hat: return mean_part, x_hat_part, rest in this order.": slope,
        "This is the rest: return mean_part, x_hat_part, rest in this order.": rest,
    }


def x_hat_part_mistakes(dy, x_hat):
    level, slope, rest = parts_of(dy, x_hat)
    moment = (dy * x_hat).mean(axis=0)
    length = np.sqrt((x_hat**2).sum(axis=0))
    return {
        "This is the factor alone, one number per feature. Multiply x_hat by it.": moment,
        "This is the factor alone, the same for all examples. Multiply x_hat by it.": np.broadcast_to(moment, dy.shape),
        "This is the sum over the examples. Divide it by m.": len(dy) * slope,
        "This is dy * x_hat, example by example. Take the mean of it over the examples, and multiply x_hat by that.": (
            dy * x_hat
        ),
        "This averages over the features. Every feature has its own factor: average over the examples, axis 0.": (
            x_hat * (dy * x_hat).mean(axis=1, keepdims=True)
        ),
        "This is one factor for all features. Every feature has its own: average over the examples, axis 0.": (
            x_hat * (dy * x_hat).mean()
        ),
        "This projects on x_hat exactly, dividing by the sum of x_hat**2. BN divides by m: where eps matters, it takes "
        "out a little less.": x_hat * (dy * x_hat).sum(axis=0) / (x_hat**2).sum(axis=0),
        "This divides by the length of x_hat once. The mean divides by m, which is its length squared.": (
            x_hat * (dy * x_hat).sum(axis=0) / length
        ),
        "This multiplies x_hat by the mean of dy. The factor is the mean of dy * x_hat.": x_hat * level,
        "The sum is divided by m - 1. The formula has 1/m.": slope * len(dy) / (len(dy) - 1),
        "This is the mean part: return mean_part, x_hat_part, rest in this order.": level,
        "This is the rest: return mean_part, x_hat_part, rest in this order.": rest,
        "The sign is turned around. This is the part itself, it is subtracted later.": -slope,
    }


def rest_mistakes(dy, x_hat):
    level, slope, _ = parts_of(dy, x_hat)
    return {
        "The part along x_hat is still in it.": dy - level,
        "The mean part is still in it.": dy - slope,
        "This is dy itself: subtract both parts.": dy,
        "This is the sum of the two parts that BN takes out. The rest is what is left of dy.": level + slope,
        "One of the two parts was added instead of subtracted, or has the wrong sign.": dy - level + slope,
        "The mean part was added instead of subtracted.": dy + level - slope,
    } | {
        f"Its part along x_hat is off. {text}": dy - level - other
        for text, other in x_hat_part_mistakes(dy, x_hat).items()
        if np.shape(other) == dy.shape
    }


SPLIT_ANYWAY = (
    "Three arrays of the shape of dy, which add up to dy: first the mean, then a multiple of x_hat, the rest."
)


@split_gradient.part("the mean part", weight=2)
def _(student, rng):
    given = split_arguments(rng)
    mean_part, _, _ = student(*given)
    expected = parts_of(*given)[0]
    mistakes = mean_part_mistakes(*given)
    agree("mean_part", mean_part, expected, mistakes=mistakes, tolerance=NEAR, hint=SPLIT_ANYWAY)


@split_gradient.part("the part along x_hat", weight=3)
def _(student, rng):
    given = split_arguments(rng)
    _, x_hat_part, _ = student(*given)
    expected = parts_of(*given)[1]
    mistakes = x_hat_part_mistakes(*given)
    agree("x_hat_part", x_hat_part, expected, mistakes=mistakes, tolerance=NEAR, hint=SPLIT_ANYWAY)


@split_gradient.part("the rest", weight=1)
def _(student, rng):
    given = split_arguments(rng)
    *_, rest = student(*given)
    scale = float(np.abs(given[0]).max())
    agree("rest", rest, parts_of(*given)[2], mistakes=lambda: rest_mistakes(*given), tolerance=NEAR, scale=scale)


@split_gradient.part("where eps matters", weight=1)
def _(student, rng):
    given = split_arguments(rng, eps=rng.uniform(0.3, 0.5), spread=(0.6, 0.9))
    _, x_hat_part, _ = student(*given)
    mistakes = x_hat_part_mistakes(*given)
    hint = "The mean of x_hat**2 is less than 1 here, since eps is as large as the variance. The formula stays."
    agree("x_hat_part", x_hat_part, parts_of(*given)[1], mistakes=mistakes, tolerance=NEAR, hint=hint)


split_gradient.keeps_its_inputs(split_arguments)


# ---------------------------------------------------------------------------------------------------- 7. backward
backward = problem_set.question("backward(dy, x_hat, inv_std, gamma) -> dx, dgamma, dbeta", points=10)


def backward_arguments(rng, n, d, eps=TINY, spread=(1.5, 3)):
    """Arguments, and the x and eps that they come from."""
    x, dy = batch(rng, n, d, spread=spread)
    x_hat, inv_std = normalized(x, eps)
    return (dy, x_hat, inv_std, gammas(rng, d)), (x, eps)


def three_gradients(student, given):
    """dx, dgamma, dbeta of question 7."""
    hint = "Sum over the examples, axis 0: one number per feature, which NumPy lines up with the last axis of dy."
    return in_order(student, answer(student, given, hint), given[0])


def check_dx(student, given, origin, hint=""):
    dy, _, _, gamma = given
    x, eps = origin
    dx, dgamma, dbeta = three_gradients(student, given)
    right = batch_norm_backward(dy, batch_norm_forward(x, gamma, np.zeros_like(gamma), eps=eps)[1])

    def mistakes():
        return dx_mistakes(dy, x, gamma, eps) | wrong_way_round(*given)

    def likely():
        slips = not_right({"dgamma": dgamma, "dbeta": dbeta}, right)
        if slips:
            return f"dx is made from dgamma and dbeta. Here {slips} can't be right: start there."
        return hint or (
            "dgamma and dbeta are right, so the slip is in the line of dx. Compare it with the formula: three terms in "
            "the bracket, both sums divided by m = len(dy), x_hat in the last, gamma * inv_std times all of it."
        )

    compare("dx", dx, right.dx, mistakes, tolerance=NEAR, scale=size_of(dy, x, gamma, eps), hint=likely)


def wrong_way_round(dy, x_hat, inv_std, gamma):
    level, slope = dy.mean(axis=0), (dy * x_hat).mean(axis=0)
    across, across_x_hat = dy.sum(axis=1, keepdims=True), (dy * x_hat).sum(axis=1, keepdims=True)
    return {
        "dbeta and dgamma have swapped their places: x_hat belongs to dgamma.": (
            gamma * inv_std * (dy - slope - x_hat * level)
        ),
        "The last term has dbeta in the place of dgamma: x_hat goes with the sum of dy * x_hat.": (
            gamma * inv_std * (dy - level - x_hat * level)
        ),
        "gamma * inv_std multiplies the whole bracket, not dy alone: mind the parentheses.": (
            gamma * inv_std * dy - level - x_hat * slope
        ),
        "Each example has its own sum here: sum over the examples, axis 0, not over the features.": (
            gamma * inv_std * (dy - across / len(dy) - x_hat * across_x_hat / len(dy))
        ),
    }


@backward.part("dx", weight=5)
def _(student, rng):
    check_dx(student, *backward_arguments(rng, *table_size(rng)))


@backward.part("dgamma", weight=1)
def _(student, rng):
    given, _ = backward_arguments(rng, *table_size(rng))
    dy, x_hat, inv_std, gamma = given
    _, dgamma, _ = three_gradients(student, given)
    mistakes, _ = sum_mistakes(
        dy,
        x_hat,
        also={
            "gamma is in it. The derivative of y with respect to gamma is x_hat.": gamma * x_hat,
            "inv_std is in it. The derivative of y with respect to gamma is x_hat, which has inv_std in it already.": (
                x_hat * inv_std
            ),
        },
    )
    scale = float(np.abs(dy).sum(axis=0).max())
    agree("dgamma", dgamma, (dy * x_hat).sum(axis=0), mistakes=mistakes, tolerance=NEAR, scale=scale)


@backward.part("dbeta", weight=1)
def _(student, rng):
    given, _ = backward_arguments(rng, *table_size(rng))
    dy, x_hat, _, gamma = given
    _, _, dbeta = three_gradients(student, given)
    _, mistakes = sum_mistakes(dy, x_hat)
    mistakes["gamma is in it. The derivative of y with respect to beta is 1."] = gamma * dy.sum(axis=0)
    agree("dbeta", dbeta, dy.sum(axis=0), mistakes=mistakes, tolerance=NEAR)


@backward.part("where eps matters", weight=1)
def _(student, rng):
    hint = (
        "eps is as large as the variance here, so the mean of x_hat**2 is less than 1. The formula stays as it is: "
        "both sums divided by m, and nothing else."
    )
    arguments = backward_arguments(rng, *table_size(rng), eps=rng.uniform(0.3, 0.5), spread=(0.6, 0.9))
    check_dx(student, *arguments, hint)


@backward.part("a batch of two passes nothing", weight=1)
def _(student, rng):
    hint = (
        "With two examples, dy has two numbers for each feature: their mean and their difference. The first is the "
        "mean part, the second lies along x_hat. BN takes both out, and dx is almost 0: only eps leaves a little."
    )
    check_dx(student, *backward_arguments(rng, 2, sizes(rng, 1)[0]), hint)


backward.keeps_its_inputs(lambda rng: backward_arguments(rng, *sizes(rng, 2))[0])


# ------------------------------------------------------------------------------------------- 8. backward_channels
backward_channels = problem_set.question("backward_channels(dy, x, gamma, eps) -> dx, dgamma, dbeta", points=10)

ALIGNMENT = (
    "The channels are axis 1, but NumPy lines up shapes from the right. Give whatever has one number per channel the "
    "shape (1, C, 1, 1), for instance by keepdims=True in the sums and gamma.reshape(1, -1, 1, 1)."
)
ANY_RANK = (
    "It should work for (N, C), (N, C, L), (N, C, H, W) and (N, C, D, H, W): find the axes from x.ndim, and take as "
    "many 1s in a reshape as x has position axes."
)


def channel_arguments(rng, shape=None, eps=TINY, spread=(1.5, 3)):
    x, dy = batch(rng, *(shape or sizes(rng, 4)), spread=spread)
    return dy, x, gammas(rng, x.shape[1]), eps


def check_channels(student, given, hint, names):
    """Compare the gradients in `names`."""
    dy, x, gamma, eps = given
    cache = batch_norm_forward(x, gamma, np.zeros_like(gamma), eps=eps)[1]
    expected = batch_norm_backward(dy, cache)
    found = dict(zip(("dx", "dgamma", "dbeta"), in_order(student, answer(student, given, hint), dy), strict=True))

    def mistakes(name):
        if name == "dx":
            return dx_mistakes(*given)
        instead = {
            "This multiplies dy by x. The derivative of y with respect to gamma is x_hat.": x,
            "gamma is in it. The derivative of y with respect to gamma is x_hat.": (
                per_channel(x, gamma)[0] * cache.x_hat
            ),
        }
        of_gamma, of_beta = sum_mistakes(dy, cache.x_hat, also=instead)
        for text, axes in wrong_axes(x).items():
            centered = x - x.mean(axis=axes, keepdims=True)
            x_hat = centered / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
            of_gamma[f"{text} (The mean and the variance have these axes, too.)"] = (dy * x_hat).sum(axis=axes)
        if x.ndim > 2:
            _, of_gamma[SCRAMBLED], of_beta[SCRAMBLED] = scrambled(*given)
        return of_gamma if name == "dgamma" else of_beta

    for name in names:
        scale = size_of(*given) if name == "dx" else float(np.abs(dy).sum() / x.shape[1])
        right = getattr(expected, name)
        compare(name, found[name], right, partial(mistakes, name), tolerance=NEAR, scale=scale, hint=hint)


@backward_channels.part("dx of images", weight=4)
def _(student, rng):
    check_channels(student, channel_arguments(rng), ALIGNMENT, ["dx"])


@backward_channels.part("dgamma and dbeta of images", weight=2)
def _(student, rng):
    check_channels(student, channel_arguments(rng), ALIGNMENT, ["dgamma", "dbeta"])


@backward_channels.part("any number of position axes", weight=2)
def _(student, rng):
    for axes in (2, 3, 5):
        check_channels(student, channel_arguments(rng, sizes(rng, axes)), ANY_RANK, ["dx", "dgamma", "dbeta"])


@backward_channels.part("eps inside the square root", weight=1)
def _(student, rng):
    given = channel_arguments(rng, sizes(rng, 4), eps=rng.uniform(0.3, 0.5), spread=(0.2, 0.4))
    check_channels(student, given, ALIGNMENT, ["dx"])


backward_channels.keeps_its_inputs(lambda rng: channel_arguments(rng, [sizes(rng, 1)[0]] * 4))


# ----------------------------------------------------------------------------------------------- 9. backward_eval
backward_eval = problem_set.question(
    "backward_eval(dy, x, gamma, running_mean, running_var, eps) -> dx, dgamma, dbeta", points=8
)


def eval_arguments(rng, n=None, eps=TINY):
    """The running statistics come from other data: x has moved away from them."""
    least, d = sizes(rng, 2)
    x, dy = batch(rng, n or least, d)
    running_mean = x.mean(axis=0) + away_from_zero(rng, 0.5, 1.5, d)
    return dy, x, gammas(rng, d), running_mean, rng.uniform(2, 8, d), eps


def eval_reference(dy, x, gamma, running_mean, running_var, eps):
    running = SimpleNamespace(mean=running_mean, var=running_var)
    cache = batch_norm_forward(x, gamma, np.zeros_like(gamma), running=running, training=False, eps=eps)[1]
    return batch_norm_backward(dy, cache)


def eval_dx_mistakes(dy, x, gamma, running_mean, running_var, eps):
    std = np.sqrt(running_var + eps)
    x_hat = (x - running_mean) / std
    level, slope = dy.mean(axis=0), (dy * x_hat).mean(axis=0)
    constants = "In evaluation the statistics are constants that x has no part in, so nothing is taken out of dy."
    own_std = np.sqrt(x.var(axis=0) + eps)
    own = (x - x.mean(axis=0)) / own_std
    own_slope = (dy * own).mean(axis=0)
    return {
        f"This has the two terms of training in it. {constants}": gamma / std * (dy - level - x_hat * slope),
        f"This takes the mean of dy out, as in training. {constants}": gamma / std * (dy - level),
        f"This takes the part along x_hat out, as in training. {constants}": gamma / std * (dy - x_hat * slope),
        f"This is the gradient in training, from the statistics of x itself. {constants}": (
            gamma / own_std * (dy - level - own * own_slope)
        ),
        "This divides by the standard deviation of x itself. Use running_var.": gamma / own_std * dy,
        "This divides by the variance. Divide by its square root.": gamma / (running_var + eps) * dy,
        "gamma is missing: y = gamma * x_hat + beta.": dy / std,
        "The factor 1 / sqrt(running_var + eps) is missing.": gamma * dy,
        "This multiplies by the standard deviation. x_hat changes with x by 1 / sqrt(running_var + eps).": (
            gamma * std * dy
        ),
        "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": (
            gamma / np.sqrt(running_var) * dy
        ),
        "eps was added outside the root. It belongs to the variance, inside: sqrt(running_var + eps).": (
            gamma / (np.sqrt(running_var) + eps) * dy
        ),
    }


EVAL_DX = "Each y depends on its own x alone, and on a straight line: dx is dy times two numbers per feature."


@backward_eval.part("dx", weight=3)
def _(student, rng):
    given = eval_arguments(rng)
    dx, _, _ = in_order(student, student(*given), given[0])
    mistakes = eval_dx_mistakes(*given)
    agree("dx", dx, eval_reference(*given).dx, mistakes=mistakes, tolerance=NEAR, hint=EVAL_DX)


@backward_eval.part("dgamma and dbeta", weight=2)
def _(student, rng):
    given = dy, x, gamma, mean, var, eps = eval_arguments(rng)
    _, dgamma, dbeta = in_order(student, student(*given), dy)
    x_hat = (x - mean) / np.sqrt(var + eps)
    of_gamma, of_beta = sum_mistakes(
        dy,
        x_hat,
        also={
            "x_hat is made with the statistics of x itself. In evaluation the running ones normalize, here, too.": (
                normalized(x, eps)[0]
            ),
            "This multiplies dy by x. The derivative of y with respect to gamma is x_hat.": x,
            "gamma is in it. The derivative of y with respect to gamma is x_hat.": gamma * x_hat,
        },
    )
    scale = float(np.abs(dy).sum(axis=0).max())
    agree("dgamma", dgamma, (dy * x_hat).sum(axis=0), mistakes=of_gamma, tolerance=NEAR, scale=scale)
    agree("dbeta", dbeta, dy.sum(axis=0), mistakes=of_beta, tolerance=NEAR)


@backward_eval.part("a batch of one example", weight=1)
def _(student, rng):
    given = dy, *_ = eval_arguments(rng, n=1)
    dx, _, _ = in_order(student, student(*given), given[0])
    hint = "One example has a gradient in evaluation: nothing is averaged over the batch."
    mistakes = {f"This is 0: something is averaged over a batch of one and taken out. {hint}": 0 * dy}
    mistakes |= eval_dx_mistakes(*given)
    agree("dx", dx, eval_reference(*given).dx, mistakes=mistakes, tolerance=NEAR, hint=hint)


@backward_eval.part("eps inside the square root", weight=1)
def _(student, rng):
    given = eval_arguments(rng, eps=rng.uniform(0.5, 1))
    dx, _, _ = in_order(student, student(*given), given[0])
    mistakes = eval_dx_mistakes(*given)
    agree("dx", dx, eval_reference(*given).dx, mistakes=mistakes, tolerance=NEAR, hint=EVAL_DX)


backward_eval.keeps_its_inputs(eval_arguments)


# --------------------------------------------------------------------------------------------- 10. gradient_norms
gradient_norms = problem_set.question(
    "gradient_norms(x, weights, dh, use_bn, eps) -> norms", points=12, borrowed=AUTOGRAD
)


def network(rng, use_bn, square=False):
    """x, weights and dh of a small network in which no value is close to the kink of ReLU."""
    while True:
        n, *widths = [5] * 5 if square else [int(rng.integers(7, 10)), *sizes(rng, 4)]
        x = rng.normal(size=(n, widths[0]))
        weights = [rng.normal(size=pair) for pair in itertools.pairwise(widths)]
        dh = rng.normal(size=(n, widths[-1])) + 0.5
        kept = forward_through(x, weights, use_bn, TINY)
        norms = [np.linalg.norm(dW) for dW in weight_gradients(kept, weights, dh)]
        smallest = min(np.abs(s).min() for _, s, _ in kept)
        deviations = [1 / inv_std.max() for _, _, inv_std in kept if inv_std is not None]
        if smallest > 1e-3 and min(norms) > 0.02 * max(norms) and min(deviations, default=1) > 0.1:
            return x, weights, dh


def forward_through(x, weights, use_bn, eps):
    """For each layer: its input, what reaches its ReLU, and inv_std (None without BN)."""
    kept, h = [], x
    for W in weights:
        s, inv_std = h @ W, None
        if use_bn:
            s, inv_std = normalized(s, eps)
        kept.append((h, s, inv_std))
        h = np.maximum(s, 0)
    return kept


def weight_gradients(kept, weights, dh, *, ways=("mean", "var"), relu=True, scaled=True, gate="s", along="s"):
    """The gradients of all matrices, first layer first.

    The keywords leave something out, or take z in the place of s for the gate of ReLU, or max(s, 0) for x_hat.
    """
    found = []
    for W, (h, s, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        opened = s > 0 if gate == "s" else h @ W > 0
        dz = dh * opened if relu else dh
        if inv_std is not None:
            x_hat = s if along == "s" else np.maximum(s, 0)
            through_mean = dz.mean(axis=0) if "mean" in ways else 0
            through_var = x_hat * (dz * x_hat).mean(axis=0) if "var" in ways else 0
            dz = (dz - through_mean - through_var) * (inv_std if scaled else 1)
        found.append(h.T @ dz)
        dh = dz @ W.T
    return found[::-1]


def arriving(kept, weights, dh):
    """The gradients that arrive at the output of each layer, first layer first."""
    found = []
    for W, (_, s, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        found.append(dh)
        dz = dh * (s > 0)
        if inv_std is not None:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        dh = dz @ W.T
    return found[::-1]


def norm_mistakes(x, weights, dh, use_bn):
    def norms(kept, **leaving_out):
        return [np.linalg.norm(dW) for dW in weight_gradients(kept, weights, dh, **leaving_out)]

    kept, other = (forward_through(x, weights, bn, TINY) for bn in (use_bn, not use_bn))
    right = weight_gradients(kept, weights, dh)
    outputs = [*(h for h, _, _ in kept[1:]), np.maximum(kept[-1][1], 0)]
    dzs = pre_gradients(kept, weights, dh)
    mistakes = {
        "The norms are in the order in which they were found, last layer first. Turn them around.": norms(kept)[::-1],
        "This is the square of the norm: take the root.": [np.square(dW).sum() for dW in right],
        "This is the largest entry. The Frobenius norm is the root of the sum of all squares.": [
            np.abs(dW).max() for dW in right
        ],
        "This is the largest singular value, the spectral norm. The Frobenius norm is the root of the sum of all "
        "squares: np.linalg.norm(dW) without a second argument.": [np.linalg.norm(dW, 2) for dW in right],
        "This is the sum of all absolute values. The Frobenius norm is the root of the sum of all squares.": [
            np.abs(dW).sum() for dW in right
        ],
        "This is the root of the mean square. The Frobenius norm has the sum of the squares.": [
            np.sqrt(np.square(dW).mean()) for dW in right
        ],
        "These are the norms of the gradients that arrive at the layers' outputs. Those of the weights are asked: "
        "dW = h.T @ dz.": [np.linalg.norm(d) for d in arriving(kept, weights, dh)],
        "These are the norms of dz, the gradients that arrive at z. Those of the weights are asked: dW = h.T @ dz, "
        "with the h that came in.": [np.linalg.norm(dz) for dz in dzs],
        "dW has the h that comes out of the layer. z = h @ W has the one that came in: keep that.": [
            np.linalg.norm(h.T @ dz) for h, dz in zip(outputs, dzs, strict=True)
        ],
        "ReLU is missing on the way back: where s <= 0, no gradient passes.": norms(kept, relu=False),
        "use_bn has no effect here: with use_bn=True every z is normalized, with use_bn=False none is.": norms(other),
        "These are the norms of the weights themselves.": [np.linalg.norm(W) for W in weights],
    }
    if use_bn:
        mistakes |= {
            "The statistics of BN are treated as constants. Its backward pass takes the mean of the gradient out, and "
            "its part along x_hat.": norms(kept, ways=()),
            "The way through the variance is missing in the backward pass of BN.": norms(kept, ways=("mean",)),
            "The way through the mean is missing in the backward pass of BN.": norms(kept, ways=("var",)),
            "inv_std is missing in the backward pass of BN.": norms(kept, scaled=False),
            "The gate of ReLU is z > 0 on the way back. It is s that goes through ReLU: with BN, s is the normalized "
            "z, and the gradient passes where s > 0.": norms(kept, gate="z"),
            "The backward pass of BN has max(s, 0) in the place of x_hat. With gamma = 1 and beta = 0, x_hat is s, "
            "from before ReLU: keep that.": norms(kept, along="h"),
            "BN has no part in the backward pass here: the gradient goes through it as if it weren't there.": (
                norms(kept, ways=(), scaled=False)
            ),
        }
    if len({h.shape for h in (*outputs, x)}) == 1:
        mistakes |= {
            "The gradient goes back by W. It is dz @ W.T that arrives at the layer below.": [
                np.linalg.norm(dW) for dW in weight_gradients(kept, [W.T for W in weights], dh)
            ],
            "dW is dz.T @ h or h @ dz here, with axes mixed up: dW = h.T @ dz.": [
                np.linalg.norm(h @ dz) for h, dz in zip([h for h, _, _ in kept], dzs, strict=True)
            ],
        }
    return mistakes


def pre_gradients(kept, weights, dh):
    """The gradients dz of each layer, first layer first."""
    found = []
    for (_, s, inv_std), d in zip(kept, arriving(kept, weights, dh), strict=True):
        dz = d * (s > 0)
        if inv_std is not None:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        found.append(dz)
    return found


def check_norms(student, rng, use_bn, square=False):
    x, weights, dh = network(rng, use_bn, square)
    shapes = ", ".join(str(W.shape) for W in weights)
    hint = f"The weights have the shapes {shapes} here. Forward z = h @ W, backward dW = h.T @ dz and dh = dz @ W.T."
    try:
        norms = student(x, weights, dh, use_bn, TINY)
    except Wrong:
        failure = student.replies[-1].failure
        if failure is None or "ValueError" not in failure.types:
            raise
        raise Wrong(f"gradient_norms raised {failure.types[0]}: {failure.message}", hint) from None
    kept = forward_through(x, weights, use_bn, TINY)
    expected = np.array([np.linalg.norm(dW) for dW in weight_gradients(kept, weights, dh)])
    mistakes = partial(norm_mistakes, x, weights, dh, use_bn)
    hint = "Keep h, s and inv_std of every layer on the way forward. Back: ReLU where s > 0, then BN, then dW and dh."
    if use_bn:
        hint += " If you call your own functions for BN, make their checks pass first."
    compare("norms", norms, expected, mistakes, tolerance=NEAR, hint=hint)


@gradient_norms.part("without BN", weight=4)
def _(student, rng):
    check_norms(student, rng, use_bn=False)


@gradient_norms.part("with BN", weight=5)
def _(student, rng):
    check_norms(student, rng, use_bn=True)


@gradient_norms.part("square matrices, which fit either way round", weight=2)
def _(student, rng):
    for use_bn in (False, True):
        check_norms(student, rng, use_bn, square=True)


gradient_norms.keeps_its_inputs(lambda rng: (*network(rng, use_bn=True), True, TINY))


# ------------------------------------------------------------------------------------------------- 11. what_holds
problem_set.written("what_holds", points=4)


check = problem_set.check
