"""Does the scale of the inputs decide how fast gradient descent learns? The experiment behind claim C01.

A linear model with a bias is fitted by least squares to features of very different ranges (0 to 1 beside 1 to 1000),
once for every way of scaling them. Three things make the comparison fair:

- A scaling shifts and stretches each feature, so the functions that the model can express, the loss at the start (all
  parameters zero) and the best loss that exists are the same in every arm. Only the path between them differs.
- Every arm and every seed gets its own best learning rate, found by a search.
- "Steps" means the same everywhere: until the given fraction of the gap between start and best loss is left.

Plain gradient descent on this loss needs no simulation: `steps_to_target` evaluates its exact solution, so ten million
steps cost nothing. `descend` takes the same steps one by one, and the tests hold the two together. Adam and the
small network have no such solution, so `adam_steps` and `run_network` simulate.

What this isn't: a library of scalers (that is scikit-learn), or an experiment on generalization. Every loss here is
the loss on the training data. NumPy only.

Sources: LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, sections 4.3 and 5, for the role of the mean and of
the scale; Kingma and Ba (2015), algorithm 1, for Adam.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict

EXPERIMENT = Experiment(
    name="feature_scaling",
    title="Steps to a target on features of different ranges: raw, min-max scaled, standardized",
    claims=("C01",),
    section="sec-scaling-experiment",
    fair="All arms start at the same loss and have the same best loss; gradient descent and Adam, constant rates, each "
    "scaling and each problem at the best learning rate that a search finds.",
    cpu_only=True,
)
SCALINGS = ("raw", "centered", "scaled", "min-max", "standardized")
RANGES = ((0.0, 1.0), (1.0, 1000.0))
ADAM_LEARNING_RATES = 10.0 ** np.arange(-5, 1.01, 1 / 4)
ADAM_MAX_STEPS = 20_000
NETWORK_LEARNING_RATES = 10.0 ** np.arange(-6, 1.01, 1 / 2)


# --- data and scalings -----------------------------------------------------------------------------------------------


def two_scales(
    seed: int, m: int = 256, ranges: Sequence[tuple[float, float]] = RANGES, noise: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a regression problem whose features are uniform on the given ranges.

    The target is an intercept plus one coefficient per feature, all drawn from N(0, 1), with each feature measured in
    its own standard deviations: a feature with a large range is no more important than one with a small range.

    Parameters
    ----------
    seed : int
        Seed of the random generator: the same seed gives the same problem.
    m : int
        Number of examples.
    ranges : sequence of (low, high)
        One pair per feature.
    noise : float
        Standard deviation of the Gaussian noise on the target.

    Returns
    -------
    X : ndarray, shape (m, D)
    y : ndarray, shape (m,)
    """
    rng = np.random.default_rng(seed)
    unit = rng.uniform(size=(m, len(ranges)))
    low, high = np.array(ranges, dtype=float).T
    intercept, *coefficients = rng.normal(size=len(ranges) + 1)
    y = intercept + np.sqrt(12) * (unit - 0.5) @ coefficients + noise * rng.normal(size=m)
    return low + (high - low) * unit, y


