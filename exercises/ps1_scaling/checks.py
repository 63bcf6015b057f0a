"""The checks of problem set 1.

Everything is drawn from `rng` and compared in float64. Where it can be done, an input is built so that the answer is
known beforehand (a table whose Hessian has given eigenvalues), or the answer is found in another way than the one you
are asked to program (a difference quotient, which is exact for a quadratic loss).
"""

import numpy as np

from bnlab.checks import ProblemSet, StudentObject, Wrong, agree, holds
from bnlab.checks.compare import show

problem_set = ProblemSet("ps1_scaling")


# --- inputs, and answers known in another way ------------------------------------------------------------------------


def table(rng, m=None):
    """Features of different places and widths, shape (m, D) with m > D. None is constant."""
    d = rng.integers(2, 5)
    m = rng.integers(6, 11) if m is None else m
    low, width = rng.uniform(-400, 400, size=d), rng.uniform(10, 900, size=d)
    return low + width * rng.uniform(size=(m, d))


def table_with_curvatures(rng, eigenvalues):
    """A table x whose matrix x^T x / m has exactly these eigenvalues, on axes that are tilted against the features."""
    d = len(eigenvalues)
    m = 2 * d + rng.integers(1, 6)
    rows = np.linalg.qr(rng.normal(size=(m, d)))[0]
    tilt = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return np.sqrt(m) * rows * np.sqrt(eigenvalues) @ tilt.T


def loss(w, x, y):
    """Half the mean squared error."""
    return ((x @ w - y) ** 2).mean() / 2


def slope(w, x, y):
    """How the loss changes with each weight: a central difference, which is exact for a quadratic."""
    return np.array([(loss(w + e, x, y) - loss(w - e, x, y)) / 2 for e in np.eye(len(w))])


def descent(x, y, learning_rate, steps, start=0.0):
    """Where gradient descent is after `steps` steps: every step multiplies the error by the same matrix."""
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    shrink = np.eye(len(best)) - learning_rate * x.T @ x / len(x)
    return best + np.linalg.matrix_power(shrink, steps) @ (start - best)


def regression(rng, flattest=0.3):
    """A table with curvatures between `flattest` and 3, and a target that it fits only in part."""
    x = table_with_curvatures(rng, rng.uniform(flattest, 3.0, size=rng.integers(2, 5)))
    return x, x @ rng.normal(size=x.shape[1]) + rng.normal(1.0, 1.0, size=len(x))


def as_array(given):
    """A list of numbers will do for an array. Anything else is left as it is."""
    if not isinstance(given, list | tuple):
        return given
    try:
        array = np.asarray(given)
    except ValueError:  # rows of unequal lengths
        return given
    return array if array.dtype.kind in "fiu" else given


# --- 1. min_max ------------------------------------------------------------------------------------------------------

min_max = problem_set.question("min_max(x, low, high, clip) -> x_scaled", points=11)


def unseen(rng):
    """Rows below, inside and above the training range, and that range."""
    x = table(rng)
    low, high = x.min(axis=0), x.max(axis=0)
    place = rng.uniform(-0.8, 1.8, size=x.shape)
    place[:3] = rng.uniform([[-0.8], [0.2], [1.2]], [[-0.2], [0.8], [1.8]], size=(3, x.shape[1]))
    return low + (high - low) * place, low, high


@min_max.part("training data fill the range 0 to 1", weight=3)
def _(student, rng):
    x = table(rng)
    low, high = x.min(axis=0), x.max(axis=0)
    agree(
        "x_scaled",
        student(x, low, high),
        (x - low) / (high - low),
        mistakes=lambda: {
            "This is standardization, (x - mean) / std. Min-max scaling maps low to 0 and high to 1.": (
                (x - x.mean(axis=0)) / x.std(axis=0)
            ),
            "You divide by high. The width of the range is high - low.": (x - low) / high,
            "low has to become 0: subtract it before you divide by the width.": x / (high - low),
            "You use one range for the whole table. Every feature (column) has its own low and high.": (
                (x - low.min()) / (high.max() - low.min())
            ),
            "high - x runs backwards: low has to become 0 and high 1.": (high - x) / (high - low),
        },
        hint="Map low to 0 and high to 1, feature by feature, and keep the shape of x.",
    )


@min_max.part("unseen values keep their place outside 0 to 1", weight=3)
def _(student, rng):
    x, low, high = unseen(rng)
    own_low, own_high = x.min(axis=0), x.max(axis=0)
    expected = (x - low) / (high - low)
    agree(
        "x_scaled",
        student(x, low, high),
        expected,
        mistakes=lambda: {
            "You clip, but clip is False here: a house larger than all training houses lies above 1.": (
                np.clip(expected, 0, 1)
            ),
            "You use the range of this x instead of low and high. They were fitted before, on other rows.": (
                (x - own_low) / (own_high - own_low)
            ),
        },
        hint="These rows were not seen when low and high were fitted, so values below 0 and above 1 are right.",
    )


