"""Checks of problem set 6: noise, dropout, weight decay, overfitting.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Expected values are
NumPy formulas in float64. A named mistake is a wrong value that the hint explains.
"""

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

from bnlab.checks import BATCH_NORMS, ProblemSet, Wrong, agree, holds
from bnlab.reference import batch_norm_forward

problem_set = ProblemSet("ps6_regularization")

# Difference allowed, relative to the largest expected value: a right computation in float32 stays well within it,
# every mistake looked for is farther off.
NEAR = 2e-4

GENERATOR = "numpy.random:default_rng"  # what a function's argument rng is made by, on the student's side


def asked(student, *args, failures):
    """The student's answer; where the function raised an error that `failures` explain, with that hint."""
    try:
        return student(*args)
    except Wrong as found:
        hint = next((text for part, text in failures.items() if part in found.message), None)
        if hint is None:
            raise
        raise Wrong(found.message, " ".join(filter(None, [hint, found.hint]))) from None


class Later(Mapping):
    """Named mistakes that are worked out only where an answer is wrong."""

    def __init__(self, make, *args):
        self.found = lambda: make(*args)

    def __bool__(self):
        return True

    def __len__(self):
        return len(self.found())

    def __iter__(self):
        return iter(self.found())

    def __getitem__(self, text):
        return self.found()[text]

    def items(self):
        return self.found().items()


def sizes(rng, count, low=3, high=8):
    """Different axis lengths, so that a mixed-up axis shows."""
    return [int(size) for size in rng.choice(np.arange(low, high), count, replace=False)]


def away_from_zero(rng, low, high, size):
    return rng.choice([-1.0, 1.0], size) * rng.uniform(low, high, size)


def table(rng, n, d):
    """n examples of d features, each with its own mean, spread and skewness."""
    values = rng.normal(size=(n, d)) + rng.uniform(0.3, 0.6, d) * rng.normal(size=(n, d)) ** 2
    return away_from_zero(rng, 2, 6, d) + rng.uniform(1.5, 3, d) * values


# ------------------------------------------------------------------------------------------------- 1. predict_noise
predict_noise = problem_set.question(
    "predict_noise(x, m) -> with_replacement, without_replacement, of_variance",
    points=10,
    borrowed=(*BATCH_NORMS, "bnlab.experiments.batch_noise.noise_theory"),
)


def noise_arguments(rng):
    n, d = int(rng.integers(9, 15)), sizes(rng, 1)[0]
    return table(rng, n, d), int(rng.integers(3, n - 3))


def fourth_powers(x):
    """Kurtosis of each feature: the mean fourth power of its standardized values."""
    return (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)


@predict_noise.part("the mean, with replacement", weight=2)
def _(student, rng):
    x, m = noise_arguments(rng)
    given, _, _ = student(x, m)
    mistakes = {
        "This is 1/m, the variance of the mean. Its standard deviation is the square root of that.": 1 / m,
        "This divides by sqrt(n), the size of the whole set. The mean of a batch has m values behind it.": (
            1 / np.sqrt(len(x))
        ),
        "m - 1 belongs to the unbiased variance. The mean of m values has noise 1/sqrt(m).": 1 / np.sqrt(m - 1),
        "This is the noise without replacement. Did the two swap their places?": np.sqrt(
            (len(x) - m) / (len(x) - 1) / m
        ),
        "This is sqrt(m), which grows with the batch: divide instead.": np.sqrt(m),
    }
    hint = "The noise is measured in units of sigma: no number of x enters, only m."
    agree("with_replacement", given, 1 / np.sqrt(m), mistakes=mistakes, tolerance=NEAR, hint=hint)


@predict_noise.part("the mean, without replacement", weight=3)
def _(student, rng):
    x, m = noise_arguments(rng)
    n = len(x)
    _, given, _ = student(x, m)
    mistakes = {
        "The correction lacks its square root: it multiplies the variance of the mean by (n - m)/(n - 1), and so the "
        "standard deviation by the root of that.": (n - m) / (n - 1) / np.sqrt(m),
        "This is the variance of the mean: take the square root of all of it.": (n - m) / (n - 1) / m,
        "The correction is (n - m)/(n - 1), not (n - m)/n: it must be 1 for batches of one example.": (
            np.sqrt((n - m) / n / m)
        ),
        "The correction is upside down: without replacement there is less noise, not more.": (
            np.sqrt((n - 1) / (n - m) / m)
        ),
        "This is the noise with replacement. Did the two swap their places?": 1 / np.sqrt(m),
        "n is the number of examples, the first axis of x. This counts all the numbers in it.": np.sqrt(
            (x.size - m) / (x.size - 1) / m
        ),
    }
    agree("without_replacement", given, np.sqrt((n - m) / (n - 1) / m), mistakes=mistakes, tolerance=NEAR)


@predict_noise.part("no noise in a batch of everything", weight=1)
def _(student, rng):
    x, _ = noise_arguments(rng)
    _, given, _ = student(x, len(x))
    hint = "A batch without replacement of all n examples is always the same set, so its mean never changes."
    agree("without_replacement", given, 0.0, tolerance=1e-6, hint=hint)


@predict_noise.part("the variance", weight=3)
def _(student, rng):
    x, m = noise_arguments(rng)
    kurtosis, n = fourth_powers(x), len(x)
    _, _, given = student(x, m)
    with np.errstate(invalid="ignore"):
        excess = np.sqrt((kurtosis - 3 - 1) / m)

    def across(mean, std, axis=0):  # x standardized by these, the fourth powers averaged over this axis
        return np.sqrt(((((x - mean) / std) ** 4).mean(axis=axis) - 1) / m)

    mistakes = {
        "This is (kurtosis - 1)/m, the variance of the batch variance. Take the square root.": (kurtosis - 1) / m,
        "The - 1 is missing: sqrt((kurtosis - 1)/m).": np.sqrt(kurtosis / m),
        "This uses the excess kurtosis, from which 3 is subtracted already. For a bell curve the kurtosis is 3 here.": (
            excess
        ),
        "This takes the kurtosis of a bell curve, 3, for every feature. Compute each feature's own from x.": (
            np.full(x.shape[1], np.sqrt(2 / m))
        ),
        "This is in the units of x. Divide by sigma squared.": np.sqrt((kurtosis - 1) / m) * x.var(axis=0),
        "Subtract the mean of each feature before you take fourth powers.": (
            np.sqrt(((x**4).mean(axis=0) / x.var(axis=0) ** 2 - 1) / m)
        ),
        "The kurtosis was standardized by the unbiased standard deviation (n - 1). Divide by n: np.std does so.": (
            np.sqrt((kurtosis * ((n - 1) / n) ** 2 - 1) / m)
        ),
        "This is the kurtosis itself. The noise is sqrt((kurtosis - 1)/m).": kurtosis,
        "This is one number, and mean and standard deviation are one number, too. Each feature has its own: axis=0 in "
        "all three.": across(x.mean(), x.std(), None),
        "This is one number: the last mean, that of the fourth powers, lacks axis=0.": (
            across(x.mean(axis=0), x.std(axis=0), None)
        ),
        "The mean and the standard deviation lack axis=0: all features share one mean and one deviation here.": (
            across(x.mean(), x.std())
        ),
        "The standard deviation lacks axis=0: here all features share one.": across(x.mean(axis=0), x.std()),
        "The mean that is subtracted lacks axis=0: here all features share one.": across(x.mean(), x.std(axis=0)),
        "This divides by n, the size of the whole set. The batch has m values.": np.sqrt((kurtosis - 1) / n),
    }
    agree("of_variance", given, np.sqrt((kurtosis - 1) / m), mistakes=mistakes, tolerance=NEAR)


predict_noise.keeps_its_inputs(noise_arguments)


# -------------------------------------------------------------------------------------------------- 2. noisy_views
noisy_views = problem_set.question("noisy_views(example, x, mates, eps) -> x_hat", points=8)


def view_arguments(rng, m=None, eps=1e-8):
    n, d, count, size = sizes(rng, 4, 4, 10)
    x = table(rng, n, d)
    example = x.mean(axis=0) + away_from_zero(rng, 1.5, 3, d)
    return example, x, rng.integers(n, size=(count, (m or size) - 1)), eps


def views(example, x, mates, eps, *, ddof=0, outside=False, company=True, everything=False, axes=(0, 0), rows_of=None):
    """The example's normalized values, or what a slip makes of them."""
    found = []
    mean_axis, var_axis = axes
    for rows in mates:
        batch = np.vstack([example, x[rows]]) if company else x[rows]
        normalized_rows = example if rows_of is None else np.vstack([example, x[rows]])[rows_of]
        batch = x if everything else batch
        with np.errstate(invalid="ignore", divide="ignore"):
            var = batch.var(axis=var_axis) if len(batch) <= ddof else batch.var(axis=var_axis, ddof=ddof)
            scale = np.sqrt(var) + eps if outside else np.sqrt(var + eps)
            found.append((normalized_rows - batch.mean(axis=mean_axis)) / scale)
    return np.array(found)


