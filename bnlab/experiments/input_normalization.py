"""Can a batch normalization layer replace the standardization of the inputs? The experiment behind claim C17.

Small dense networks learn three tables: scikit-learn's digits with every pixel measured in a unit of its own, wines and
cells, whose features differ in range as they come. The arms differ in what happens to the inputs:

- "raw": nothing;
- "one factor": all features divided by the same number, so that only the differences between them are left;
- "standardized": mean 0 and standard deviation 1 by the training set;
- "BN first": raw inputs, and a BN layer with gamma and beta before the first weights;
- "BN first, plain": the same without gamma and beta;
- "BN inside": raw inputs, BN in every hidden layer but not before the first weights;
- "standardized, BN inside".

Evaluation uses running statistics with momentum 0.1, as torch's layers do. The inputs don't change during training, so
their running statistics are off by noise only, and how noisy depends on the batch size.

Then the test inputs are shifted (as if some sensors had been exchanged), and the statistics are estimated again from
the shifted, unlabeled inputs: BN's by passing them through, the scaler's by fitting it again.

What this isn't: a comparison of networks with and without BN in the hidden layers. That is for other experiments.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.datasets import Dataset, digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

EXPERIMENT = Experiment(
    name="input_normalization",
    title="A BN layer in place of standardized inputs",
    claims=("C17",),
    section="sec-modes-inputs",
    fair="He initialization, plain SGD at a constant rate; every arm, table and batch size has the best rate of a "
    "grid by its validation loss. Each seed has its own split, units, initial weights and batches in every arm.",
)
ARMS = ("raw", "one factor", "standardized", "BN first", "BN first, plain", "BN inside", "standardized, BN inside")
TABLES = ("digits", "wine", "cells")
TARGETS = {"digits": 0.1, "wine": 0.05, "cells": 0.05}  # validation error that `steps_to_target` waits for
WIDTHS = (32, 32)
BATCH = 32
MOMENTUM = 0.1
BUDGETS = {
    "small": {"steps": 160, "every": 20, "batch_sizes": [2, 8], "lowest_rate": 1e-2},
    "full": {"steps": 2000, "every": 20, "batch_sizes": [2, 4, 8, 16, 64, 128], "lowest_rate": 1e-4},
}
FIRST = ("standardized", "BN first", "BN first, plain")  # what small batches are tried on


class InputNormalized(Ensemble):
    """An ensemble with one more batch normalization before the first weights.

    Parameters
    ----------
    sizes, seeds, **options
        As for `bnlab.ensemble.Ensemble`.
    affine : bool
        Whether the first normalization learns gamma and beta.

    Attributes
    ----------
    first_gamma, first_beta : torch.Tensor (R, 1, D), or None
    running : (mean, var)
        Running statistics of the inputs, (R, 1, D), as torch keeps them; momentum 0.1.
    first : (mean, var)
        What evaluation uses: the statistics of the last `calibrate`, or what was put there.
    """

    eps = 1e-5

    def __init__(self, sizes, seeds, *, affine: bool, **options):
        super().__init__(sizes, seeds, **options)
        shape = (len(self.seeds), 1, sizes[0])
        ones, zeros = torch.ones(shape, device=self.device), torch.zeros(shape, device=self.device)
        self.first_gamma = ones.clone().requires_grad_() if affine else None
        self.first_beta = zeros.clone().requires_grad_() if affine else None
        self.running, self.first = (zeros, ones), None

    @property
    def parameters(self):
        return super().parameters + [p for p in (self.first_gamma, self.first_beta) if p is not None]

    def forward(self, x, *, training=True, tap=None):
        if self._calibrating:
            self.first = _moments(x)
        if training and not self._calibrating:
            mu, var = _moments(x)
            m = x.shape[-2]
            self.running = tuple(
                r.lerp(s, MOMENTUM) for r, s in zip(self.running, (mu, var * m / (m - 1)), strict=True)
            )
        else:
            mu, var = self.first
        x_hat = (x - mu) * torch.rsqrt(var + self.eps)
        if self.first_gamma is not None:
            x_hat = x_hat * self.first_gamma + self.first_beta
        return super().forward(x_hat, training=training, tap=tap)

    __call__ = forward

    @torch.no_grad()
    def calibrate(self, x):
        # Unlike the inner layers, the first has statistics to take even where the others have no normalization.
        self._calibrating = True
        try:
            self.forward(x)
        finally:
            self._calibrating = False


class _Watched(BatchNorm):
    """Batch normalization of hidden layers that also keeps running statistics; momentum 0.1."""

    def __init__(self):
        super().__init__()
        self.running = []

    def statistics(self, z, layer):
        mu, var = super().statistics(z, layer)
        if len(self.running) == layer:
            self.running.append((torch.zeros_like(mu), torch.ones_like(var)))
        m, (mean, variance) = z.shape[1], self.running[layer]
        self.running[layer] = (mean.lerp(mu.detach(), MOMENTUM), variance.lerp(var.detach() * m / (m - 1), MOMENTUM))
        return mu, var


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train all arms on both tables, and test them on inputs as in training and on shifted ones.

    One row for each table, arm, batch size and seed, at the best learning rate of that arm: `learning_rate`, `inside`
    (whether it lies inside the grid), `steps_to_target` and `seconds_to_target` (a step is timed for the whole
    stack: compare arms, no more), `validation_loss`, and test errors: `error` with running statistics, `error_precise`
    with those of the whole training set, `error_shifted` on shifted inputs, `error_refitted` on the same with the
    statistics estimated anew.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])  # conduct refuses an unknown budget
    units = [{"table": table, "arm": arm, "batch_size": BATCH} for table in TABLES for arm in ARMS]
    units += [{"table": "digits", "arm": arm, "batch_size": size} for size in plan["batch_sizes"] for arm in FIRST]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: measure(
            **unit,
            seeds=list(seeds),
            device=device,
            steps=plan["steps"],
            every=plan["every"],
            learning_rates=grid(unit["arm"], plan["lowest_rate"]),
        ),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={
            "widths": WIDTHS,
            "learning_rates": {arm: grid(arm, plan["lowest_rate"]) for arm in ARMS},
            "momentum": MOMENTUM,
            "targets": TARGETS,
            **plan,
        },
        journal=journal,
    )


def grid(arm: str, lowest: float) -> list[float]:
    """Return the learning rates that an arm tries: from `lowest` to 10; from `lowest` / 1000 to 1 for raw features."""
    # The loss is steep in the weights of a feature of size 1000.
    return rates(lowest / 1000, 1, per_decade=2) if arm == "raw" else rates(lowest, 10, per_decade=2)


def measure(
    table: str,
    arm: str,
    batch_size: int,
    seeds: Sequence[int],
    device: str = "cpu",
    steps: int = 160,
    every: int = 20,
    *,
    learning_rates: Sequence[float],
) -> list[dict]:
    """Train one arm at every learning rate and seed, and report its best.

    Parameters
    ----------
    table : str
        One of `TABLES`.
    arm : str
        One of `ARMS`.
    batch_size, steps, every : int
        Examples in a batch, number of steps, steps between two evaluations.
    seeds : sequence of int
    device : str
    learning_rates : sequence of float, ascending

    Returns
    -------
    list of dict
        One row per seed, as :func:`run` describes.
    """
    outcomes = [_train(table, arm, batch_size, seed, device, steps, every, learning_rates) for seed in seeds]
    loss = np.array([outcome["validation_loss"] for outcome in outcomes]).T  # (rates, seeds)
    rate, inside = best_rate(learning_rates, loss)
    k = list(learning_rates).index(rate)
    rows = []
    for seed, outcome in zip(seeds, outcomes, strict=True):
        at_best = {key: float(values[k]) for key, values in outcome.items()}
        rows.append({"seed": seed, "learning_rate": rate, "inside": inside, **at_best})
    return rows


def _train(table, arm, batch_size, seed, device, steps, every, learning_rates) -> dict[str, np.ndarray]:
    """Train one seed at every learning rate: column -> values (rates,)."""
    data, test_x, test_y = prepare(table, arm, seed)
    runs = len(learning_rates)
    sizes = (data.x_train.shape[1], *WIDTHS, len(data.classes))
    norm = _Watched() if "inside" in arm else None
    if arm.startswith("BN first"):
        ensemble = InputNormalized(sizes, [seed] * runs, affine="plain" not in arm, device=device)
    else:
        ensemble = Ensemble(sizes, [seed] * runs, norm=norm, device=device)
    # Tables smaller than a batch don't occur; the last, incomplete batch of an epoch is left out.
    history = fit(ensemble, data, learning_rates, steps=steps, batch_size=batch_size, every=every)
    reached = history.steps_to(TARGETS[table])

    x_train, y = torch.tensor(data.x_train, device=device), torch.tensor(test_y, device=device)
    x = torch.tensor(test_x, device=device)
    shifted = torch.tensor(shift(table, arm, seed), device=device)

    @torch.no_grad()
    def error(inputs):
        logits = ensemble(inputs, training=False)
        wrong = (logits.argmax(-1) != y).float().mean(1)
        return torch.where(logits.isfinite().all(-1).all(-1), wrong, torch.nan).cpu().numpy()

    with torch.no_grad():
        ensemble.calibrate(x_train)
    out = {"validation_loss": history.test_loss[-1], "steps_to_target": reached, "error_precise": error(x)}
    out["seconds_to_target"] = reached * history.seconds_per_step
    if isinstance(ensemble, InputNormalized):
        ensemble.first = ensemble.running
    if norm is not None:
        ensemble.population = norm.running
    out["error"], out["error_shifted"] = error(x), error(shifted)
    with torch.no_grad():  # new statistics from the shifted inputs, without labels
        if arm.startswith("standardized"):
            shifted = (shifted - shifted.mean(0)) / shifted.std(0, correction=0).clamp(min=1e-6)
        ensemble.calibrate(shifted)
    out["error_refitted"] = error(shifted)
    return out


def _moments(x):
    """Mean and biased variance of each network's batch, (R, 1, D)."""
    mu = x.mean(dim=-2, keepdim=True)
    return mu, (x - mu).square().mean(dim=-2, keepdim=True)