@min_max.part("clips when asked", weight=1)
def _(student, rng):
    x, low, high = unseen(rng)
    place = (x - low) / (high - low)
    agree(
        "x_scaled",
        student(x, low, high, clip=True),
        np.clip(place, 0, 1),
        mistakes=lambda: {
            "With clip=True nothing may leave the range: values below 0 become 0, values above 1 become 1.": place,
            "You clip at the top only. Values below 0 become 0.": np.minimum(place, 1),
            "You clip at the bottom only. Values above 1 become 1.": np.maximum(place, 0),
        },
        hint="With clip=True: scale by low and high as before, then limit the result to 0 to 1.",
    )


@min_max.part("a constant feature becomes 0", weight=2)
def _(student, rng):
    x = table(rng)
    j, constant = int(rng.integers(x.shape[1])), rng.uniform(1, 9)
    x[:, j] = constant
    low, high = x.min(axis=0), x.max(axis=0)
    width = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.where(width > 0, (x - low) / width, 0.0)
        agree(
            "x_scaled",
            student(x, low, high),
            expected,
            mistakes=lambda: {f"Feature {j} is constant: high - low is 0, and 0/0 is NaN.": (x - low) / width},
            hint=f"Feature {j} is constant and becomes 0. The others are scaled as ever.",
        )
        new = x.copy()
        new[:, j] += rng.uniform(1, 2, size=len(x))
        agree(
            "x_scaled",
            student(new, low, high),
            expected,
            mistakes=lambda: {
                f"Feature {j} was constant in training, high - low is 0, and a number divided by 0 is inf.": (
                    (new - low) / width
                ),
                f"This is x - low for feature {j}, which was constant in training: every value becomes 0.": (
                    (new - low) / np.where(width > 0, width, 1)
                ),
            },
            hint=f"Feature {j} was constant in training, but not here. Where high equals low, the answer is 0 whatever "
            "x is: a tiny number added to the width will not do.",
        )


@min_max.part("whole numbers become fractions", weight=1)
def _(student, rng):
    x = rng.integers(0, 100, size=(8, 3))
    x[0], x[1] = 0, 100
    low, high = x.min(axis=0), x.max(axis=0)
    expected = (x - low) / (high - low)
    agree(
        "x_scaled",
        student(x, low, high),
        expected,
        mistakes=lambda: {
            "Your result holds integers, so fractions are cut off: np.zeros_like(x) copies the dtype of x.": (
                np.trunc(expected)
            )
        },
    )


min_max.keeps_its_inputs(unseen, weight=1)


# --- 2. fit_standardizer ---------------------------------------------------------------------------------------------

fit_standardizer = problem_set.question("fit_standardizer(x) -> mean, std", points=11)


NEGATIVE_VARIANCE = "The variance came out below 0, and has no root: subtract the mean first, then square."
EXTRA_AXIS = "An extra axis of length 1: drop keepdims=True."


def spreads(std):
    """The std as an array, where it is one without NaN."""
    std = as_array(std)
    is_nan = isinstance(std, np.ndarray) and std.dtype.kind == "f" and np.isnan(std).any()
    holds(not is_nan, f"std = {show(std)}\nThere is NaN in it.", NEGATIVE_VARIANCE)
    return std


def slips(x):
    """What is not the std of each feature, by the hint that says so."""
    return {
        "This is the variance: take its square root.": x.var(axis=0),
        "This is the mean: the order is mean, std.": x.mean(axis=0),
        "This is the std of each example (row). Features are columns: axis 0.": x.std(axis=1),
        "This is one std for the whole table. Give one per feature.": x.std(),
        EXTRA_AXIS: x.std(axis=0, keepdims=True),
        "This is the mean absolute deviation: square the deviations, average, take the root.": (
            np.abs(x - x.mean(axis=0)).mean(axis=0)
        ),
        "Subtract the mean before you square.": np.sqrt((x**2).mean(axis=0)),
    }


@fit_standardizer.part("mean and standard deviation of each feature", weight=4)
def _(student, rng):
    x = table(rng)
    mean, std = student(x)
    agree(
        "mean",
        mean,
        x.mean(axis=0),
        mistakes=lambda: {
            "This is the mean of each example (row). Features are columns: average over axis 0.": x.mean(axis=1),
            "This is one mean for the whole table. Give one per feature.": x.mean(),
            EXTRA_AXIS: x.mean(axis=0, keepdims=True),
            "This is std: the order is mean, std.": x.std(axis=0),
            "This is the median. It is a good choice for data with outliers, but here the mean is asked for.": (
                np.median(x, axis=0)
            ),
        },
    )
    agree(
        "std",
        spreads(std),
        x.std(axis=0),
        mistakes=lambda: (
            slips(x)
            | {"You divide by m - 1. Here the variance is divided by m, the number of rows.": x.std(axis=0, ddof=1)}
        ),
    )


@fit_standardizer.part("a small spread on a large mean", weight=3)
def _(student, rng):
    x = rng.uniform(0.5, 2.0) * 1e9 + rng.normal(0.0, rng.uniform(1, 5, size=3), size=(40, 3))
    _, std = student(x)
    agree(
        "std",
        spreads(std),
        (x - x[0]).std(axis=0),
        tolerance=0.03,  # whether it is divided by m or m - 1 is the first part's business
        mistakes=lambda: slips(x),
        hint="The numbers are near 1e9, their squares near 1e18, and float64 keeps 16 digits: the difference of two "
        "averages of such squares is lost. Subtract the mean first, square afterwards.",
    )