def scale(X: np.ndarray, scaling: str) -> np.ndarray:
    """Shift and stretch every feature by statistics of its own column.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        One row per example.
    scaling : str
        "raw" (unchanged), "centered" (minus the mean), "scaled" (divided by the standard deviation, mean left in),
        "min-max" (to [0, 1]), "standardized" (mean 0, standard deviation 1), "robust" (minus the median, divided by
        the interquartile range) or "whitened" (standardized, then rotated and stretched so that no two features are
        correlated: the one choice here that mixes features).

    Returns
    -------
    ndarray, shape (m, D)

    Raises
    ------
    ValueError
        If `X` isn't a table of finite numbers, if the scaling is unknown, or if it would divide by zero because a
        feature has no spread.
    """
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise ValueError(f"X has shape {X.shape}: give a table of finite numbers, one row per example")
    low, high, mu, sd = X.min(axis=0), X.max(axis=0), X.mean(axis=0), X.std(axis=0)
    q1, median, q3 = np.percentile(X, [25, 50, 75], axis=0)
    one = np.ones_like(mu)
    shifts_and_spreads = {
        "raw": (0 * mu, one),
        "centered": (mu, one),
        "scaled": (0 * mu, sd),
        "min-max": (low, high - low),
        "standardized": (mu, sd),
        "robust": (median, q3 - q1),
        "whitened": (mu, sd),
    }
    if scaling not in shifts_and_spreads:
        raise ValueError(f"unknown scaling {scaling!r}: choose one of {list(shifts_and_spreads)}")
    shift, spread = shifts_and_spreads[scaling]
    # The computed standard deviation of a constant column can be 1e-17 instead of 0, so compare its values as well.
    empty = np.flatnonzero((spread == 0) | ((spread is not one) & (low == high)))
    if empty.size:
        raise ValueError(f"{scaling!r} divides by the spread, but columns {empty.tolist()} have none: drop them first")
    scaled = (X - shift) / spread
    if scaling != "whitened":
        return scaled
    eigenvalues, Q = np.linalg.eigh(scaled.T @ scaled / len(X))
    if eigenvalues[0] <= eigenvalues[-1] * len(mu) * np.finfo(float).eps:
        raise ValueError("'whitened' needs linearly independent features, but one is a combination of the others")
    return scaled @ Q / np.sqrt(eigenvalues)


# --- the quadratic loss and gradient descent on it -------------------------------------------------------------------


def with_bias(X: np.ndarray) -> np.ndarray:
    """Put a column of ones in front of `X`, shape (m, D) to (m, 1 + D): its weight is the bias."""
    return np.column_stack([np.ones(len(X)), X])


def hessian(X: np.ndarray) -> np.ndarray:
    """Hessian of the loss 1/(2m) ||A w - y||^2 with A = [1, X]: the matrix A^T A / m, shape (1 + D, 1 + D)."""
    A = with_bias(X)
    return A.T @ A / len(A)


def condition_number(X: np.ndarray) -> float:
    """Largest eigenvalue of the Hessian of linear regression on `X` (bias included), divided by the smallest.

    inf where the smallest can't be told from zero in float64, as with a feature that combines others.
    """
    eigenvalues = np.linalg.eigvalsh(hessian(X))
    singular = eigenvalues[0] <= eigenvalues[-1] * len(eigenvalues) * np.finfo(float).eps
    return np.inf if singular else float(eigenvalues[-1] / eigenvalues[0])