def view_mistakes(example, x, mates, eps):
    right = views(example, x, mates, eps)
    ratio = np.array([np.vstack([example, x[rows]]).std(axis=0) for rows in mates])
    return {
        "The example itself is missing from the statistics: a batch of m has m - 1 mates and the example.": (
            views(example, x, mates, eps, company=False)
        ),
        "This divides by m - 1, the unbiased variance. BN normalizes with the biased one: divide by m.": (
            views(example, x, mates, eps, ddof=1)
        ),
        "These are the statistics of the whole of x, the same in every batch. Each batch has its own.": (
            views(example, x, mates, eps, everything=True)
        ),
        "This divides by the variance. Divide by its square root.": right / np.sqrt(ratio**2 + eps),
        "eps was added outside the root. It belongs to the variance, inside: sqrt(var + eps).": (
            views(example, x, mates, eps, outside=True)
        ),
        "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": (
            views(example, x, mates, 0.0)
        ),
        "Batches and features have changed places: one row for each batch.": right.T,
        "axis=0 is forgotten: mean and variance are taken over all numbers of the batch. Each feature has its own.": (
            views(example, x, mates, eps, axes=(None, None))
        ),
        "axis=0 is forgotten in the variance: all features of a batch share one here. Each has its own.": (
            views(example, x, mates, eps, axes=(0, None))
        ),
        "axis=0 is forgotten in the mean: all features of a batch share one here. Each has its own.": (
            views(example, x, mates, eps, axes=(None, 0))
        ),
        "This is the whole batch, normalized. Only the row of the example is asked.": (
            views(example, x, mates, eps, rows_of=slice(None))
        ),
        "This is the whole batch, normalized, with the example at its end. Only the row of the example is asked.": (
            views(example, x, mates, eps, rows_of=[*range(1, mates.shape[1] + 1), 0])
        ),
        "This is a mate of the example, the last one in the batch. Where in the batch did you put the example?": (
            views(example, x, mates, eps, rows_of=-1)
        ),
        "This is a mate of the example, the first one. Where in the batch did you put the example?": (
            views(example, x, mates, eps, rows_of=1)
        ),
        "Every row is the same: this is the view in the first batch. Each batch has its own statistics.": (
            np.tile(right[0], (len(mates), 1))
        ),
    }


@noisy_views.part("normalized by the statistics of its batch", weight=4)
def _(student, rng):
    example, x, mates, eps = view_arguments(rng)
    expected = views(example, x, mates, eps)
    mistakes = Later(view_mistakes, example, x, mates, eps)
    agree("x_hat", student(example, x, mates, eps), expected, mistakes=mistakes, tolerance=NEAR)


@noisy_views.part("eps inside the square root", weight=1)
def _(student, rng):
    example, x, mates, eps = view_arguments(rng, eps=float(rng.uniform(1, 2)))
    expected = views(example, x, mates, eps)
    mistakes = Later(view_mistakes, example, x, mates, eps)
    agree("x_hat", student(example, x, mates, eps), expected, mistakes=mistakes, tolerance=NEAR)


@noisy_views.part("batches of two", weight=2)
def _(student, rng):
    example, x, mates, eps = view_arguments(rng, m=2)
    expected = views(example, x, mates, eps)
    mistakes = Later(view_mistakes, example, x, mates, eps)
    hint = "In a batch of two, each of the two is one standard deviation from their mean: every value is +1 or -1."
    agree("x_hat", student(example, x, mates, eps), expected, mistakes=mistakes, tolerance=NEAR, hint=hint)


noisy_views.keeps_its_inputs(view_arguments)


# --------------------------------------------------------------------------------------------- 3. ghost_batch_norm
ghost_batch_norm = problem_set.question(
    "ghost_batch_norm(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps)"
    " -> y, running_mean, running_var",
    points=16,
)