def with_constants(rng, m, base):
    """Numbers with mean 0 and std 1, shape (m,), and beside them, shape (m, 4), three constant features near `base`."""
    spread = rng.normal(size=m)
    spread = (spread - spread.mean()) / spread.std()
    while True:  # until no mean of a constant is that constant to the last digit
        x = np.column_stack([spread, np.tile(base + rng.integers(1, 99, size=3) / 100, (m, 1))])
        if (x.std(axis=0)[1:] > 0).all():
            return spread, x


@fit_standardizer.part("the std of a constant feature is exactly 0", weight=3)
def _(student, rng):
    m = int(rng.integers(8, 14))
    spread, x = with_constants(rng, m, base=0)
    x = np.column_stack([x, 1e-9 * spread[::-1]])
    std = spreads(student(x)[1])
    expected = np.array([1, 0, 0, 0, 1e-9])
    agree("std", std, expected, tolerance=0.2, mistakes=lambda: slips(x), hint="Features 1 to 3 don't vary.")
    j = int(np.argmax(std[1:4])) + 1
    holds(
        bool(std[j] == 0),
        f"Every value of feature {j} is {x[0, j]:g}, but std[{j}] is {std[j]:.3g}, not 0.",
        f"The mean of {m} numbers {x[0, j]:g} is off in its last digit, so the deviations are not 0. Whoever divides "
        "by this std gets noise. A feature is constant if its smallest value equals its largest: set its std to 0.",
    )
    holds(
        bool(std[4] > 0),
        f"Feature 4 varies, between {x[:, 4].min():.3g} and {x[:, 4].max():.3g}, but std[4] is {std[4]:g}.",
        "Its values are tiny, but they differ: think of lengths in kilometers under a microscope. No threshold tells a "
        "small std from a rounding error. A feature is constant if its smallest value equals its largest.",
    )
    x = with_constants(rng, int(rng.integers(20, 40)), base=1e9)[1]
    std = spreads(student(x)[1])
    hint = "Features 1 to 3 don't vary. Their values are near 1e9: subtract the mean first, then square."
    agree("std", std, np.array([1, 0, 0, 0]), tolerance=0.2, hint=hint)
    j = int(np.argmax(std[1:])) + 1
    holds(
        bool(std[j] == 0),
        f"Every value of feature {j} is {x[0, j]:.12g}, but std[{j}] is {std[j]:.3g}, not 0.",
        "Near 1e9, float64 rounds to about 1e-7, so the std of a constant isn't even tiny: no threshold will do. A "
        "feature is constant if its smallest value equals its largest: set its std to 0.",
    )


fit_standardizer.keeps_its_inputs(lambda rng: (table(rng),), weight=1)


# --- 3. Standardizer -------------------------------------------------------------------------------------------------

standardizer = problem_set.question("Standardizer() -> scaler", points=14)


def fresh(student):
    """A new Standardizer."""
    scaler = student()
    holds(
        isinstance(scaler, StudentObject),
        "Standardizer() did not give an object with methods.",
        "Keep the line `class Standardizer:`, with the methods fit, transform and inverse_transform.",
    )
    return scaler


def fitted(student, x):
    """A new Standardizer, fitted to x."""
    scaler = fresh(student)
    scaler.call("fit", x)
    return scaler


def agree_either(name, given, formula, x, *, mistakes, hint):
    """What the scaler gives has to be formula(mean, std) of x.

    Only the numbers count here, however they are stored. That the variance is divided by m, and not by m - 1, is the
    first part's business: both will do.
    """
    holds(given is not None, f"{name} is None, expected an array of numbers.", "Does the method return its result?")
    mean = x.mean(axis=0)
    try:
        agree(name, given, formula(mean, x.std(axis=0)), tolerance=2e-4, mistakes=mistakes, hint=hint)
    except Wrong as wrong:
        try:
            agree(name, given, formula(mean, x.std(axis=0, ddof=1)), tolerance=2e-4)
        except Wrong:
            raise wrong from None


def new_rows(rng, x):
    """Rows that were not seen in training, from another place and with another spread."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    return mean + std * rng.normal(1.5, 2.0, size=(len(x) - 2, x.shape[1]))


def with_constant(rng):
    """A table in which feature j is constant, and new rows in which it isn't."""
    x = table(rng, m=8)
    j = int(rng.integers(x.shape[1]))
    x[:, j] = float(rng.integers(1, 9))
    new = new_rows(rng, x)
    new[:, j] += rng.uniform(1, 2, size=len(new))
    return x, new, j