def loss(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """1/(2m) ||A w - y||^2, for one parameter vector (1 + D,) or a stack of them (..., 1 + D)."""
    return ((w @ with_bias(X).T - y) ** 2).mean(axis=-1) / 2


def descend(X: np.ndarray, y: np.ndarray, learning_rate: float, steps: int) -> np.ndarray:
    """Plain full-batch gradient descent from zero on the loss of linear regression, one step at a time.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Features, used as they are.
    y : ndarray, shape (m,)
        Target.
    learning_rate : float
    steps : int

    Returns
    -------
    ndarray, shape (steps + 1, 1 + D)
        The parameters (bias first) before the first step and after every step.
    """
    A = with_bias(X)
    path = np.zeros((steps + 1, A.shape[1]))
    for k in range(steps):
        path[k + 1] = path[k] - learning_rate * A.T @ (A @ path[k] - y) / len(A)
    return path


def steps_to_target(X: np.ndarray, y: np.ndarray, learning_rates, fraction: float = 1e-3) -> np.ndarray:
    """Count the steps that gradient descent from zero needs, exactly and without taking them.

    In the eigenbasis of the Hessian each coordinate of the error shrinks by its own factor, (1 - lr * eigenvalue) per
    step, so the part of the gap that is left after k steps is a sum of powers. It never grows if
    lr < 2 / (largest eigenvalue), so doubling and bisection find the first k at which it is small enough.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Scaled features.
    y : ndarray, shape (m,)
        Target.
    learning_rates : float or sequence of float
    fraction : float
        Stop when (loss - best loss) <= fraction * (loss at start - best loss).

    Returns
    -------
    ndarray, shape of `learning_rates`
        Number of steps; inf where gradient descent doesn't converge.
    """
    eigenvalues, Q = np.linalg.eigh(hessian(X))
    eigenvalues = np.maximum(eigenvalues, 0)  # a zero can come out as -1e-16
    best = np.linalg.lstsq(with_bias(X), y, rcond=None)[0]
    gap = eigenvalues * (Q.T @ best) ** 2
    gap /= gap.sum()

    def count(lr):
        if lr * eigenvalues[-1] >= 2:
            return np.inf
        factors = (1 - lr * eigenvalues) ** 2
        low, high = 0, 1
        while gap @ factors**high > fraction:
            low, high = high, 2 * high
            if high > 2**60:
                return np.inf
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if gap @ factors**middle <= fraction else (middle, high)
        return high

    return np.vectorize(count, otypes=[float])(learning_rates)


def best_steps(X: np.ndarray, y: np.ndarray, fraction: float = 1e-3, candidates: int = 64) -> tuple[float, float]:
    """Search for the best learning rate of gradient descent.

    With L the largest eigenvalue of the Hessian, the search runs from 1/L to 2/L: below 1/L every coordinate of the
    error shrinks more slowly than at 1/L, from 2/L on gradient descent diverges. 2/(L + smallest eigenvalue), which
    theory recommends, is tried too.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Features, used as they are.
    y : ndarray, shape (m,)
        Target.
    fraction : float
        Stop when this part of the gap between the loss at the start and the best loss is left.
    candidates : int
        How many learning rates between 1/L and 2/L to try.

    Returns
    -------
    steps : float
        The smallest number of steps found.
    learning_rate : float
        The learning rate that gave it.
    """
    eigenvalues = np.linalg.eigvalsh(hessian(X))
    smallest, largest = max(eigenvalues[0], 0), eigenvalues[-1]
    rates = np.append(np.linspace(1, 2, candidates, endpoint=False) / largest, 2 / (largest + smallest))
    steps = steps_to_target(X, y, rates, fraction)
    return float(steps.min()), float(rates[steps.argmin()])


def adam_steps(
    X: np.ndarray, y: np.ndarray, learning_rates, fraction: float = 1e-3, max_steps: int = ADAM_MAX_STEPS
) -> tuple[float, float]:
    """Run full-batch Adam from zero, all learning rates side by side, until the first one reaches the target.

    Defaults of the paper: beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, constant learning rate.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Features, used as they are.
    y : ndarray, shape (m,)
        Target.
    learning_rates : sequence of float
    fraction : float
        Stop when this part of the gap between the loss at the start and the best loss is left.
    max_steps : int
        Give up after this many steps.

    Returns
    -------
    steps : float
        Steps until the fastest learning rate first reaches the target (Adam's loss is not monotone: it may leave
        again); inf if none arrives within `max_steps`.
    learning_rate : float
        The one that was fastest; nan if none arrived.
    """
    H, A = hessian(X), with_bias(X)
    best = np.linalg.lstsq(A, y, rcond=None)[0]
    rates = np.asarray(learning_rates, dtype=float)[:, None]
    error = np.tile(-best, (len(rates), 1))  # parameters minus best parameters
    target = fraction * best @ H @ best
    first, second = np.zeros_like(error), np.zeros_like(error)
    for k in range(max_steps + 1):
        gradient = error @ H
        gap = (gradient * error).sum(axis=1)
        if gap.min() <= target:
            return float(k), float(rates[gap.argmin(), 0])
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        error -= rates * (first / (1 - 0.9 ** (k + 1))) / (np.sqrt(second / (1 - 0.999 ** (k + 1))) + 1e-8)
    return np.inf, np.nan


def seconds_per_step(X: np.ndarray, y: np.ndarray, steps: int = 200, repeats: int = 30) -> float:
    """Wall-clock seconds of one step of `descend`: the fastest of `repeats` runs, as the others were disturbed."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        descend(X, y, 0.0, steps)
        times.append((time.perf_counter() - begin) / steps)
    return min(times)


# --- the experiment --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of one measurement over the seeds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarize one value per seed."""
        values = np.asarray(list(values), dtype=float)
        return cls(float(np.median(values)), float(values.min()), float(values.max()))

    def __format__(self, spec: str) -> str:
        if self.low == np.inf:
            return "not reached"
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


class Measurement(NamedTuple):
    """What one table of features, as it is given, costs an optimizer: see `measure`."""

    kappa: float
    learning_rate: float
    steps: float
    adam_learning_rate: float
    adam_steps: float


def measure(X: np.ndarray, y: np.ndarray, fraction: float = 1e-3, adam: bool = True) -> Measurement:
    """Measure the condition number of `X` and the steps to the target, each optimizer at its best learning rate.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Features, scaled or not; they are used as they are.
    y : ndarray, shape (m,)
        Target of the linear regression.
    fraction : float
        Stop when this part of the gap between the loss at the start and the best loss is left.
    adam : bool
        Also run Adam (the slow part); without it its two numbers are nan.

    Returns
    -------
    Measurement
    """
    steps, rate = best_steps(X, y, fraction)
    a_steps, a_rate = adam_steps(X, y, ADAM_LEARNING_RATES, fraction) if adam else (np.nan, np.nan)
    return Measurement(condition_number(X), rate, steps, a_rate, a_steps)


@dataclass(frozen=True)
class Arm:
    """The `Measurement` of one scaling: every array has one entry per seed."""

    scaling: str
    kappa: np.ndarray
    learning_rate: np.ndarray
    steps: np.ndarray
    adam_learning_rate: np.ndarray
    adam_steps: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What `compare` measured.

    Attributes
    ----------
    seeds : tuple of int
    ranges : tuple of (low, high)
        The range of each feature.
    fraction : float
        The part of the gap to the best loss that may be left.
    arms : dict of str to Arm
        By name of the scaling.
    """

    seeds: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...]
    fraction: float
    arms: dict[str, Arm]

    def kappa(self, scaling: str) -> Spread:
        """Condition number of the Hessian over the seeds."""
        return Spread.of(self.arms[scaling].kappa)

    def steps(self, scaling: str) -> Spread:
        """Steps of gradient descent at its best learning rate."""
        return Spread.of(self.arms[scaling].steps)

    def adam_steps(self, scaling: str) -> Spread:
        """Steps of Adam at its best learning rate."""
        return Spread.of(self.arms[scaling].adam_steps)

    def speedup(self, slow: str, fast: str, optimizer: str = "gradient descent") -> Spread:
        """How many times fewer steps `fast` needs than `slow`, seed by seed."""
        field = "adam_steps" if optimizer == "adam" else "steps"
        return Spread.of(getattr(self.arms[slow], field) / getattr(self.arms[fast], field))


def compare(
    seeds: Iterable[int] = range(11),
    scalings: Sequence[str] = SCALINGS,
    ranges: Sequence[tuple[float, float]] = RANGES,
    fraction: float = 1e-3,
    m: int = 256,
    adam: bool = True,
) -> Comparison:
    """Measure condition number and steps to the target for every scaling, each at its own best learning rate.

    Parameters
    ----------
    seeds : iterable of int
        One regression problem per seed (see `two_scales`).
    scalings : sequence of str
        See `scale`.
    ranges : sequence of (low, high)
        The range of each feature.
    fraction : float
        Stop when this part of the gap between the loss at the start and the best loss is left.
    m : int
        Examples per problem.
    adam : bool
        Also run Adam (the slow part of the experiment); without it its arrays hold nan.

    Returns
    -------
    Comparison
    """
    seeds = tuple(seeds)
    rows: dict[str, list] = {scaling: [] for scaling in scalings}
    for seed in seeds:
        X, y = two_scales(seed, m, ranges)
        for scaling in scalings:
            rows[scaling].append(measure(scale(X, scaling), y, fraction, adam))
    arms = {scaling: Arm(scaling, *np.array(row).T) for scaling, row in rows.items()}
    return Comparison(seeds, tuple(tuple(r) for r in ranges), fraction, arms)


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Measure every scaling on one regression problem per seed; the full budget adds wider and narrower ranges."""
    highs = {"small": (1000,), "full": (10, 100, 1000)}[budget] if budget in ("small", "full") else ()

    def row(unit):
        X, y = two_scales(unit["seed"], ranges=((0.0, 1.0), (1.0, unit["high"])))
        return measure(scale(X, unit["scaling"]), y)._asdict()

    units = [{"seed": seed, "scaling": name, "high": high} for high in highs for name in SCALINGS for seed in seeds]
    settings = {"fraction": 1e-3, "examples": 256, "adam_max_steps": ADAM_MAX_STEPS}
    return conduct(
        EXPERIMENT, units, row, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def plot(result: Result):
    """Draw the steps of every scaling, both optimizers, one dot per seed."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    for k, (column, name) in enumerate((("steps", "gradient descent"), ("adam_steps", "Adam"))):
        for j, scaling in enumerate(SCALINGS):
            steps = result.column(column, scaling=scaling, high=1000)
            ax.plot(steps, [j + 0.2 * k - 0.1] * len(steps), "os"[k], color=f"C{k}", label=name if j == 0 else None)
    ax.set(xscale="log", xlabel="steps to the target", yticks=range(len(SCALINGS)), yticklabels=SCALINGS)
    ax.legend()
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C01 by the factor in steps, raw over standardized, seed by seed.

    It holds if the whole interval is above one for gradient descent and for Adam and the two medians are within a
    factor of ten of each other; with conditions if it is above one for gradient descent, but how much is gained depends
    on the optimizer; and is refuted otherwise.
    """
    factors = {}
    for column in ("steps", "adam_steps"):
        raw, standardized = (result.column(column, scaling=name, high=1000) for name in ("raw", "standardized"))
        factors[column] = Estimate.of(raw / standardized)
    plain, adam = factors["steps"], factors["adam_steps"]
    alike = max(plain.median, adam.median) <= 10 * min(plain.median, adam.median)
    verdict = "refuted" if plain.low <= 1 else "holds" if adam.low > 1 and alike else "conditions"
    what = "times fewer steps of gradient descent after standardization"
    return [Verdict("C01", verdict, plain, what, f"With Adam the factor is {adam}.")]


# --- the same question for a small network ---------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkArm:
    """One scaling with one optimizer: an entry per seed.

    Attributes
    ----------
    learning_rate : ndarray, shape (S,)
        The best one of the grid.
    steps : ndarray, shape (S,)
        Steps to the target at that learning rate; inf where no learning rate arrived.
    losses : list of ndarray
        The training loss before every step, at that learning rate.
    """

    learning_rate: np.ndarray
    steps: np.ndarray
    losses: list[np.ndarray]


def run_network(
    X: np.ndarray,
    labels: np.ndarray,
    seeds: Iterable[int] = range(5),
    scalings: Sequence[str] = ("raw", "min-max", "standardized"),
    optimizers: Sequence[str] = ("gradient descent", "adam"),
    m: int = 128,
    target: float = 0.1,
    max_steps: int = 1000,
) -> dict[tuple[str, str], NetworkArm]:
    """Train a small network on real data, for every scaling and optimizer at its own best learning rate.

    Parameters
    ----------
    X : ndarray, shape (n, D)
        Features as they were measured.
    labels : ndarray of int, shape (n,)
        Classes 0, 1, ..., K - 1.
    seeds : iterable of int
        A seed draws the training examples and the initial weights.
    scalings, optimizers : sequence of str
        The arms are all pairs. Statistics for the scaling come from the training examples.
    m : int
        Training examples per seed, drawn without replacement.
    target : float
        Cross-entropy on the training examples at which to stop.
    max_steps : int
        Give up after this many steps.

    Returns
    -------
    dict of (scaling, optimizer) to NetworkArm
    """
    seeds = tuple(seeds)
    arms = {}
    for scaling in scalings:
        for optimizer in optimizers:
            runs = []
            for seed in seeds:
                chosen = np.random.default_rng(seed).choice(len(X), m, replace=False)
                features = scale(X[chosen], scaling)
                runs.append(train_network(features, labels[chosen], optimizer, seed, target, max_steps))
            rates, steps, losses = zip(*runs, strict=True)
            arms[scaling, optimizer] = NetworkArm(np.array(rates), np.array(steps), list(losses))
    return arms


def train_network(
    X: np.ndarray,
    labels: np.ndarray,
    optimizer: str,
    seed: int,
    target: float = 0.1,
    max_steps: int = 1000,
    hidden: int = 16,
    learning_rates: np.ndarray = NETWORK_LEARNING_RATES,
) -> tuple[float, float, np.ndarray]:
    """Train one hidden layer of ReLU on cross-entropy with full batches, all learning rates side by side.

    The first layer is initialized as by He et al. (2015), but divided by the size of the inputs it gets, so that the
    hidden values start at the same size whatever the scaling: no arm is handicapped by its initialization.

    Parameters
    ----------
    X : ndarray, shape (m, D)
        Features, used as they are.
    labels : ndarray of int, shape (m,)
        Classes 0, 1, ..., K - 1.
    optimizer : str
        "gradient descent" or "adam".
    seed : int
        Draws the initial weights.
    target : float
        Cross-entropy at which to stop.
    max_steps : int
        Give up after this many steps.
    hidden : int
        Units in the hidden layer.
    learning_rates : ndarray
        The grid.

    Returns
    -------
    learning_rate : float
        The first to reach the target; if none does, the one with the lowest loss at the end.
    steps : float
        Steps it took, or inf.
    losses : ndarray
        Its loss before every step.
    """
    if optimizer not in ("gradient descent", "adam"):
        raise ValueError(f"unknown optimizer {optimizer!r}: choose 'gradient descent' or 'adam'")
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    one_hot = np.eye(classes)[:, labels]
    rates = np.asarray(learning_rates, dtype=float)[:, None, None]
    A = with_bias(X).T  # examples in columns: then every sum below runs along memory
    weights = rng.normal(size=(hidden, X.shape[1])) * np.sqrt(2 / (X**2).sum(axis=1).mean())
    start = (
        np.column_stack([np.zeros(hidden), weights]),  # biases of the hidden layer in the first column
        rng.normal(size=(classes, hidden)) / np.sqrt(hidden),
        np.zeros((classes, 1)),
    )
    parameters = [np.repeat(p[None], len(rates), axis=0) for p in start]
    firsts, seconds = [[np.zeros_like(p) for p in parameters] for _ in range(2)]
    losses = []
    with np.errstate(over="ignore", invalid="ignore"):  # learning rates that diverge end in inf and nan
        for k in range(1, max_steps + 2):
            W1, W2, b2 = parameters
            h = np.maximum(W1 @ A, 0)
            logits = W2 @ h + b2
            logits -= logits.max(axis=1, keepdims=True)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            value = -(log_p * one_hot).sum(axis=(1, 2)) / len(X)
            losses.append(np.where(np.isnan(value), np.inf, value))
            if k > max_steps or losses[-1].min() <= target:
                break
            d_logits = (np.exp(log_p) - one_hot) / len(X)
            d_h = W2.transpose(0, 2, 1) @ d_logits * (h > 0)
            gradients = (d_h @ A.T, d_logits @ h.transpose(0, 2, 1), d_logits.sum(axis=2, keepdims=True))
            for p, first, second, gradient in zip(parameters, firsts, seconds, gradients, strict=True):
                if optimizer == "adam":
                    first += 0.1 * (gradient - first)
                    second += 0.001 * (gradient**2 - second)
                    p -= rates * (first / (1 - 0.9**k)) / (np.sqrt(second / (1 - 0.999**k)) + 1e-8)
                else:
                    p -= rates * gradient
    best = int(losses[-1].argmin())
    steps = float(len(losses) - 1) if losses[-1][best] <= target else np.inf
    return float(rates[best, 0, 0]), steps, np.array(losses)[:, best]