def ghost_arguments(rng, ghost_size, n, *, training=True, eps=None):
    """A batch in which every group has its own level, as batches of real data do."""
    d = sizes(rng, 1)[0]
    x = table(rng, n, d) + np.repeat(rng.normal(0, 2, size=(-(-n // ghost_size), d)), ghost_size, axis=0)[:n]
    gamma, beta = away_from_zero(rng, 1.5, 3, d), away_from_zero(rng, 1, 4, d)
    running_mean, running_var = away_from_zero(rng, 2, 6, d), rng.uniform(10, 20, d)
    eps = float(rng.uniform(0.2, 0.4)) if eps is None else eps
    return x, gamma, beta, running_mean, running_var, ghost_size, training, 0.1, eps


def even_groups(rng):
    """Groups that come out even, at least two of them."""
    ghost_size = int(rng.integers(4, 6))
    return ghost_arguments(rng, ghost_size, ghost_size * int(rng.integers(3, 5)))


def with_a_rest(rng):
    """The last group is smaller than the others by two or more, and has at least two examples."""
    ghost_size = int(rng.integers(4, 7))
    rest = int(rng.integers(2, ghost_size - 1))  # never one less than a group: then even groups would be the same
    return ghost_arguments(rng, ghost_size, ghost_size * int(rng.integers(2, 4)) + rest)


def consecutive(n, ghost_size):
    return [np.arange(start, min(start + ghost_size, n)) for start in range(0, n, ghost_size)]


def dealt(n, count):
    """Every count-th example, like cards that are dealt."""
    return [np.arange(n)[start::count] for start in range(count)]


def even(n, count):
    """Consecutive groups that differ by one example at most."""
    return np.array_split(np.arange(n), max(1, count))


UNEVEN = (
    "The last group may have fewer examples than the others, so x can't be cut by a reshape or stacked into one array "
    "of groups. A slice x[start : start + ghost_size] stops at the end by itself."
)
GHOST_FAILURES = {
    "cannot reshape": UNEVEN,
    "does not result in an equal division": UNEVEN,
    "inhomogeneous": UNEVEN,
    "need at least one array": "There is no group here: where ghost_size is N or larger, all examples form one.",
}


def in_groups(x, gamma, beta, groups, eps):
    """y with each group normalized by its own statistics, by the reference. Rows of no group are NaN."""
    y = np.full_like(x, np.nan)
    for rows in groups:
        if len(rows) > 1:
            y[rows] = batch_norm_forward(x[rows], gamma, beta, eps=eps)[0]
    return y


def evaluated(x, gamma, beta, running_mean, running_var, eps):
    running = SimpleNamespace(mean=running_mean, var=running_var)
    return batch_norm_forward(x, gamma, beta, running=running, training=False, eps=eps)[0]


def ghost_mistakes(x, gamma, beta, running_mean, running_var, ghost_size, training, momentum, eps):
    n = len(x)
    groups = consecutive(n, ghost_size)
    count = len(groups)
    first = x[groups[0]]
    owner = np.repeat(np.arange(count), [len(rows) for rows in groups])
    mean, var = (np.array([f(x[rows], axis=0) for rows in groups])[owner] for f in (np.mean, np.var))
    size = np.array([len(rows) for rows in groups])[owner][:, None]
    x_hat = (x - mean) / np.sqrt(var + eps)
    all_mean, all_var = (np.array([f(x[rows]) for rows in groups])[owner][:, None] for f in (np.mean, np.var))
    whole = n // ghost_size * ghost_size
    rest_joins = [*groups[:-2], np.concatenate(groups[-2:])] if whole < n and count > 1 else groups
    return {
        "This normalizes the whole batch with one mean and one variance. Each group has its own.": (
            in_groups(x, gamma, beta, [np.arange(n)], eps)
        ),
        "These groups take every G-th example. They should be consecutive: the first ghost_size examples, then the "
        "next.": in_groups(x, gamma, beta, dealt(n, count), eps),
        "ghost_size is the number of examples in a group, not the number of groups.": (
            in_groups(x, gamma, beta, even(n, ghost_size), eps)
        ),
        "The examples that are left over form a group of their own. This joins them to the group before.": (
            in_groups(x, gamma, beta, rest_joins, eps)
        ),
        "These groups are made as even as can be, as np.array_split cuts. Here each has ghost_size examples, and the "
        "last one what is left over.": in_groups(x, gamma, beta, even(n, count), eps),
        "These groups are made as even as can be, and larger than ghost_size, as np.array_split cuts. Here each has "
        "ghost_size examples, and the last one what is left over.": (
            in_groups(x, gamma, beta, even(n, n // ghost_size), eps)
        ),
        "axis=0 is forgotten: mean and variance are taken over all numbers of a group. Each feature has its own.": (
            gamma * (x - all_mean) / np.sqrt(all_var + eps) + beta
        ),
        "axis=0 is forgotten in the variance: all features of a group share one here. Each has its own.": (
            gamma * (x - mean) / np.sqrt(all_var + eps) + beta
        ),
        "axis=0 is forgotten in the mean: all features of a group share one here. Each has its own.": (
            gamma * (x - all_mean) / np.sqrt(var + eps) + beta
        ),
        "This normalizes with the running statistics. In training each group is normalized with its own.": (
            evaluated(x, gamma, beta, running_mean, running_var, eps)
        ),
        "This normalizes every group with the statistics of the first one.": (
            gamma * (x - first.mean(axis=0)) / np.sqrt(first.var(axis=0) + eps) + beta
        ),
        "This normalizes with the unbiased variance. It belongs to running_var only.": (
            gamma * (x - mean) / np.sqrt(var * size / (size - 1) + eps) + beta
        ),
        "This divides by the variance. Divide by its square root.": gamma * (x - mean) / (var + eps) + beta,
        "eps was added outside the root. It belongs to the variance, inside: sqrt(var + eps).": (
            gamma * (x - mean) / (np.sqrt(var) + eps) + beta
        ),
        "eps has no effect here. Is it forgotten, or fixed at 1e-5? Add the eps that was given.": (
            gamma * (x - mean) / np.sqrt(var) + beta
        ),
        "This is x_hat. Multiply it by gamma and add beta.": x_hat,
    }


def y_mistakes(expected, *arguments):
    x, ghost_size = arguments[0], arguments[5]
    n = len(x)
    whole = n // ghost_size * ghost_size
    if whole == n:
        begun = n - ghost_size
        lost = {
            "The last group is lost. Does your loop end one round too early?": expected[:begun],
            "The last group is all zeros. Does your loop end one round too early?": (
                np.concatenate([expected[:begun], 0 * x[begun:]])
            ),
            "The last group came back as it was. Does your loop end one round too early?": (
                np.concatenate([expected[:begun], x[begun:]])
            ),
        }
    else:
        lost = {
            "The last, smaller group is lost. It belongs to the batch: normalize it, too, with its own statistics.": (
                expected[:whole]
            ),
            "The last, smaller group is not normalized: it came back as it was.": (
                np.concatenate([expected[:whole], x[whole:]])
            ),
            "The last, smaller group is all zeros: it was never filled in.": (
                np.concatenate([expected[:whole], 0 * x[whole:]])
            ),
        }
    return ghost_mistakes(*arguments) | lost


def checks_y(student, arguments):
    x, gamma, beta, _, _, ghost_size, _, _, eps = arguments
    y, _, _ = asked(student, *arguments, failures=GHOST_FAILURES)
    expected = in_groups(x, gamma, beta, consecutive(len(x), ghost_size), eps)
    mistakes = Later(y_mistakes, expected, *arguments)
    hint = "Compare one group at a time: which rows of y are right?"
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR, hint=hint)


@ghost_batch_norm.part("y in training, groups of equal size", weight=5)
def _(student, rng):
    checks_y(student, even_groups(rng))


@ghost_batch_norm.part("y in training, with a smaller last group", weight=3)
def _(student, rng):
    checks_y(student, with_a_rest(rng))


@ghost_batch_norm.part("one group for all where ghost_size is large", weight=1)
def _(student, rng):
    n = int(rng.integers(5, 9))
    checks_y(student, ghost_arguments(rng, n + int(rng.integers(0, 3)), n))


@ghost_batch_norm.part("running statistics after training", weight=4)
def _(student, rng):
    arguments = with_a_rest(rng)
    x, _, _, running_mean, running_var, ghost_size, _, momentum, _ = arguments
    _, new_mean, new_var = asked(student, *arguments, failures=GHOST_FAILURES)
    n, groups = len(x), consecutive(len(x), ghost_size)
    otherwise = {  # cut otherwise, or without axis=0: the statistic of each group by the hint
        "These groups take every G-th example. They should be consecutive: the first ghost_size examples, then the "
        "next.": dealt(n, len(groups)),
        "ghost_size is the number of examples in a group, not the number of groups.": even(n, ghost_size),
        "These groups are made as even as can be, as np.array_split cuts. Here each has ghost_size examples, and the "
        "last one what is left over.": even(n, len(groups)),
        "These groups are made as even as can be, and larger than ghost_size, as np.array_split cuts. Here each has "
        "ghost_size examples, and the last one what is left over.": even(n, n // ghost_size),
        "The examples that are left over form a group of their own. This joins them to the group before.": (
            [*groups[:-2], np.concatenate(groups[-2:])]
        ),
    }

    def one_after_the_other(old, values, weight=momentum):
        for value in values:
            old = (1 - weight) * old + weight * value
        return old

    def mistakes(old, values, statistic, name):
        of_all, of_others = (
            statistic(x),
            {text: map(statistic, [x[rows] for rows in cut]) for text, cut in otherwise.items()},
        )
        no_axis = [statistic(x[rows], None) for rows in groups]
        return {
            f"This moves {name} once, by the mean of the groups' statistics. Take in one group after the other.": (
                one_after_the_other(old, [np.mean(values, axis=0)])
            ),
            f"This moves {name} once, by the statistics of the whole batch. Each group brings its own.": (
                one_after_the_other(old, [of_all])
            ),
            f"Only the last group counts here. Is {name} updated from its old value in every round? Continue from what "
            "the group before has left.": one_after_the_other(old, values[-1:]),
            "The last, smaller group is not taken in.": one_after_the_other(old, values[:-1]),
            "The weights are the other way round: momentum is the weight of the group here, as in PyTorch.": (
                one_after_the_other(old, values, 1 - momentum)
            ),
            f"This is {name} as it came. In training it is updated.": old,
            "This is the last group's statistic alone; the old value is forgotten.": values[-1],
            "axis=0 is forgotten: this takes in one number for all features. Each has its own statistics.": (
                one_after_the_other(old, no_axis)
            ),
        } | {text: one_after_the_other(old, found) for text, found in of_others.items()}

    def unbiased_variance(rows, axis=0):
        return np.var(rows, axis=axis) * len(rows) / (len(rows) - 1)

    def mean_of(rows, axis=0):
        return np.mean(rows, axis=axis)

    means = [x[rows].mean(axis=0) for rows in groups]
    agree(
        "running_mean",
        new_mean,
        one_after_the_other(running_mean, means),
        mistakes=Later(mistakes, running_mean, means, mean_of, "running_mean"),
        tolerance=NEAR,
    )
    unbiased = [x[rows].var(axis=0, ddof=1) for rows in groups]
    biased = [x[rows].var(axis=0) for rows in groups]
    factors = {
        "This takes in the biased variance. running_var wants the unbiased one: multiply by m / (m - 1).": biased,
        "m in the factor m / (m - 1) is the size of the group, not of the batch.": (
            [var * len(x) / (len(x) - 1) for var in biased]
        ),
        "m in the factor m / (m - 1) is the size of this group. The last one is smaller than ghost_size.": (
            [var * ghost_size / (ghost_size - 1) for var in biased]
        ),
        "axis=0 is forgotten: this takes in one number for all features, the variance of all numbers of a group.": (
            [x[rows].var(ddof=1) for rows in groups]
        ),
        "axis=0 is forgotten, and this is the biased variance. Each feature has its own variance, and running_var "
        "wants the unbiased one.": [x[rows].var() for rows in groups],
    }
    agree(
        "running_var",
        new_var,
        one_after_the_other(running_var, unbiased),
        mistakes={text: one_after_the_other(running_var, values) for text, values in factors.items()}
        | mistakes(running_var, unbiased, unbiased_variance, "running_var"),
        tolerance=NEAR,
    )


@ghost_batch_norm.part("evaluation", weight=2)
def _(student, rng):
    n = int(rng.integers(8, 12))
    arguments = ghost_arguments(rng, 4, n if n % 4 != 1 else n + 1, training=False)
    x, gamma, beta, running_mean, running_var, ghost_size, _, _, eps = arguments
    y, new_mean, new_var = student(*arguments)
    mistakes = {
        "In evaluation nothing is computed from the batch: normalize with running_mean and running_var.": (
            in_groups(x, gamma, beta, consecutive(len(x), ghost_size), eps)
        ),
        "This normalizes by the statistics of the batch. In evaluation use running_mean and running_var.": (
            in_groups(x, gamma, beta, [np.arange(len(x))], eps)
        ),
        "This divides by the variance. Divide by its square root.": (
            gamma * (x - running_mean) / (running_var + eps) + beta
        ),
        "eps was added outside the root. It belongs to the variance, inside: sqrt(var + eps).": (
            gamma * (x - running_mean) / (np.sqrt(running_var) + eps) + beta
        ),
    }
    expected = evaluated(x, gamma, beta, running_mean, running_var, eps)
    agree("y", y, expected, mistakes=mistakes, tolerance=NEAR)
    hint = "Evaluation must not change the running statistics: return them as they came."
    agree("running_mean", new_mean, running_mean, tolerance=1e-6, hint=hint)
    agree("running_var", new_var, running_var, tolerance=1e-6, hint=hint)


ghost_batch_norm.keeps_its_inputs(even_groups)

# ---------------------------------------------------------------------------------------------- 4. was_it_the_noise
problem_set.written("was_it_the_noise", points=4)

# ------------------------------------------------------------------------------------------------------ 5. dropout
dropout = problem_set.question(
    "dropout(x, p, training, rng) -> y",
    points=10,
    borrowed=("torch.nn.functional.dropout", "torch.nn.modules.dropout", "torch.dropout"),
)


def drawn(student, x, p, generator):
    """The student's y in training, as an array of the shape of x, and where it is zero."""
    y = student(x, p, True, generator)
    if np.shape(y) != x.shape:
        agree("y", y, x)  # says what it is instead
    y = np.array(y, dtype=float)
    return y, y == 0


def seeded(student, rng):
    """A generator on the student's side."""
    return student.make(GENERATOR, int(rng.integers(2**31)))


def wide(rng):
    """A table without zeros, large enough to tell masks with a pattern from masks without one."""
    return away_from_zero(rng, 1, 3, (int(rng.integers(40, 45)), int(rng.integers(50, 55))))


@dropout.part("drops a share p of the values", weight=3)
def _(student, rng):
    x, p = wide(rng)[:20, :30], float(rng.choice([0.2, 0.3, 0.7, 0.8]))
    generator = seeded(student, rng)
    share = np.mean([drawn(student, x, p, generator)[1].mean() for _ in range(16)])
    if abs(share - p) < 0.15:
        return
    hints = {
        1 - p: "p is the probability to be dropped. Here it is the probability to be kept: the mask is turned around.",
        0.0: "Nothing was dropped although training is True.",
        1.0: "Everything is zero.",
        0.5: "A coin with two equal sides drops one half. Use p.",
    }
    hint = next((text for value, text in hints.items() if abs(share - value) < 0.1), "")
    raise Wrong(f"{share:.0%} of the values are zero, expected about {p:.0%} (p = {p:g}).", hint)


@dropout.part("scales what is left", weight=2)
def _(student, rng):
    x, p = wide(rng), float(rng.choice([0.2, 0.3, 0.7, 0.8]))
    y, dropped = drawn(student, x, p, seeded(student, rng))
    mistakes = {
        "The values that are left came through unscaled. Divide them by 1 - p, so that the mean stays.": x,
        "This divides by p, the probability of being dropped. Divide by the probability of being kept, 1 - p.": x / p,
        "This multiplies by 1 - p. To make up for the zeros, divide by it.": x * (1 - p),
        "This multiplies by 1 + p: almost right for a small p, but it is 1/(1 - p) that keeps the mean.": x * (1 + p),
        "This divides by sqrt(1 - p), which keeps the mean square. Dropout keeps the mean: divide by 1 - p.": (
            x / np.sqrt(1 - p)
        ),
        "This divides by 1 - p twice.": x / (1 - p) ** 2,
    }
    mistakes = {text: np.where(dropped, 0, value) for text, value in mistakes.items()}
    agree("y", y, np.where(dropped, 0, x / (1 - p)), mistakes=mistakes, tolerance=NEAR)
    holds(not dropped.all(), f"Everything is zero for p = {p:g}.", "A value is kept with probability 1 - p.")


@dropout.part("every value has a coin of its own", weight=2)
def _(student, rng):
    values = wide(rng)
    _, dropped = drawn(student, values, 0.5, seeded(student, rng))
    rows, columns = dropped.shape
    holds(not dropped.all() and dropped.any(), "All values fared the same.", "One random number for each value.")
    same_row, same_column = (dropped == dropped[:1]).all(), (dropped == dropped[:, :1]).all()
    holds(
        not same_row,
        "Every row has its zeros in the same places.",
        "One mask was drawn for all examples. Draw an array of the shape of x.",
    )
    holds(
        not same_column,
        "Every row is dropped or kept as a whole.",
        "One coin was tossed for each example. Draw an array of the shape of x.",
    )
    generator = seeded(student, rng)
    again = [drawn(student, values, 0.5, generator)[1] for _ in range(4)]
    holds(  # where all calls are the same, another part says so
        len({int(zeros.sum()) for zeros in [dropped, *again]}) > 1 or all(map(np.array_equal, again, again[1:])),
        f"Exactly {dropped.sum()} of {dropped.size} values are zero in each of 5 calls.",
        "Coins that don't know of each other don't add up to the same number every time. Here the last value's fate "
        "follows from the others. Don't choose a fixed number of places: compare one random number for each value "
        "with p.",
    )
    # Independent coins: rows (columns) differ from each other in about half of the places.
    along = [(dropped[1:] != dropped[:-1]).mean(), (dropped[:, 1:] != dropped[:, :-1]).mean()]
    per_row, per_column = dropped.mean(axis=1), dropped.mean(axis=0)
    apart = min(along) > 0.4 and max(along) < 0.6
    spread = per_row.std() > 0.25 / np.sqrt(columns) and per_column.std() > 0.25 / np.sqrt(rows)
    holds(
        bool(apart and spread),
        "The zeros follow a pattern.",
        "Whether a value is dropped may not depend on any other, so their number isn't fixed either: one random number "
        "for each value, compared with p.",
    )


@dropout.part("draws from rng, anew in every call", weight=1)
def _(student, rng):
    x, seed = wide(rng), int(rng.integers(2**31))
    generators = [student.make(GENERATOR, seed), student.make(GENERATOR, seed)]
    first, second = (np.array(student(x, 0.5, True, generator)) for generator in generators)
    holds(
        first.shape == second.shape and np.array_equal(first, second),
        "Two generators with the same seed gave two different results.",
        "There is another source of random numbers, such as np.random.rand or a generator made without a seed. "
        "Draw from rng alone.",
    )
    again = np.array(student(x, 0.5, True, generators[0]))
    holds(
        not np.array_equal(first, again),
        "Two calls with one generator dropped the same values.",
        "Is a seed set in the function? Draw from rng alone: it moves on by itself.",
    )


@dropout.part("evaluation leaves the values as they are", weight=1)
def _(student, rng):
    x, p = wide(rng)[:4, :3], float(rng.choice([0.3, 0.7]))
    y = student(x, p, False, seeded(student, rng))
    mistakes = {
        "This multiplies by 1 - p in evaluation. The scaling was done in training: evaluation does nothing.": x
        * (1 - p),
        "This divides by 1 - p in evaluation, where nothing is dropped. It belongs to training.": x / (1 - p),
        "This multiplies by p in evaluation. Evaluation does nothing.": x * p,
    }
    hint = "With training=False nothing is dropped and nothing is scaled."
    agree("y", y, x, mistakes=mistakes, tolerance=NEAR, hint=hint)


@dropout.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    changed = student.changed_by(wide(rng), 0.5, True, seeded(student, rng))
    holds("x" not in changed, "dropout changed its input x in place.", "Make a new array: y = x * mask, not x *= mask.")


# ----------------------------------------------------------------------------------------------- 6. variance_shift
variance_shift = problem_set.question("variance_shift(h, weight, p) -> train_var, eval_var", points=12)


def shift_arguments(rng, centered=False):
    """Inputs that go together with each other, as those of a layer do."""
    n, d, k = int(rng.integers(20, 30)), *sizes(rng, 2)
    h = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=(n, 1))
    h = h - h.mean(axis=0)
    if not centered:
        h = h + away_from_zero(rng, 2, 4, d)
    return h, rng.normal(size=(d, k)), float(rng.choice([0.2, 0.3, 0.6, 0.7]))


def shift_mistakes(h, weight, p):
    eval_var = (h @ weight).var(axis=0)
    squares, var, squared_mean = (h**2).mean(axis=0), h.var(axis=0), h.mean(axis=0) ** 2
    ratio = p / (1 - p)
    centered = squared_mean.max() < 1e-9 * var.max()
    return {
        "This is the variance in evaluation. In training the masks add to it."
        + (
            " If you do add something, it is zero here: the squared mean, h.mean(axis=0)**2? The mean square is asked: "
            "square first, (h**2).mean(axis=0)."
            if centered
            else ""
        ): eval_var,
        "This takes the squared mean of the inputs, h.mean(axis=0)**2. The masks disturb h**2, so the mean square "
        "belongs here: square first, (h**2).mean(axis=0).": eval_var + ratio * squared_mean @ weight**2,
        "The factor is p/(1 - p). This has p/(1 - p)**2. A coin has the variance p(1 - p), and the kept "
        "values are divided by 1 - p, so this is divided by (1 - p)**2: one factor cancels.": eval_var
        + p / (1 - p) ** 2 * squares @ weight**2,
        "This sums over the examples. Take the mean over them, and the sum over the inputs.": (
            eval_var + ratio * len(h) * squares @ weight**2
        ),
        "This takes the mean over the inputs of a neuron. What the masks add is a sum over the inputs.": (
            eval_var + ratio * squares @ weight**2 / h.shape[1]
        ),
        "axis=0 is forgotten in the mean square: all inputs share one here. Each has its own.": (
            eval_var + ratio * (h**2).mean() * (weight**2).sum(axis=0)
        ),
        "axis=0 is forgotten in var(z): one number for all neurons. Each has its own variance.": (
            (h @ weight).var() + ratio * squares @ weight**2
        ),
        "axis=0 is forgotten: var(z) and the mean square are one number each. Each neuron has its own variance, and "
        "each input its own mean square.": (h @ weight).var() + ratio * (h**2).mean() * (weight**2).sum(axis=0),
        "This takes the variance of the inputs where their mean square belongs: the masks disturb h**2, and an input "
        "that has a mean is disturbed even where it is constant. E[h^2] = variance + mean^2.": (
            eval_var + ratio * var @ weight**2
        ),
        "p and 1 - p have changed places: p is the probability that a value is dropped, so the factor is p/(1 - p).": (
            eval_var + squares @ weight**2 / ratio
        ),
        "The weights enter squared: a factor w multiplies a variance by w**2.": eval_var + ratio * squares @ weight,
        "The factor is p/(1 - p). This has p(1 - p), which fits a dropout that doesn't divide by 1 - p.": (
            eval_var + p * (1 - p) * squares @ weight**2
        ),
        "The factor is p/(1 - p). This has 1/(1 - p): the mean square of the dropped values, from which their squared "
        "mean h**2 is not subtracted yet.": eval_var + squares @ weight**2 / (1 - p),
        "This is var(z)/(1 - p). That would be right for a single input of mean zero. Here the masks of the inputs are "
        "independent of each other, so what they add is a sum over the inputs.": eval_var / (1 - p),
        "This adds up the variances of the inputs, as if they were independent of each other, where var(h @ weight) "
        "belongs.": var @ weight**2 + ratio * squares @ weight**2,
        "var(z) is missing: the masks add to the variance that the values have anyway.": ratio * squares @ weight**2,
        "This scales the mean square of z. The masks fall on the inputs: square weights and inputs before you sum.": (
            eval_var + ratio * ((h @ weight) ** 2).mean(axis=0)
        ),
    }


SHIFT_FAILURES = {
    "matmul": "The mean of h**2 over axis 0 has the shape (D,), one mean square for each input, and weight**2 has the "
    "shape (D, K). Without axis=0 the mean is a single number, which @ doesn't take."
}


def checks_train_var(student, arguments):
    h, weight, p = arguments
    train_var, _ = asked(student, *arguments, failures=SHIFT_FAILURES)
    expected = (h @ weight).var(axis=0) + p / (1 - p) * (h**2).mean(axis=0) @ weight**2
    agree("train_var", train_var, expected, mistakes=shift_mistakes(*arguments), tolerance=NEAR)


@variance_shift.part("variance in evaluation", weight=2)
def _(student, rng):
    h, weight, p = shift_arguments(rng)
    _, eval_var = asked(student, h, weight, p, failures=SHIFT_FAILURES)
    z = h @ weight
    mistakes = {
        "This adds up the variances of the inputs, weighted by the squared weights. That holds for inputs that are "
        "independent of each other, which these aren't. Take the variance of z.": h.var(axis=0) @ weight**2,
        "This divides by n - 1. The biased variance is asked: divide by n.": z.var(axis=0, ddof=1),
        "This is the variance in training. Return train_var, eval_var in this order.": (
            z.var(axis=0) + p / (1 - p) * (h**2).mean(axis=0) @ weight**2
        ),
        "This is the standard deviation. The variance is its square.": z.std(axis=0),
        "This is the mean square of z. Subtract the mean: np.var does so.": (z**2).mean(axis=0),
        "This is scaled by 1 - p. In evaluation dropout does nothing at all.": z.var(axis=0) * (1 - p),
        "This is scaled by (1 - p)**2. In evaluation dropout does nothing at all.": z.var(axis=0) * (1 - p) ** 2,
        "axis=0 is forgotten: this is one number, the variance of all of z. Each neuron has its own.": z.var(),
        "This is the variance over the neurons of each example. A statistic belongs to a neuron: axis 0.": z.var(
            axis=1
        ),
    }
    agree("eval_var", eval_var, z.var(axis=0), mistakes=mistakes, tolerance=NEAR)


@variance_shift.part("variance in training, inputs of mean zero", weight=4)
def _(student, rng):
    checks_train_var(student, shift_arguments(rng, centered=True))


@variance_shift.part("variance in training, inputs with a mean", weight=4)
def _(student, rng):
    checks_train_var(student, shift_arguments(rng))


@variance_shift.part("no shift without dropout", weight=1)
def _(student, rng):
    h, weight, _ = shift_arguments(rng)
    train_var, _ = asked(student, h, weight, 0.0, failures=SHIFT_FAILURES)
    mistakes = shift_mistakes(h, weight, 1e-9)
    hint = "Where p is 0 dropout does nothing, so training and evaluation see the same variance."
    agree("train_var", train_var, (h @ weight).var(axis=0), mistakes=mistakes, tolerance=NEAR, hint=hint)


variance_shift.keeps_its_inputs(shift_arguments)


# ---------------------------------------------------------------------------------------------- 7. scale_invariant
# Four small networks, each a function of a list of arrays. Their data are fixed.
_data = np.random.default_rng(60)
X, TARGETS = _data.normal(1, 2, size=(24, 6)), _data.normal(size=(24, 3))


def normalized(z):
    return (z - z.mean(axis=0)) / z.std(axis=0)


def squared_error(outputs):
    return float(((outputs - TARGETS) ** 2).mean())


def layer_and_output(parameters):
    """weights (6, H), BN with gamma and beta (H,), ReLU, output (H, 3)."""
    weights, gamma, beta, output = parameters
    return squared_error(np.maximum(gamma * normalized(X @ weights) + beta, 0) @ output)


def two_layers(parameters):
    """weights 1 (6, H), BN with gamma (H,), ReLU, weights 2 (H, K), BN without either, ReLU, output (K, 3)."""
    weights1, gamma, weights2, output = parameters
    h = np.maximum(gamma * normalized(X @ weights1), 0)
    return squared_error(np.maximum(normalized(h @ weights2), 0) @ output)


def with_bias(parameters):
    """output (H, 3), weights (6, H), bias (H,) before BN, which has gamma and beta (H,); the output comes first."""
    output, weights, bias, gamma, beta = parameters
    return squared_error(np.maximum(gamma * normalized(X @ weights + bias) + beta, 0) @ output)


def without_bn(parameters):
    """weights (6, H), bias (H,), ReLU, output (H, 3)."""
    weights, bias, output = parameters
    return squared_error(np.maximum(X @ weights + bias, 0) @ output)


NETWORKS = {
    "layer_and_output": (layer_and_output, [True, False, False, False]),
    "two_layers": (two_layers, [True, True, True, False]),
    "with_bias": (with_bias, [False, True, True, False, False]),
    "without_bn": (without_bn, [False, False, False]),
}


class Loss:
    """A loss that keeps the arrays it was asked for, so that a hint can say what was tried."""

    def __init__(self, name):
        self.network = NETWORKS[name][0]
        self.asked = []

    def __call__(self, parameters):
        self.asked.append([np.array(array) for array in parameters])
        return self.network(parameters)


scale_invariant = problem_set.question("scale_invariant(loss, parameters) -> invariant", points=8, borrowed=())


def network_parameters(rng, name):
    h, k = sizes(rng, 2, 5, 9)
    weights, vector = (6, h), (h,)
    shapes = {
        "layer_and_output": [weights, vector, vector, (h, 3)],
        "two_layers": [weights, vector, (h, k), (k, 3)],
        "with_bias": [(h, 3), weights, vector, vector, vector],
        "without_bn": [weights, vector, (h, 3)],
    }[name]
    return [away_from_zero(rng, 0.5, 1.5, shape) for shape in shapes]


def checks_invariance(student, rng, name):
    parameters = network_parameters(rng, name)
    loss = student.make("checks:Loss", name)
    given = student(loss, parameters)
    network, expected = NETWORKS[name]
    message = f"invariant is {given!r}, expected a list of {len(parameters)} times True or False."
    holds(
        isinstance(given, list | tuple | np.ndarray) and len(given) == len(parameters), message, "One for each array."
    )
    holds(all(isinstance(answer, bool | np.bool_ | int | np.integer) for answer in given), message)
    for k, (answer, right) in enumerate(zip(given, expected, strict=True)):
        if bool(answer) != right:
            before, after = (network([*parameters[:k], a * parameters[k], *parameters[k + 1 :]]) for a in (1, 2))
            raise Wrong(
                f"invariant[{k}] is {bool(answer)}, expected {right}. With parameters[{k}] as it is the loss is "
                f"{before:.6g}, with twice that array it is {after:.6g}.",
                experiment_hint(loss, parameters),
            )


def experiment_hint(loss, parameters):
    """What the student asked the loss, if that shows the mistake."""
    asked = [arrays for arrays in loss.get("asked") if [np.shape(a) for a in arrays] == [a.shape for a in parameters]]
    ratios = [[np.asarray(a, float) / b for a, b in zip(arrays, parameters, strict=True)] for arrays in asked]
    changed = [[r for r in ratio if np.ptp(r) > 1e-12 or abs(r.flat[0] - 1) > 1e-12] for ratio in ratios]
    if not any(changed):
        return "The loss was never asked with another size of an array: multiply one by 2 and ask again."
    if max(map(len, changed)) > 1:
        return (
            "The loss was asked with several arrays changed at once. Change one at a time, and leave those that were "
            "tried before as they came: build a new list for every question."
        )
    (ratio,) = next(found for found in changed if found)
    factor = float(ratio.flat[0])
    if np.ptp(ratio) > 1e-6 * abs(factor):
        return "The array was not multiplied: something was added to it, or its entries had different factors."
    if factor < 0:
        return "The factor is negative: that turns the weights around. Their size is asked: take a positive factor."
    if factor == 0:
        return "The factor is 0, which leaves nothing to normalize. Take a positive one, such as 2."
    if abs(factor - 1) < 1e-3:
        return f"The factor, {factor:.12g}, is so close to 1 that everything seems to stay the same. Take 2, or 10."
    return (
        "The array was changed as it should be, so look at the comparison. Losses that are equal on paper differ by "
        "rounding, 1e-16 or so: == finds them different. Take a relative difference below 1e-6 as none."
    )


@scale_invariant.part("one hidden layer with BN", weight=3)
def _(student, rng):
    checks_invariance(student, rng, "layer_and_output")


@scale_invariant.part("networks with other parameters", weight=3)
def _(student, rng):
    checks_invariance(student, rng, "two_layers")
    checks_invariance(student, rng, "with_bias")


@scale_invariant.part("a network without BN", weight=1)
def _(student, rng):
    checks_invariance(student, rng, "without_bn")


@scale_invariant.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    name = str(rng.choice(list(NETWORKS)))
    changed = student.changed_by(student.make("checks:Loss", name), network_parameters(rng, name))
    holds(
        "parameters" not in changed,
        "scale_invariant changed its input parameters in place.",
        "Build a new list with the scaled array: 2 * array makes a new array, array *= 2 changes the caller's.",
    )


# ------------------------------------------------------------------------------------------------ 8. follow_length
follow_length = problem_set.question("follow_length(length, g, lr, decay, steps) -> lengths, rates, resting", points=12)


def length_arguments(rng, steps=None):
    """A rate and a decay whose product is not small, so that no approximation will do."""
    lr = float(rng.uniform(0.3, 0.6))
    steps = int(rng.integers(4, 9)) if steps is None else steps
    return float(rng.uniform(1.5, 3)), float(rng.uniform(2, 4)), lr, float(rng.uniform(0.3, 0.6)), steps


def path(length, g, lr, decay, steps, *, shrink=None, grows=None):
    """The lengths, or what a slip makes of them."""
    shrink = 1 - lr * decay if shrink is None else shrink
    lengths = [length]
    for _ in range(steps):
        ell = lengths[-1]
        lengths.append(np.hypot(shrink * ell, lr * g / ell) if grows is None else grows(shrink * ell, ell))
    return np.array(lengths)


def path_mistakes(length, g, lr, decay, steps):
    arguments = (length, g, lr, decay, steps)
    return {
        "The lengths are added. The two arrows stand at a right angle: square both, add, and take the root.": (
            path(*arguments, grows=lambda kept, ell: kept + lr * g / ell)
        ),
        "The decay is not multiplied by the learning rate: the factor is 1 - lr * decay.": (
            path(*arguments, shrink=1 - decay)
        ),
        "The decay makes the weights longer here: the factor is 1 - lr * decay.": path(
            *arguments, shrink=1 + lr * decay
        ),
        "The decay has no effect here: the old weights are shortened by the factor 1 - lr * decay.": (
            path(*arguments, shrink=1.0)
        ),
        "The gradient has the length g at every length of the weights here. For weights of length l it is g / l.": (
            path(*arguments, grows=lambda kept, ell: np.hypot(kept, lr * g))
        ),
        "The gradient is not multiplied by the learning rate: the step has the length lr * g / l.": (
            path(*arguments, grows=lambda kept, ell: np.hypot(kept, g / ell))
        ),
        "The gradient shortens the weights here. It is perpendicular to them, so a step makes them longer: add the "
        "squares.": path(*arguments, grows=lambda kept, ell: np.sqrt(np.abs(kept**2 - (lr * g / ell) ** 2))),
        "This shortens the weights after the step. Decay and gradient act together: only the old weights are "
        "shortened.": path(*arguments, grows=lambda kept, ell: (1 - lr * decay) * np.hypot(ell, lr * g / ell)),
        "The gradient is g divided by the length that decay has left. It belongs to the weights before the step: "
        "g / l.": path(*arguments, grows=lambda kept, ell: np.hypot(kept, lr * g / kept)),
        "These are the squared lengths. Take the root.": path(*arguments) ** 2,
        "This subtracts the length of the step from the old length. The step isn't directed against the weights but "
        "stands at a right angle to them: square both, add, and take the root.": (
            path(*arguments, grows=lambda kept, ell: kept - lr * g / ell)
        ),
        "The gradient has the length g * l here, longer for longer weights. It is the other way round: g / l.": (
            path(*arguments, grows=lambda kept, ell: np.hypot(kept, lr * g * ell))
        ),
        "The gradient is divided by the squared length. Its length is g / l; only the effective rate has l squared.": (
            path(*arguments, grows=lambda kept, ell: np.hypot(kept, lr * g / ell**2))
        ),
        "The square of 1 - lr * decay is 1 - 2 * lr * decay + (lr * decay)**2. This leaves out the last term, which is "
        "not small here.": (
            path(*arguments, grows=lambda kept, ell: np.sqrt((1 - 2 * lr * decay) * ell**2 + (lr * g / ell) ** 2))
        ),
        "The old weights are shortened by 1 - lr * decay, and squared after that. This shortens the squared length.": (
            path(*arguments, grows=lambda kept, ell: np.sqrt((1 - lr * decay) * ell**2 + (lr * g / ell) ** 2))
        ),
    }


def checks_lengths(student, arguments):
    lengths, _, _ = student(*arguments)
    steps = arguments[-1]
    mistakes = path_mistakes(*arguments)
    mistakes |= {
        "The length before the first step is missing: there are steps + 1 numbers.": path(*arguments)[1:],
        "The last step is missing: there are steps + 1 numbers, the first one before any step.": path(*arguments)[
            :steps
        ],
    }
    agree("lengths", lengths, path(*arguments), mistakes=mistakes, tolerance=NEAR)


@follow_length.part("the length after one step", weight=3)
def _(student, rng):
    checks_lengths(student, length_arguments(rng, steps=1))


@follow_length.part("the lengths of several steps", weight=2)
def _(student, rng):
    checks_lengths(student, length_arguments(rng))


@follow_length.part("the effective learning rate", weight=3)
def _(student, rng):
    arguments = length_arguments(rng)
    _, g, lr, decay, steps = arguments
    lengths, rates, _ = student(*arguments)
    if np.shape(lengths) != (steps + 1,):  # a mistake of its own, with a part of its own
        lengths = path(*arguments)
    lengths = np.asarray(lengths, dtype=float)
    mistakes = {
        "This divides by the length. A step turns the weights by lr * (g / length) / length: divide by the *squared* "
        "length.": lr / lengths,
        "This is lr * length**2. The longer the weights, the less a step turns them: divide.": lr * lengths**2,
        "This is the learning rate times decay divided by the squared length. Only the learning rate is asked.": (
            lr * decay / lengths**2
        ),
        "This is the angle of the step, with g in it. The effective learning rate is lr / length**2.": (
            lr * g / lengths**2
        ),
        "This is lr divided by the root of the length.": lr / np.sqrt(lengths),
        "One rate for each length is asked. This has only the last.": lr / lengths[-1] ** 2,
    }
    agree("rates", rates, lr / lengths**2, mistakes=mistakes, tolerance=NEAR)


@follow_length.part("the resting length", weight=4)
def _(student, rng):
    arguments = length_arguments(rng)
    _, g, lr, decay, _ = arguments
    _, _, resting = student(*arguments)
    fourth = (lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)
    mistakes = {
        "This belongs to a gradient of length g / l**2. Its length is g / l, so the fourth root is asked, not the "
        "sixth.": fourth ** (1 / 6),
        "This is the approximation for small lr * decay, which leaves out the square of it. Keep the whole of "
        "1 - (1 - lr * decay)**2.": (lr * g**2 / (2 * decay)) ** 0.25,
        "This is the square of the resting length. Two slips lead here: one root too few (l**4 stood on the left), or "
        "a gradient of length g, however long the weights are. It is g / l.": np.sqrt(fourth),
        "This is the fourth power of the resting length. Take the fourth root.": fourth,
        "This is the last of the lengths. The resting length is where they would end up after many more steps: solve "
        "for the length that a step doesn't change.": path(*arguments)[-1],
        "The decay is not multiplied by the learning rate: the factor is 1 - lr * decay.": (
            ((lr * g) ** 2 / (1 - (1 - decay) ** 2)) ** 0.25
        ),
        "This is the resting length if lengths were added. The gradient is perpendicular: square, then add.": (
            np.sqrt(g / decay)
        ),
        "The shrinking factor 1 - lr * decay must be squared: Pythagoras is about squared lengths.": (
            ((lr * g) ** 2 / (lr * decay)) ** 0.25
        ),
    }
    hint = "Put resting in place of the length and take one step: it should come out unchanged."
    agree("resting", resting, fourth**0.25, mistakes=mistakes, tolerance=NEAR, hint=hint)


# --------------------------------------------------------------------------------------------- 9. what_decay_does
problem_set.written("what_decay_does", points=4)

# ---------------------------------------------------------------------------------------------- 10. corrupt_labels
corrupt_labels = problem_set.question(
    "corrupt_labels(y, classes, share, rng) -> labels, corrupted",
    points=8,
    borrowed=("bnlab.experiments.memorization.relabel",),
)


def label_arguments(student, rng, n=400, share=None):
    classes = int(rng.integers(3, 6))
    share = float(rng.choice([0.25, 0.375, 0.5])) if share is None else share
    return rng.integers(classes, size=n), classes, share, seeded(student, rng)


def new_labels(student, y, classes, share, generator):
    """What the student returned, the labels as an array of integers between 0 and classes - 1."""
    labels, corrupted = student(y, classes, share, generator)
    if np.shape(labels) != y.shape:
        agree("labels", labels, y)  # says what it is instead
    labels = np.array(labels)
    bad = next((label for label in labels.tolist() if label not in range(classes)), None)
    holds(
        bad is None,
        f"labels contains {bad}, expected integers from 0 to {classes - 1}.",
        "Beyond the last class the wheel starts again: take the remainder, % classes.",
    )
    return labels, corrupted


@corrupt_labels.part("exactly the share asked for is wrong", weight=2)
def _(student, rng):
    # What is replaced is no whole number of labels: once a little more than one, once a little less.
    for fraction in (0.2, -0.2):
        y = label_arguments(student, rng)[0][: int(rng.integers(190, 201))]
        checks_count(student, rng, y, (round(float(rng.choice([0.25, 0.375])) * len(y)) + fraction) / len(y))


def checks_count(student, rng, y, share):
    classes, generator = int(y.max()) + 1, seeded(student, rng)
    labels, _ = new_labels(student, y, classes, share, generator)
    wrong, count = int((labels != y).sum()), round(share * len(y))
    if wrong == count:
        return
    again = [int((new_labels(student, y, classes, share, generator)[0] != y).sum()) for _ in range(12)]
    mean, same, few = np.mean(again), 1 / classes, 0.3 * count / classes
    if {wrong, *again} == {count - 1}:
        hint = (
            f"share * len(y) is {share * len(y):.5g} here. int() and // cut off what is behind the point: use round()."
        )
    elif {wrong, *again} == {count + 1}:
        hint = f"share * len(y) is {share * len(y):.5g} here. This rounds up: use round()."
    elif abs(mean - (len(y) - count)) < few:
        hint = "Kept and replaced are turned around."
    elif abs(mean - count * (1 - same)) < few:
        hint = (
            "Some labels were replaced by themselves: a label drawn from all classes stays the same in one of "
            f"{classes} cases, and shuffled labels meet their equals, too. Draw from the other classes."
        )
    elif abs(mean - count) < few:
        hint = "Is a coin tossed for every label? Then their number is random. Choose exactly round(share * len(y))."
    else:
        hint = "Choose round(share * len(y)) different examples, and give each a label that differs from its own."
    raise Wrong(f"{wrong} of {len(y)} labels differ from y, expected {count} (share = {share:g}).", hint)


@corrupt_labels.part("every other class is equally likely", weight=1)
def _(student, rng):
    y, classes, share, generator = label_arguments(student, rng, n=3000, share=0.5)
    labels, _ = new_labels(student, y, classes, share, generator)
    moved = ((labels - y) % classes).astype(int)
    counts = np.bincount(moved, minlength=classes)[1:]
    expected = counts.sum() / (classes - 1)
    allowed = 6 * np.sqrt(expected)
    if counts.any() and np.abs(counts - expected).max() <= allowed:
        return
    hint = "Given that a label is replaced, all classes but its own must be equally likely."
    if np.count_nonzero(counts) == 1:
        hint = (
            "Every replaced label moves to the same neighbor. Draw how many places it moves on, from 1 to classes - 1."
        )
    raise Wrong(
        "Of the labels that differ, "
        + ", ".join(f"{count} lie {step + 1} on" for step, count in enumerate(counts))
        + f" (modulo {classes} classes), expected about {expected:.0f} each.",
        hint,
    )


@corrupt_labels.part("a random choice, drawn from rng", weight=2)
def _(student, rng):
    y, classes, _, _ = label_arguments(student, rng)
    seed = int(rng.integers(2**31))
    generators = [student.make(GENERATOR, seed), student.make(GENERATOR, seed)]
    first, second = (new_labels(student, y, classes, 0.5, generator)[0] for generator in generators)
    holds(
        np.array_equal(first, second),
        "Two generators with the same seed gave two different results.",
        "There is another source of random numbers, such as np.random.permutation or a generator made without a seed. "
        "Draw from rng alone.",
    )
    again = new_labels(student, y, classes, 0.5, generators[0])[0]
    holds(
        not np.array_equal(first != y, again != y),
        "Two calls with one generator replaced the labels of the same examples.",
        "Which labels are replaced must be random, by numbers from rng. Always the first ones, or a seed set in the "
        "function, is no random choice.",
    )
    places = np.flatnonzero(first != y)
    holds(
        len(places) > 0 and abs(places.mean() / len(y) - 0.5) < 0.2,
        "The replaced labels lie together at one end of y.",
        "Choose the examples at random: the first entries of rng.permutation(len(y)), say.",
    )


@corrupt_labels.part("tells which labels were replaced", weight=1)
def _(student, rng):
    y, classes, share, generator = label_arguments(student, rng)
    labels, corrupted = new_labels(student, y, classes, share, generator)
    given = np.asarray(corrupted) if isinstance(corrupted, list | tuple | np.ndarray) else None
    hint = "True where labels differs from y, False elsewhere: labels != y."
    if given is not None and given.shape == y.shape and given.dtype != bool and np.isin(given, [0, 1]).all():
        raise Wrong(
            f"corrupted holds zeros and ones of dtype {given.dtype}, expected True and False.",
            "As an index, zeros and ones would pick the examples 0 and 1. Make it bool: np.zeros(len(y), dtype=bool), "
            "corrupted.astype(bool), or labels != y.",
        )
    holds(
        given is not None and given.shape == y.shape and given.dtype == bool,
        f"corrupted should be an array of {len(y)} times True or False"
        + (f"; its shape is {given.shape} and its dtype {given.dtype}." if given is not None else "."),
        "A mask is asked, one entry for each example, not the positions of the replaced labels.",
    )
    if np.array_equal(given, labels == y):
        hint = "It is turned around: True means that the label was replaced."
    holds(np.array_equal(given, labels != y), "corrupted is not True precisely where labels and y differ.", hint)


@corrupt_labels.part("labels stay integers", weight=1, counts_alone=False)
def _(student, rng):
    labels, _ = new_labels(student, *label_arguments(student, rng))
    holds(
        labels.dtype.kind in "iu",
        f"labels has dtype {labels.dtype}, expected integers such as {np.dtype(int)}.",
        "Labels are used as an index, which takes integers only. np.zeros(n), np.empty(n) and / make floats: start "
        "from y.copy().",
    )


@corrupt_labels.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    changed = student.changed_by(*label_arguments(student, rng))
    holds(
        "y" not in changed,
        "corrupt_labels changed its input y in place.",
        "The caller still needs the true labels: start from y.copy().",
    )


# ------------------------------------------------------------------------------------------------ 11. honest_score
honest_score = problem_set.question("honest_score(validation, test) -> rate, stop, score", points=8, borrowed=())


def study(rng):
    """Losses in which each dishonest or careless choice is another one than the honest choice."""
    while True:
        r, s, t = sizes(rng, 3, 5, 10)
        validation, test = rng.uniform(1, 2, size=(2, r, s, t))
        rate, stop = right_choice(validation)
        choices = [(rate, stop), (stop, rate), *(choice for _, choice in careless(validation, test))]
        if len(set(choices)) == len(choices):
            return validation, test


def with_diverged(rng):
    """Losses where the best choice is a rate before it loses a seed, and those that are left look even better after it.

    Another rate has lost a seed by then. So whoever drops a rate because of what happens to it later, or a moment
    because of what happened to another rate, chooses something else, and so does whoever averages over the survivors.
    """
    while True:
        validation, test = diverging(rng)
        choices = [right_choice(validation), *(choice for _, choice in rash(validation))]
        if len(set(choices)) == len(choices):
            return validation, test


def diverging(rng):
    r, s, t = sizes(rng, 3, 5, 10)
    validation, test = rng.uniform(3, 4, size=(2, r, s, t))
    best, lost = rng.choice(r, 2, replace=False)
    stop = int(rng.integers(1, t - 3))
    since = int(rng.integers(stop + 1, t - 2))
    validation[best, :, stop] -= 1
    validation[best, :, int(rng.integers(since + 1, t - 1))] -= 2
    for rate, start in ((best, since), (lost, int(rng.integers(1, stop + 1)))):
        seed = int(rng.integers(s))
        validation[rate, seed, start:] = test[rate, seed, start:] = np.nan
    return validation, test


def of_some(validation, keep):
    """The choice among those means over the seeds that `keep`, of the shape of the means, leaves."""
    mean = np.where(keep, validation.mean(axis=1), np.inf)
    return np.unravel_index(np.nanargmin(mean), mean.shape)


def rash(validation):
    """Choices of those who drop too much: a hint and the (rate, stop) that it explains."""
    lost = np.isnan(validation.mean(axis=1))
    return [
        (
            "This drops a learning rate altogether because it diverged later. Up to then it may be chosen: an arm that "
            "stops in time never sees it diverge.",
            of_some(validation, ~lost.any(axis=1, keepdims=True)),
        ),
        (
            "This drops a moment altogether because another learning rate had diverged by then. Only the rate that "
            "diverged can't be chosen there.",
            of_some(validation, ~lost.any(axis=0, keepdims=True)),
        ),
    ]


def survivors(validation):
    """The choice of one who averages over the seeds that are left."""
    scores = np.nanmean(validation, axis=1)
    return np.unravel_index(scores.argmin(), scores.shape)


def careless(validation, test):
    """Choices that students make: a hint and the (rate, stop) that it explains."""

    def lowest(scores):
        return np.unravel_index(np.nanargmin(scores), scores.shape)

    t = validation.shape[2]
    last = validation[:, :, -1].mean(axis=1)
    own_rate = int(np.nanargmin(validation.min(axis=2).mean(axis=1)))
    one, two = (np.unravel_index(np.nanargmin(a), a.shape) for a in (validation, test))
    return [
        (
            "This chooses by the test loss. Its luck is then part of the report: choose by validation, read off test.",
            lowest(test.mean(axis=1)),
        ),
        (
            "This chooses by the luckiest single seed. Average over the seeds first: a recipe must do for all of them.",
            (one[0], one[2]),
        ),
        ("This chooses by the test loss of the luckiest single seed.", (two[0], two[2])),
        ("This takes the median over the seeds. The mean is asked.", lowest(np.median(validation, axis=1))),
        ("This looks at the first seed only. Average over all of them.", lowest(validation[:, 0])),
        (
            "This looks at the last moment only. An arm may stop whenever it is best.",
            (int(np.nanargmin(last)) if np.isfinite(last).any() else 0, t - 1),
        ),
        (
            "This chooses the rate by each seed's own best moment. Average over the seeds first, at every moment: all "
            "seeds stop at the same one.",
            (own_rate, int(np.nanargmin(validation[own_rate].mean(axis=0)))),
        ),
        ("This is the place of the highest loss. Look for the lowest.", lowest(-validation.mean(axis=1))),
    ]


def right_choice(validation):
    mean = validation.mean(axis=1)
    return np.unravel_index(np.nanargmin(mean), mean.shape)


def checks_choice(student, validation, test, mistakes):
    rate, stop, _ = asked(student, validation, test, failures=SCORE_FAILURES)
    expected = right_choice(validation)
    hint = _hint(validation, rate, stop, mistakes)
    agree("rate", rate, int(expected[0]), hint=hint)
    agree("stop", stop, int(expected[1]), hint=hint)


NOT_UNRAVELED = (
    "np.argmin and np.nanargmin give one number, counted through all entries of the table. Make two indices of it: "
    "np.unravel_index(position, mean.shape)."
)
SCORE_FAILURES = {"raised IndexError": NOT_UNRAVELED}


def _hint(validation, rate, stop, mistakes):
    if np.ndim(rate) or np.ndim(stop):
        each = "Each seed stops at its own moment here. " if np.shape(stop) == validation.shape[1:2] else ""
        return each + "One learning rate and one moment for all seeds: two whole numbers."
    position = int(np.nanargmin(validation.mean(axis=1)))
    by_rates = "The table of means has T columns: divide the position by T, not by R."
    named = [*mistakes, (by_rates, divmod(position, len(validation)))]
    hint = NOT_UNRAVELED if position in (rate, stop) else ""
    return next((text for text, choice in named if choice == (rate, stop)), hint)


@honest_score.part("chooses by the mean validation loss", weight=3)
def _(student, rng):
    validation, test = study(rng)
    best = right_choice(validation)
    swapped = ("rate and stop have changed places: the learning rates are axis 0.", (best[1], best[0]))
    checks_choice(student, validation, test, [swapped, *careless(validation, test)])


@honest_score.part("reports the test losses of that choice", weight=2)
def _(student, rng):
    validation, test = study(rng)
    rate, stop, score = asked(student, validation, test, failures=SCORE_FAILURES)
    r, _, t = test.shape
    hint = ""
    if not (np.ndim(rate) == np.ndim(stop) == 0 and rate in range(r) and stop in range(t)):
        hint = "rate or stop is no index of its axis, so this was compared with the right choice."
        rate, stop = right_choice(validation)
    rate, stop = int(rate), int(stop)  # whatever was chosen: the choice is another part
    mistakes = {
        "These are validation losses. They were used to choose, so they are too good to be reported: take test.": (
            validation[rate, :, stop]
        ),
        "This is their mean. One test loss for each seed is asked, so that one sees how far they differ.": (
            test[rate, :, stop].mean()
        ),
        "This is the lowest of them. One test loss for each seed is asked.": test[rate, :, stop].min(),
        "This is each seed's lowest test loss at that rate. All seeds stop at the same moment.": test[rate].min(axis=1),
        "This is each seed's lowest test loss of all. Rate and moment are those that validation chose.": (
            test.min(axis=(0, 2))
        ),
        "Each seed stops at its own moment here, where its own validation loss is the lowest. All seeds stop at the "
        "same moment, the one that was chosen.": test[rate, np.arange(test.shape[1]), validation[rate].argmin(axis=1)],
        "Each seed has its own rate and moment here. They are common to all seeds.": np.array(
            [
                losses.flat[own.argmin()]
                for losses, own in zip(test.swapaxes(0, 1), validation.swapaxes(0, 1), strict=True)
            ]
        ),
        "These are the test losses at the last moment, not at the one that was chosen.": test[rate, :, -1],
    }
    agree("score", score, test[rate, :, stop], mistakes=mistakes, tolerance=NEAR, hint=hint)


@honest_score.part("a training that diverged is not chosen", weight=2)
def _(student, rng):
    validation, test = with_diverged(rng)
    mean = validation.mean(axis=1)
    filled = np.nan_to_num(validation).mean(axis=1)
    mistakes = [
        *rash(validation),
        (
            "A seed has diverged there. np.nanmean averages over those that are left, which hides the failure: the "
            "mean over all seeds should be NaN.",
            survivors(validation),
        ),
        (
            "The mean validation loss is NaN there. np.argmin takes NaN for the smallest number: use np.nanargmin.",
            np.unravel_index(mean.argmin(), mean.shape),
        ),
        (
            "A seed has diverged there. np.nan_to_num puts 0 in the place of NaN, the best loss of all.",
            np.unravel_index(filled.argmin(), filled.shape),
        ),
    ]
    checks_choice(student, validation, test, mistakes)


honest_score.keeps_its_inputs(study)

check = problem_set.check