@standardizer.part("fit stores mean and std", weight=3)
def _(student, rng):
    x = table(rng)
    scaler = fitted(student, x)
    try:
        mean, std = scaler.get("mean"), scaler.get("std")
    except Wrong as wrong:
        raise Wrong(wrong.message, "fit stores self.mean and self.std, under these names.") from None
    agree(
        "scaler.mean",
        mean,
        x.mean(axis=0),
        mistakes=lambda: {
            "This is the mean of each example (row). Features are columns: average over axis 0.": x.mean(axis=1),
            "This is one mean for the whole table. Give one per feature.": x.mean(),
            EXTRA_AXIS: x.mean(axis=0, keepdims=True),
        },
    )
    agree(
        "scaler.std",
        std,
        x.std(axis=0),
        mistakes=lambda: {
            "You divide by m - 1. Here the variance is divided by m.": x.std(axis=0, ddof=1),
            "This is the variance: take its square root.": x.var(axis=0),
            EXTRA_AXIS: x.std(axis=0, keepdims=True),
        },
    )


@standardizer.part("transform uses what fit stored", weight=3)
def _(student, rng):
    x = table(rng)
    new = new_rows(rng, x)
    mean, std = x.mean(axis=0), x.std(axis=0)
    agree_either(
        "scaler.transform(new)",
        fitted(student, x).call("transform", new),
        lambda mean, std: (new - mean) / std,
        x,
        mistakes=lambda: {
            "You use mean and std of the new rows. Use those that fit stored.": (
                (new - new.mean(axis=0)) / new.std(axis=0)
            ),
            "You divide by the variance: divide by the standard deviation.": (new - mean) / std**2,
            "This is (x - mean) * std: divide.": (new - mean) * std,
            "Subtract the mean before you divide.": new / std,
        },
        hint="It was fitted on other rows. What it gives is (new - mean) / std with the stored mean and std.",
    )


@standardizer.part("a constant feature becomes 0", weight=3)
def _(student, rng):
    x, new, j = with_constant(rng)
    scaler = fitted(student, x)
    mean, std = x.mean(axis=0), x.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, rows in (("x", x), ("new", new)):
            agree_either(
                f"scaler.transform({name})",
                scaler.call("transform", rows),
                lambda mean, std, rows=rows: np.where(std > 0, (rows - mean) / std, 0.0),
                x,
                mistakes={
                    f"Feature {j} was constant in fit: its std is 0, and dividing by 0 gives NaN or inf.": (rows - mean)
                    / std,
                    f"This is x - mean for feature {j}, which was constant in fit: every value becomes 0.": (
                        (rows - mean) / np.where(std > 0, std, 1)
                    ),
                    "You divide by the variance: divide by the standard deviation.": (
                        np.where(std > 0, (rows - mean) / std**2, 0.0)
                    ),
                    "You use mean and std of the new rows. Use those that fit stored.": (
                        (rows - rows.mean(axis=0)) / rows.std(axis=0)
                    ),
                },
                hint=f"Feature {j} was constant in fit. Where the std is 0, the answer is 0 whatever x is: a tiny "
                "number added to the std will not do.",
            )


@standardizer.part("inverse_transform undoes transform", weight=2)
def _(student, rng):
    x, new, j = with_constant(rng)
    mean, std = x.mean(axis=0), x.std(axis=0)
    z = rng.normal(size=new.shape)
    z[:, j] = 0.0
    agree_either(
        "scaler.inverse_transform(z)",
        fitted(student, x).call("inverse_transform", z),
        lambda mean, std: z * std + mean,
        x,
        mistakes=lambda: {
            "Undo the steps in the opposite order: multiply by std first, add mean afterwards.": (z + mean) * std,
            "You transform once more: the inverse multiplies by std and adds mean.": (
                (z - mean) / np.where(std > 0, std, np.inf)
            ),
            "You multiply by the variance: multiply by the standard deviation.": z * std**2 + mean,
            "Add the mean, too.": z * std,
        },
        hint=f"It gives rows in the units of x again. Feature {j} was constant: it comes back as its training value.",
    )


@standardizer.part("every scaler keeps its own statistics", weight=2, counts_alone=False, most_cases=1)
def _(student, rng):
    x = table(rng)
    new = new_rows(rng, x)
    first = fitted(student, x)
    alone = as_array(first.call("transform", x))
    holds(isinstance(alone, np.ndarray), "transform did not return a NumPy array.", "Does it return its result?")
    second = fitted(student, new)
    agree(
        "first.transform(x)",
        first.call("transform", x),
        alone,
        hint="A second Standardizer was fitted to other rows, and overwrote the first. Store the statistics in self "
        "(self.mean = ...), not in the class or in a global variable.",
    )
    second.call("fit", x)
    agree(
        "second.transform(x)",
        second.call("transform", x),
        alone,
        hint="It was fitted to other rows and then to x. Fitting again starts from nothing: only the last fit counts.",
    )


@standardizer.part("leaves its inputs as they were", weight=1, counts_alone=False, most_cases=1)
def _(student, rng):
    x = table(rng)
    scaler = fresh(student)
    for method, rows in (("fit", x), ("transform", x), ("inverse_transform", np.sign(x))):
        scaler.call(method, rows)
        holds(
            not student.replies[-1].changed,
            f"{method} changed its input in place.",
            "The caller still needs those numbers: compute a new array (x - mean) instead of x -= mean.",
        )


# --- 4. which_scaling, in words --------------------------------------------------------------------------------------

problem_set.written("which_scaling", points=3)


# --- 5. split_and_scale ----------------------------------------------------------------------------------------------