def prepare(table: str, arm: str, seed: int) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Load a table, split it, and treat the inputs as the arm does before they reach the network.

    Parameters
    ----------
    table : str
        One of `TABLES`. Constant features of the training part are dropped.
    arm : str
        One of `ARMS`.
    seed : int
        Decides the split (60 % for training, 20 % for validation, 20 % for testing, class by class) and the units
        of the digits' pixels.

    Returns
    -------
    data : Dataset
        Training part, and the validation part in the place of its "test" part.
    test_x, test_y : ndarray, shape (n, D) and (n,)

    Raises
    ------
    ValueError
        If the table or the arm is unknown.
    """
    (train, valid, test), (y_train, y_valid, y_test), classes = split(table, seed)
    offset, factor = treatment(arm, train)
    train, valid, test = (np.float32((part - offset) / factor) for part in (train, valid, test))
    return Dataset(train, y_train, valid, y_valid, classes), test, y_test


def shift(table: str, arm: str, seed: int) -> np.ndarray:
    """Return the test inputs of :func:`prepare` as they are when some sensors have been exchanged.

    A third of the features, drawn by the seed, get another gain (a factor from 0.5 to 2) and offset (up to one standard
    deviation to either side). The arm's treatment of the inputs remains that of the training set.
    """
    (train, _, test), _, _ = split(table, seed)
    rng = np.random.default_rng(1000 + seed)
    count = train.shape[1]
    changed = rng.permutation(count) < count / 3
    gain = np.where(changed, 2.0 ** rng.uniform(-1, 1, count), 1.0)
    offset = np.where(changed, rng.uniform(-1, 1, count) * train.std(axis=0), 0.0)
    mu, factor = treatment(arm, train)
    moved = train.mean(axis=0) + gain * (test - train.mean(axis=0)) + offset
    return np.float32((moved - mu) / factor)


def split(table: str, seed: int):
    """Return ((train, valid, test), (y_train, y_valid, y_test), classes) of a raw table, float64, as `prepare` says."""
    rng = np.random.default_rng(seed)
    if table == "digits":
        data = digits()
        x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
        x, classes = x * 10.0 ** rng.uniform(-2, 2, x.shape[1]), data.classes
    elif table in TABLES:
        from sklearn.datasets import load_breast_cancer, load_wine

        bunch = {"wine": load_wine, "cells": load_breast_cancer}[table]()
        x, y, classes = bunch.data, np.int64(bunch.target), tuple(map(str, bunch.target_names))
    else:
        raise ValueError(f"got the table {table!r}, which is unknown: give one of {', '.join(TABLES)}")
    part = np.zeros(len(y), int)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        part[members] = np.digitize(np.arange(len(members)) / len(members), [0.6, 0.8])
    spread = np.ptp(x[part == 0], axis=0) > 0
    return tuple(x[part == k][:, spread] for k in range(3)), tuple(y[part == k] for k in range(3)), classes


def treatment(arm: str, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (offset, factor), shape (D,) each: the arm passes on (x - offset) / factor."""
    if arm not in ARMS:
        raise ValueError(f"got the arm {arm!r}, which is unknown: give one of {', '.join(ARMS)}")
    count = train.shape[1]
    if arm.startswith("standardized"):
        return train.mean(axis=0), train.std(axis=0)
    if arm == "one factor":
        return np.zeros(count), np.full(count, np.sqrt((train**2).mean()))
    return np.zeros(count), np.ones(count)