split_and_scale = problem_set.question("split_and_scale(x, train_rows, test_rows) -> x_train, x_test", points=12)


def split(rng, tests=3):
    """A table, shuffled training rows, and test rows far to one side of them. A row far to the other is in neither."""
    x = table(rng, m=12)
    rows = rng.permutation(12)
    train_rows, test_rows = rows[tests + 1 :], np.sort(rows[:tests])[::-1]
    far = rng.choice([-1, 1]) * 1.5 * np.ptp(x, axis=0)
    x[test_rows] += far
    x[rows[tests]] -= far
    return x, train_rows, test_rows


def scaled(rows, by):
    """`rows` on a scale where `by` fill 0 to 1."""
    low, high = by.min(axis=0), by.max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rows - low) / (high - low)


@split_and_scale.part("the rows that the lists name", weight=3)
def _(student, rng):
    x = table(rng, m=12)
    rows = rng.permutation(12)
    train_rows, test_rows = rows[3:], np.sort(rows[:3])[::-1]
    low, width = x[train_rows].min(axis=0), np.ptp(x[train_rows], axis=0)
    x[test_rows] = low + width * rng.uniform(0.1, 0.9, size=(3, x.shape[1]))  # inside: all ranges are the same
    train, test = x[train_rows], x[test_rows]
    x_train, x_test = student(x, train_rows, test_rows)
    agree(
        "x_train",
        x_train,
        scaled(train, by=train),
        mistakes=lambda: {
            "The rows are in another order. Row i of x_train is row train_rows[i] of x.": (
                scaled(x[np.sort(train_rows)], by=train)
            ),
            "These are the first rows of x. Take the rows that train_rows names.": (
                scaled(x[: len(train)], by=x[: len(train)])
            ),
            "This is standardization. Here min-max scaling is asked for.": (
                (train - train.mean(axis=0)) / train.std(axis=0)
            ),
            "These rows are not scaled.": train,
            "The two parts are swapped: return x_train, x_test.": scaled(test, by=train),
        },
        hint="An array of row numbers is an index: x[train_rows] has those rows in that order.",
    )
    agree(
        "x_test",
        x_test,
        scaled(test, by=train),
        mistakes=lambda: {
            "The rows are in another order. Row i of x_test is row test_rows[i] of x.": scaled(test[::-1], by=train),
            "The test rows got a range of their own. Equal houses must get equal numbers in both parts: use the range "
            "of the training rows.": scaled(test, by=test),
            "The test rows are not scaled. The model expects them on the scale of the training rows.": test,
        },
        hint="x[test_rows], scaled with low and high of x[train_rows].",
    )


@split_and_scale.part("training rows fill the range 0 to 1", weight=2)
def _(student, rng):
    x, train_rows, test_rows = split(rng)
    train = x[train_rows]
    x_train, _ = student(x, train_rows, test_rows)
    agree(
        "x_train",
        x_train,
        scaled(train, by=train),
        mistakes=lambda: {
            "Leakage: the range is that of the whole table. Take it from the training rows alone.": scaled(train, by=x),
            "Leakage: the range is that of training and test rows. Take it from the training rows alone.": (
                scaled(train, by=np.vstack([train, x[test_rows]]))
            ),
        },
        hint="Row i of x_train is row train_rows[i] of x, on a scale where the training rows fill 0 to 1.",
    )


@split_and_scale.part("test rows are scaled like the training rows", weight=3)
def _(student, rng):
    x, train_rows, test_rows = split(rng)
    train, test = x[train_rows], x[test_rows]
    expected = scaled(test, by=train)
    _, x_test = student(x, train_rows, test_rows)
    agree(
        "x_test",
        x_test,
        expected,
        mistakes=lambda: {
            "Leakage: the range is that of the whole table. Take it from the training rows alone.": scaled(test, by=x),
            "Leakage: the range is that of training and test rows. Take it from the training rows alone.": (
                scaled(test, by=np.vstack([train, test]))
            ),
            "The test rows got a range of their own. Equal houses must get equal numbers in both parts: use the range "
            "of the training rows.": scaled(test, by=test),
            "The test rows are not scaled. The model expects them on the scale of the training rows.": test,
            "You clip. Test rows may leave the range 0 to 1, and the model should see that they do.": (
                np.clip(expected, 0, 1)
            ),
        },
        hint="x[test_rows], in this order, scaled with low and high of x[train_rows].",
    )


@split_and_scale.part("a single test row", weight=2)
def _(student, rng):
    x, train_rows, test_rows = split(rng, tests=1)
    train, test = x[train_rows], x[test_rows]
    _, x_test = student(x, train_rows, test_rows)
    agree(
        "x_test",
        x_test,
        scaled(test, by=train),
        mistakes=lambda: {
            "One row has no range of its own (0/0): use the range of the training rows.": scaled(test, by=test),
            "The test row lies on the edge of the range. Either you clip it, or it took part in the fit.": (
                np.clip(scaled(test, by=train), 0, 1)
            ),
            "The test row is not scaled.": test,
        },
        hint="The one row of x[test_rows], of shape (1, D), scaled with low and high of x[train_rows].",
    )


@split_and_scale.part("test rows cannot move the training rows", weight=1, counts_alone=False)
def _(student, rng):
    x, train_rows, test_rows = split(rng)
    changed = x.copy()
    changed[test_rows] *= 10
    before = as_array(student(x, train_rows, test_rows)[0])
    holds(isinstance(before, np.ndarray), "x_train is not a NumPy array.")
    after, _ = student(changed, train_rows, test_rows)
    agree(
        "x_train",
        after,
        before,
        hint="Ten times larger numbers in the test rows changed x_train: something about the test leaks into it.",
    )


split_and_scale.keeps_its_inputs(split, weight=1)


# --- 6. what_leakage_does, in words ----------------------------------------------------------------------------------

problem_set.written("what_leakage_does", points=4)


# --- 7. condition_number ---------------------------------------------------------------------------------------------

condition_number = problem_set.question("condition_number(x) -> kappa", points=11)


@condition_number.part("largest eigenvalue over smallest", weight=4)
def _(student, rng):
    eigenvalues = rng.uniform(0.5, 20, size=rng.integers(2, 5))
    eigenvalues[0] = 2.5 * eigenvalues[1]
    x = table_with_curvatures(rng, eigenvalues)
    kappa = eigenvalues.max() / eigenvalues.min()
    diagonal = np.diag(x.T @ x)
    centered = np.linalg.eigvalsh(np.cov(x.T))
    agree(
        "kappa",
        student(x),
        kappa,
        mistakes=lambda: {
            "This is the condition number of x. That of the Hessian x.T @ x / m is its square.": np.sqrt(kappa),
            "This is the square of the condition number: x.T @ x / m is squared already.": kappa**2,
            "Upside down: divide the largest eigenvalue by the smallest.": 1 / kappa,
            "This is the ratio of the diagonal entries. They are eigenvalues only where the matrix is diagonal.": (
                diagonal.max() / diagonal.min()
            ),
            "This is the largest eigenvalue alone.": eigenvalues.max(),
            "x @ x.T, of shape (m, m), is singular. The Hessian is x.T @ x / m, of shape (D, D).": np.inf,
            "Do not subtract the mean: the Hessian is x.T @ x / m of x as it is given.": centered[-1] / centered[0],
        },
        hint="kappa is the largest eigenvalue of x.T @ x / m (shape (D, D)) divided by the smallest.",
    )


@condition_number.part("features on very different scales", weight=3)
def _(student, rng):
    m, widths = int(rng.integers(20, 40)), 10.0 ** rng.uniform([0, 2.5], [0.5, 3.5])
    x = np.linalg.qr(rng.normal(size=(m, 2)))[0] * widths
    kappa = (widths[1] / widths[0]) ** 2
    agree(
        "kappa",
        student(x),
        kappa,
        tolerance=1e-4,
        mistakes=lambda: {
            "This is the condition number of x. That of the Hessian x.T @ x / m is its square.": np.sqrt(kappa),
            "Upside down: divide the largest eigenvalue by the smallest.": 1 / kappa,
        },
        hint="Two features at a right angle, one about 1000 times as large as the other: kappa is about a million.",
    )


@condition_number.part("infinite where singular, and only there", weight=3)
def _(student, rng):
    x = table(rng)
    kappa = student(x)
    is_finite = isinstance(kappa, int | float | np.number) and np.isfinite(kappa)
    holds(is_finite, f"kappa = {show(kappa)}, expected a finite number.", "No feature is a combination of the others.")
    duplicate = np.column_stack([x, x[:, 0]])
    empty = np.column_stack([x, np.zeros(len(x))])
    wide = table(rng, m=12).T
    rounding = (
        "The smallest eigenvalue is 0, but rounding makes it a tiny number, perhaps a negative one. Return np.inf "
        "where it is at most 1e-12 times the largest."
    )
    for reason, singular in (("two features are equal", duplicate), ("one feature is 0 everywhere", empty)):
        agree(f"kappa ({reason})", student(singular), np.inf, hint=rounding)
    rows, features = wide.shape
    few = (
        f"x has {rows} rows and {features} features, so {features - rows} of the {features} eigenvalues of x.T @ x / m "
        f"are 0. The singular values of x, and with them np.linalg.cond(x), are only min(m, D) = {rows} numbers and "
        "miss those: return np.inf where m < D."
    )
    agree(
        "kappa (there are more features than rows)",
        student(wide),
        np.inf,
        mistakes=lambda: {few: np.linalg.cond(wide) ** 2},
        hint=f"{rounding} Here there are {features - rows} such eigenvalues, as x has {rows} rows only.",
    )


condition_number.keeps_its_inputs(lambda rng: (table(rng),), weight=1)


# --- 8. gradient -----------------------------------------------------------------------------------------------------

gradient = problem_set.question(
    "gradient(w, x, y) -> grad", points=11, borrowed=("torch.autograd", "scipy.optimize.approx_fprime")
)


def anywhere(rng):
    """Some weights, and a regression problem."""
    x, y = regression(rng)
    return rng.normal(size=x.shape[1]), x, y