def difference(result: Result, arm: str, table: str, batch_size: int = BATCH, column: str = "error") -> np.ndarray:
    """Return the arm's test error less that of standardized inputs, in percentage points, for every seed."""
    errors = [result.column(column, arm=a, table=table, batch_size=batch_size) for a in (arm, "standardized")]
    return 100 * (np.nan_to_num(errors[0], nan=1.0) - np.nan_to_num(errors[1], nan=1.0))


def verdicts(result: Result) -> list[Verdict]:
    """Judge C17, "BN can replace manual normalization of the input data".

    The measure is the median over seeds of the difference in test error between an arm and standardized inputs, seed by
    seed, in percentage points; at most 2 points count as "as good". The claim, for BN as the first layer with
    running statistics,

    - "refuted": isn't as good with batches of 32 on more than half of the tables;
    - "holds": is as good on every table and with every batch size, and BN inside alone is as good on every table;
    - "conditions": anything between.
    """
    gap = {table: np.median(difference(result, "BN first", table)) for table in TABLES}
    inside = {table: np.median(difference(result, "BN inside", table)) for table in TABLES}
    sizes = sorted({row["batch_size"] for row in result.rows})
    small = {size: np.median(difference(result, "BN first", "digits", size)) for size in sizes}
    mean = np.mean([difference(result, "BN first", table) for table in TABLES], axis=0)
    good = [value <= 2 for value in gap.values()]
    if sum(good) < len(good) / 2:
        verdict = "refuted"
    elif all(value <= 2 for value in (*gap.values(), *inside.values(), *small.values())):
        verdict = "holds"
    else:
        verdict = "conditions"
    return [
        Verdict(
            claim="C17",
            verdict=verdict,
            number=Estimate.of(mean, "points"),
            what=f"more test error with BN first than with standardized inputs (mean of {len(TABLES)} tables, "
            f"batches of {BATCH})",
            because=f"With batches of {sizes[0]} it is {small[sizes[0]]:.1f} points on the digits; BN in the hidden "
            f"layers alone leaves up to {max(inside.values()):.1f} points.",
        )
    ]