@gradient.part("points straight uphill", weight=4)
def _(student, rng):
    w, x, y = anywhere(rng)
    expected = slope(w, x, y)
    grad = as_array(student(w, x, y))
    if isinstance(grad, np.ndarray) and grad.shape == expected.shape and np.linalg.norm(grad) > 0:
        grad = grad * float(np.linalg.norm(expected) / np.linalg.norm(grad))  # its length is the next part's business
    agree(
        "grad, rescaled to the expected length",
        grad,
        expected,
        mistakes=lambda: {
            "It points downhill. Is the residual x @ w - y, and not y - x @ w?": -expected,
            "y became a column, so x @ w - y has shape (m, m). Leave y as it is, of shape (m,).": (
                x.T @ (x @ w - y[:, None]) / len(x)
            ),
        },
        hint="Its direction is x.T times the residuals x @ w - y. All rows enter, and the targets, too.",
    )


@gradient.part("has the length of the slope", weight=3)
def _(student, rng):
    w, x, y = anywhere(rng)
    expected = slope(w, x, y)
    agree(
        "grad",
        student(w, x, y),
        expected,
        mistakes=lambda: {
            "Twice too large: the loss is half the mean squared error, so its 1/2 cancels the 2 of the square.": (
                2 * expected
            ),
            "Half too small: the 1/2 of the loss cancels the 2 of the square.": expected / 2,
            "m times too large: the loss is a mean over the rows, not a sum.": len(x) * expected,
            "2 m times too large: the loss is half the mean over the rows.": 2 * len(x) * expected,
            "It points downhill. Is the residual x @ w - y, and not y - x @ w?": -expected,
            "You divide by the number of features. The mean is over the m rows.": expected * len(x) / len(w),
        },
        hint="One number per weight: x.T times the residuals x @ w - y, averaged over the rows.",
    )


@gradient.part("one row, one feature", weight=3)
def _(student, rng):
    for rows, features in ((1, 3), (5, 1), (1, 1)):
        x, y, w = rng.normal(2, 1, size=(rows, features)), rng.normal(3, 1, size=rows), rng.normal(size=features)
        expected = slope(w, x, y)
        agree(
            "grad",
            student(w, x, y),
            expected,
            mistakes={
                "Twice too large: the loss is half the mean squared error.": 2 * expected,
                "m times too large: the loss is a mean over the rows, not a sum.": rows * expected,
                "It points downhill.": -expected,
            },
            hint=f"x has shape ({rows}, {features}). grad always has the shape of w, and averages over the rows.",
        )


gradient.keeps_its_inputs(anywhere, weight=1)


# --- 9. best_learning_rate -------------------------------------------------------------------------------------------

best_learning_rate = problem_set.question("best_learning_rate(x) -> learning_rate", points=10)


CENTERED = "No mean is subtracted: these are the curvatures of x.T @ x / m of x as it is given, not the covariance."


@best_learning_rate.part("several features", weight=5)
def _(student, rng):
    eigenvalues = rng.uniform(0.5, 9, size=rng.integers(2, 5))
    eigenvalues[0] = 1.5 * eigenvalues[1]
    x = table_with_curvatures(rng, eigenvalues)
    steep, flat = eigenvalues.max(), eigenvalues.min()
    centered = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    agree(
        "learning_rate",
        student(x),
        2 / (steep + flat),
        mistakes=lambda: {
            "This is 2 / largest, where the steepest direction swings for ever and never settles.": 2 / steep,
            "This is 1 / largest. It is safe, but the flat direction could go faster: both ends count.": 1 / steep,
            "This is 1 / (largest + smallest), half of the best one.": 1 / (steep + flat),
            "This is 1 / smallest: far too large for the steepest direction.": 1 / flat,
            "Divide by m: the Hessian is x.T @ x / m.": 2 / (steep + flat) / len(x),
            CENTERED: 2 / (centered[0] + centered[-1]),
            f"{CENTERED} (np.cov also divides by m - 1.)": 2 / (centered[0] + centered[-1]) * (len(x) - 1) / len(x),
            "The curvatures are the eigenvalues of x.T @ x / m, which are the squares of the singular values of x "
            "divided by m.": 2 / (np.sqrt(len(x)) * (np.sqrt(steep) + np.sqrt(flat))),
        },
        hint="Both ends count: the largest and the smallest eigenvalue of x.T @ x / m.",
    )


@best_learning_rate.part("one feature: a single step arrives", weight=2)
def _(student, rng):
    x = rng.normal(1, 2, size=(int(rng.integers(5, 9)), 1))
    curvature = float((x**2).mean())
    agree(
        "learning_rate",
        student(x),
        1 / curvature,
        mistakes=lambda: {
            "With this one gradient descent jumps from one slope to the other at the same height.": 2 / curvature,
            "Divide by m: the Hessian is x.T @ x / m.": 1 / curvature / len(x),
            CENTERED: 1 / float(x.var()),
            f"{CENTERED} (np.cov also divides by m - 1.)": 1 / float(x.var(ddof=1)),
            "Half of the best one.": 0.5 / curvature,
        },
        hint="With one feature, the largest and the smallest eigenvalue are the same number, mean(x**2).",
    )