def plot(result: Result):
    """Plot the test error of every arm, one panel per table: a dot per seed, a bar for the median.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(len(TABLES), 1, figsize=(6.4, 8), sharex=True)
    for ax, table in zip(axes, TABLES, strict=True):
        for k, arm in enumerate(ARMS):
            errors = 100 * np.nan_to_num(result.column("error", table=table, arm=arm, batch_size=BATCH), nan=1.0)
            color = "C0" if "BN" in arm else "C1"
            filled = color if "standardized" in arm else "none"
            ax.plot(errors, k + np.linspace(-0.2, 0.2, len(errors)), "o", color=color, mfc=filled, ms=5)
            ax.vlines(np.median(errors), k - 0.35, k + 0.35, color="black")
        ax.set(title=table, yticks=range(len(ARMS)), yticklabels=ARMS, ylim=(len(ARMS) - 0.4, -0.6))
        ax.grid(False, axis="y")
    axes[-1].set_xlim(left=-0.5)  # now that all panels have been drawn: they share this axis
    axes[-1].set_xlabel("test error in %")
    return fig


def plot_batches(result: Result):
    """Plot the test error on the digits against the batch size, for standardized inputs and BN first.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    sizes = sorted({row["batch_size"] for row in result.rows})
    looks = {
        ("standardized", "error"): ("o-", "C1", "standardized"),
        ("BN first", "error"): ("s--", "C0", "BN first, running statistics"),
        ("BN first", "error_precise"): ("D:", "C2", "BN first, precise statistics"),
    }
    fig, ax = plt.subplots(figsize=(6.4, 4))
    for (arm, column), (style, color, label) in looks.items():
        spread = [Estimate.of(100 * result.column(column, arm=arm, table="digits", batch_size=size)) for size in sizes]
        ax.plot(sizes, [e.median for e in spread], style, color=color, label=label)
        ax.fill_between(sizes, [e.low for e in spread], [e.high for e in spread], color=color, alpha=0.15, lw=0)
    ax.set(xscale="log", xlabel="batch size", ylabel="test error in %", ylim=(0, None))
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend()
    return fig