@best_learning_rate.part("other units, other learning rate", weight=2)
def _(student, rng):
    x = table_with_curvatures(rng, rng.uniform(0.5, 9, size=3))
    factor = float(rng.uniform(2, 5))
    before, after = student(x), student(factor * x)
    is_usable = isinstance(before, int | float | np.floating) and 0 < before < np.inf
    holds(is_usable, "learning_rate is not a number above 0.", "Return one number.")
    agree(
        f"learning_rate for {factor:.3g} x",
        after,
        before / factor**2,
        mistakes=lambda: {"The learning rate stays the same. It has to depend on x.": before},
        hint="The curvature grows with the square of x, so the learning rate has to shrink with the square.",
    )


best_learning_rate.keeps_its_inputs(lambda rng: (table(rng),), weight=1)


# --- 10. gradient_descent --------------------------------------------------------------------------------------------

SOLVERS = ("lstsq", "solve", "inv", "pinv")  # they give the minimum without a step

gradient_descent = problem_set.question(
    "gradient_descent(x, y, learning_rate, steps) -> w, losses",
    points=13,
    borrowed=(
        *(f"{library}.linalg.{name}" for library in ("numpy", "scipy") for name in SOLVERS),
        "scipy.optimize",
        "sklearn.linear_model",
        "torch.optim",
    ),
)


def run_of(rng):
    """A regression problem, a learning rate that converges, and a number of steps."""
    x, y = regression(rng)
    return x, y, float(rng.uniform(0.1, 0.25)), int(rng.integers(3, 8))


def one_per_feature(w, x):
    """The weights, unless they are a column or a matrix."""
    shape = np.shape(w) if isinstance(w, np.ndarray | list | tuple) else ()
    holds(
        len(shape) != 2 or shape[0] != x.shape[1],
        f"w has shape {shape}, expected ({x.shape[1]},).",
        "w is a column, or became a matrix because it started as one; start from np.zeros(D), and leave y as it is.",
    )
    return w


@gradient_descent.part("the weights after the last step", weight=3)
def _(student, rng):
    x, y, learning_rate, steps = run_of(rng)
    w, _ = student(x, y, learning_rate, steps)
    agree(
        "w",
        one_per_feature(w, x),
        descent(x, y, learning_rate, steps),
        mistakes=lambda: {
            "One step too few.": descent(x, y, learning_rate, steps - 1),
            "One step too many.": descent(x, y, learning_rate, steps + 1),
            "You walk uphill: subtract learning_rate * gradient.": descent(x, y, -learning_rate, steps),
            "Every step is twice too long: the loss is half the mean squared error.": (
                descent(x, y, 2 * learning_rate, steps)
            ),
            "Every step is m times too long: the gradient is a mean over the rows.": (
                descent(x, y, len(x) * learning_rate, steps)
            ),
            "It starts at w = 0, not at 1.": descent(x, y, learning_rate, steps, start=1.0),
            "Only the first step counts: compute the gradient anew at the w of every step.": (
                steps * descent(x, y, learning_rate, 1)
            ),
            "This is the least-squares solution. Where gradient descent is after these steps is asked for.": (
                np.linalg.lstsq(x, y, rcond=None)[0]
            ),
        },
        hint="Start at w = 0 and repeat w = w - learning_rate * gradient.",
    )


@gradient_descent.part("the loss before the first and after every step", weight=4)
def _(student, rng):
    x, y, learning_rate, steps = run_of(rng)
    expected = np.array([loss(descent(x, y, learning_rate, k), x, y) for k in range(steps + 1)])
    _, losses = student(x, y, learning_rate, steps)
    agree(
        "losses",
        as_array(losses),
        expected,
        mistakes=lambda: {
            "The loss at the start is missing: record it before the first step, too.": expected[1:],
            "The loss after the last step is missing.": expected[:-1],
            "Twice too large: the loss is half the mean squared error.": 2 * expected,
            "This is the last loss alone: record one after every step.": expected[-1],
            "m times too large: the loss is a mean over the rows.": len(x) * expected,
        },
        hint=f"{steps} steps give {steps + 1} losses, each of them half the mean squared error. Are the weights right?",
    )


@gradient_descent.part("many steps arrive at the least-squares solution", weight=3)
def _(student, rng):
    x, y = regression(rng, flattest=1.0)
    largest = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    w, _ = student(x, y, float(0.9 / largest), 100)
    agree(
        "w",
        one_per_feature(w, x),
        np.linalg.lstsq(x, y, rcond=None)[0],
        hint="After 100 steps with a small enough learning rate gradient descent is where the loss is smallest.",
    )


@gradient_descent.part("no steps at all", weight=2)
def _(student, rng):
    x, y, learning_rate, _ = run_of(rng)
    w, losses = student(x, y, learning_rate, 0)
    hint = "After 0 steps it is where it starts, at w = 0, one weight per feature."
    agree("w", one_per_feature(w, x), np.zeros(x.shape[1]), hint=hint)
    losses = as_array(losses)
    is_one = isinstance(losses, np.ndarray) and losses.shape == (1,)
    holds(is_one, "losses after 0 steps is not one number.", "It holds the loss before the first step, at w = 0.")


gradient_descent.keeps_its_inputs(run_of, weight=1)


check = problem_set.check
