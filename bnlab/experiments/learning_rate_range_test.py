"""Can a good learning rate be estimated before training, with and without batch normalization? Claim C24.

The learning-rate range test (Smith 2017) trains for a moment while the rate grows exponentially, and looks at the loss.
Four rules read a rate off it, or off the curvature; all are fixed before anything is measured:

- ``steepest``: where the smoothed loss falls fastest, per factor of the rate.
- ``minimum / 10``: a tenth of the rate at which the smoothed loss is smallest.
- ``edge / 4``: a quarter of the rate at which the smoothed loss first exceeds what it was at the start.
- ``curvature``: 1 / lambda_max, the largest eigenvalue of the Hessian of the loss, before the first step. Gradient
  descent on a quadratic is fastest near it, and diverges beyond 2 / lambda_max.

A fifth one, the control, estimates nothing: ``always 0.1``, which He et al. (2016) train residual networks with.

Each seed's estimate is compared with the best rate of a full sweep, in two ways: how far it is from it, and what it
costs in accuracy to train with the estimate.

What this isn't: a learning-rate schedule. Every training run has a constant rate and plain SGD.
"""

import numpy as np
import torch
from torch.nn import functional as F

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

EXPERIMENT = Experiment(
    name="learning_rate_range_test",
    title="Estimates of the learning rate against the best one of a sweep",
    claims=("C24",),
    section="sec-speed-range",
    fair="He initialization, centered inputs and plain SGD at a constant rate in both arms; the rules fixed in "
    "advance; every arm judged by its own sweep, with the best rate inside the grid.",
)

ARMS = ("plain", "bn")
DEPTHS = (3, 8)
RULES = ("steepest", "minimum / 10", "edge / 4", "curvature")
CONTROL = "always 0.1"
LOW, HIGH = 1e-3, 30.0  # the range of the range test
TOLERANCE = 0.02  # test error that a good estimate may cost: two standard errors of an error of 4 % on 355 images


def make(arm: str, depth: int, seeds, *, width: int, device: str) -> Ensemble:
    """Return one network per entry of `seeds`: `depth` hidden ReLU layers, He's weights, with or without BN."""
    norm = BatchNorm() if arm == "bn" else None
    return Ensemble([64, *[width] * depth, 10], seeds, norm=norm, device=device)


def range_test(
    ensemble: Ensemble, data, *, low: float = LOW, high: float = HIGH, steps: int = 100, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Train while the rate grows exponentially, and record the loss of each batch before its step.

    Parameters
    ----------
    ensemble : Ensemble
        It is trained, and spoilt.
    data : bnlab.datasets.Dataset
    low, high : float
        First and last rate.
    steps : int
    batch_size : int

    Returns
    -------
    rate : ndarray, shape (steps,)
    loss : ndarray, shape (steps, R)
        NaN or infinite once a network has diverged.

    References
    ----------
    L. N. Smith (2017), Cyclical learning rates for training neural networks, section 3.3: there it grows linearly.
    """
    x, y = (torch.as_tensor(a).to(ensemble.device) for a in (data.x_train, data.y_train))
    generators = [torch.Generator().manual_seed(20_000 + seed) for seed in ensemble.seeds]
    grown, losses = np.geomspace(low, high, steps), []
    for rate in grown:
        index = torch.stack([torch.randint(len(x), (batch_size,), generator=g) for g in generators])
        loss = cross_entropy(ensemble(x[index]), y[index])
        gradients = torch.autograd.grad(loss.sum(), ensemble.parameters)
        losses.append(loss.detach().cpu().numpy())
        with torch.no_grad():
            for p, g in zip(ensemble.parameters, gradients, strict=True):
                p.sub_(rate * g)
    return grown, np.array(losses, dtype=float)


def smooth(loss: np.ndarray, window: int = 11) -> np.ndarray:
    """Return the mean of each loss and its neighbors, `window` in all (fewer at the ends); infinite where one is.

    Parameters
    ----------
    loss : ndarray, shape (steps,)
    window : int
        An odd number.
    """
    finite = np.where(np.isfinite(loss), loss, np.inf)
    half = window // 2
    return np.array([finite[max(k - half, 0) : k + half + 1].mean() for k in range(len(finite))])


def read_off(rate: np.ndarray, loss: np.ndarray) -> dict[str, float]:
    """Apply the three rules of the range test to the losses of one network.

    Parameters
    ----------
    rate, loss : ndarray, shape (steps,)
        The loss as measured: it is smoothed here.

    Returns
    -------
    dict
        Rule -> rate. The edge is looked for behind the minimum; if the loss never exceeds its start again, the last
        rate takes its place.
    """
    smoothed = smooth(loss)
    lowest = int(smoothed.argmin())
    beyond = np.flatnonzero(smoothed[lowest:] > smoothed[0])
    edge = lowest + int(beyond[0]) if len(beyond) else len(rate) - 1
    steepest = int(np.gradient(smoothed[: lowest + 1]).argmin()) if lowest else 0
    return {
        "steepest": float(rate[steepest]),
        "minimum / 10": float(rate[lowest] / 10),
        "edge / 4": float(rate[edge] / 4),
    }


def largest_curvature(ensemble: Ensemble, x, y, *, iterations: int = 30) -> np.ndarray:
    """Return lambda_max of the Hessian of each network's mean loss on (x, y), by power iteration.

    Batch normalization uses the statistics of x and differentiates through them, as a training step does. Power
    iteration finds the eigenvalue of the largest size, which may be negative. So it runs twice: the second time on the
    Hessian plus that size times the identity, which has no negative eigenvalue and keeps the order.

    Parameters
    ----------
    ensemble : Ensemble
    x : torch.Tensor, shape (m, D)
    y : torch.Tensor of int64, shape (m,)
    iterations : int
        Products of the Hessian with a vector, in each of the two runs.

    Returns
    -------
    ndarray, shape (R,)
        A lower bound, close if the eigenvalues next to it are well below.
    """
    runs, parameters = len(ensemble.seeds), ensemble.parameters
    loss = cross_entropy(ensemble(x), y.expand(runs, -1)).sum()
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(p.shape, generator=generator).to(p.device) for p in parameters]

    def total(tensors):
        return torch.stack([t.sum((1, 2)) for t in tensors]).sum(0).view(-1, 1, 1)

    shift = torch.zeros(runs, 1, 1, device=x.device)
    for _ in range(2):
        vectors = start
        for _ in range(iterations):
            norm = total([v.square() for v in vectors]).sqrt().clamp(min=1e-30)
            units = [v / norm for v in vectors]
            products = torch.autograd.grad(gradients, parameters, units, retain_graph=True)
            quotient = total([u * p for u, p in zip(units, products, strict=True)])
            vectors = [p + shift * u for u, p in zip(units, products, strict=True)]
        shift = quotient.abs()
    return quotient.flatten().detach().cpu().double().numpy()


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of each network, shape (R,), from logits (R, m, classes) and labels (R, m)."""
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Sweep, test the range, estimate, and train with the estimates: two depths, without and with BN."""
    full = budget == "full"
    width, steps, batch_size = (64, 1000, 32) if full else (40, 300, 32)
    learning_rates = rates(0.001, 10, 6 if full else 3)
    seeds = list(seeds)
    data = centered_digits()

    def train(arm, depth, cases):
        ensemble = make(arm, depth, [seed for _, seed in cases], width=width, device=device)
        history = fit(ensemble, data, [rate for rate, _ in cases], steps=steps, batch_size=batch_size, every=steps)
        return [
            {"rate": rate, "seed": seed, "test_error": error, "train_loss": loss}
            for (rate, seed), error, loss in zip(cases, history.test_error[-1], history.train_loss[-1], strict=True)
        ]

    def measure(unit):
        arm, depth = unit["arm"], unit["depth"]
        if unit["part"] == "sweep":
            return train(arm, depth, [(rate, seed) for rate in learning_rates for seed in seeds])
        ensemble = make(arm, depth, seeds, width=width, device=device)
        x, y = (torch.as_tensor(a[:512]).to(device) for a in (data.x_train, data.y_train))
        curvature = largest_curvature(ensemble, x, y)
        rate, loss = range_test(ensemble, data, steps=unit["length"], batch_size=batch_size)
        estimates = []
        for column, largest in zip(loss.T, curvature, strict=True):
            estimates.append({**read_off(rate, column), "curvature": 1 / largest, CONTROL: 0.1})
        named = [
            (rule, found[rule], seed)
            for rule in (*RULES, CONTROL)
            for found, seed in zip(estimates, seeds, strict=True)
        ]
        trained = train(arm, depth, [(rate, seed) for _, rate, seed in named])
        rules = [rule for rule, _, _ in named]
        return [{**row, "rule": rule} for row, rule in zip(trained, rules, strict=True)] + [
            {"seed": seed, "rates": list(rate), "losses": list(column), "curvature": float(largest)}
            for seed, column, largest in zip(seeds, loss.T, curvature, strict=True)
        ]

    lengths = (50, 100, 200, 400) if full else (100,)
    units = [{"part": "sweep", "arm": arm, "depth": depth} for depth in DEPTHS for arm in ARMS]
    units += [
        {"part": "estimate", "arm": arm, "depth": depth, "length": length}
        for length in lengths
        for depth in DEPTHS
        for arm in ARMS
    ]
    settings = {
        "width": width,
        "steps": steps,
        "batch_size": batch_size,
        "rates": learning_rates,
        "range": (LOW, HIGH),
        "lengths": lengths,
        "tolerance": TOLERANCE,
    }
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def sweep(result: Result, arm: str, depth: int, column: str = "test_error") -> np.ndarray:
    """Return final test errors (or training losses) of the full sweep, shape (rates, seeds), ascending in the rate."""
    values = result.column(column, part="sweep", arm=arm, depth=depth).astype(float)
    return values.reshape(-1, len(result.seeds))


def best(result: Result, arm: str, depth: int) -> tuple[float, bool, np.ndarray]:
    """Return the rate of the sweep with the smallest median test error, if it is inside, and the errors there."""
    errors = sweep(result, arm, depth)
    rate, inside = best_rate(result.settings["rates"], errors)
    return rate, inside, errors[result.settings["rates"].index(rate)]


def good_range(result: Result, arm: str, depth: int) -> tuple[float, float]:
    """Return the lowest and the highest rate of the sweep whose median error is within `TOLERANCE` of the best."""
    middle = np.median(np.nan_to_num(sweep(result, arm, depth), nan=np.inf), axis=1)
    good = np.array(result.settings["rates"])[middle <= middle.min() + TOLERANCE]
    return float(good.min()), float(good.max())


def distance(result: Result, rule: str, arm: str, depth: int, length: int = 100) -> np.ndarray:
    """Return estimate / best rate, shape (seeds,)."""
    estimates = result.column("rate", part="estimate", rule=rule, arm=arm, depth=depth, length=length)
    return estimates.astype(float) / best(result, arm, depth)[0]


def cost(result: Result, rule: str, arm: str, depth: int, length: int = 100) -> np.ndarray:
    """Return the test error that each seed loses by the estimate, against the best rate, shape (seeds,).

    A run that diverged is counted with the error of chance, 0.9.
    """
    errors = result.column("test_error", part="estimate", rule=rule, arm=arm, depth=depth, length=length)
    return np.nan_to_num(errors.astype(float), nan=0.9) - best(result, arm, depth)[2]


def verdicts(result: Result) -> list[Verdict]:
    """Judge C24 by what the estimates cost: a rule is good for a network if the median cost is at most `TOLERANCE`.

    *Holds* if every rule is good for every network (both depths, without and with BN). *Holds with conditions* if some
    rule is good for every network, or if at least half of all pairs of rule and network are good. *Refuted* otherwise.
    *Open* if the best rate of an arm is at the end of the grid. The control takes no part.

    The number is the distance of the estimate from the best rate, as a factor of at least 1 in either direction: the
    median over networks and rules.
    """
    pairs = [(arm, depth) for depth in DEPTHS for arm in ARMS]
    far = [np.exp(np.abs(np.log(distance(result, rule, *pair)))) for rule in RULES for pair in pairs]
    number = Estimate.of(np.median(far, axis=0))
    good = {rule: sum(np.median(cost(result, rule, *pair)) <= TOLERANCE for pair in pairs) for rule in RULES}
    if not all(best(result, *pair)[1] for pair in pairs):
        word = "open"
    elif all(count == len(pairs) for count in good.values()):
        word = "holds"
    elif max(good.values()) == len(pairs) or sum(good.values()) >= len(pairs) * len(RULES) / 2:
        word = "conditions"
    else:
        word = "refuted"
    counts = ", ".join(f"{rule}: {count}" for rule, count in good.items())
    because = (
        f"Networks, of {len(pairs)}, for which an estimate costs at most {100 * TOLERANCE:.0f} percentage points of "
        f"test error: {counts}."
    )
    return [Verdict("C24", word, number, "times too large or too small is an estimate of the learning rate", because)]


def plot(result: Result, depth: int = 3, length: int = 100):
    """Draw the range test of every seed above the sweep, without and with batch normalization, on one axis of rates."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(6.4, 6), sharex=True, sharey="row")
    for (test, swept), arm, color in zip(axes.T, ARMS, ("C1", "C0"), strict=True):
        rows = [row for row in result.select(part="estimate", arm=arm, depth=depth, length=length) if "losses" in row]
        start = np.median([row["losses"][0] for row in rows])
        for row in rows:
            test.plot(row["rates"], smooth(np.array(row["losses"], dtype=float)), color=color, alpha=0.6, lw=1.2)
        test.set(xscale="log", ylim=(0, 1.6 * start), title="without BN" if arm == "plain" else "with BN")
        learning_rates = result.settings["rates"]
        errors = np.nan_to_num(sweep(result, arm, depth), nan=0.9)
        swept.plot(learning_rates, np.median(errors, axis=1), "o-", color=color)
        swept.fill_between(learning_rates, errors.min(axis=1), errors.max(axis=1), color=color, alpha=0.25, lw=0)
        for height, (rule, marker) in enumerate(zip(RULES, "v^sD", strict=True)):
            found = result.column("rate", part="estimate", rule=rule, arm=arm, depth=depth, length=length)
            at = np.full(len(found), 0.86 - 0.09 * height)
            swept.plot(found.astype(float), at, marker, color="black", ms=5, label=rule, alpha=0.7)
        swept.set(xlabel="learning rate")
    axes[0, 0].set_ylabel("loss (smoothed)")
    axes[1, 0].set_ylabel("test error of the sweep")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def plot_rules(result: Result, length: int = 100):
    """Draw, for every rule and network, how far the estimates are from the best rate and what they cost."""
    import matplotlib.pyplot as plt

    pairs, rules = [(arm, depth) for depth in DEPTHS for arm in ARMS], (*RULES, CONTROL)
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
    for k, (arm, depth) in enumerate(pairs):
        color, marker = ("C1", "o") if arm == "plain" else ("C0", "s")
        name = f"{depth} layers, {'with' if arm == 'bn' else 'no'} BN"
        for ax, measured in zip(axes, (distance, cost), strict=True):
            for j, rule in enumerate(rules):
                values = measured(result, rule, arm, depth, length)
                values = 100 * values if measured is cost else values
                place = j + (k - 1.5) * 0.18
                hollow = {"mfc": "none"} if depth == max(DEPTHS) else {}
                ax.plot(np.full(len(values), place), values, marker, color=color, ms=4.5, **hollow)
                ax.plot([place - 0.07, place + 0.07], [np.median(values)] * 2, color="black", lw=2)
        axes[0].plot([], [], marker, color=color, label=name, **hollow)
    axes[0].axhline(1, color="black", lw=1)
    axes[0].set(yscale="log", ylabel="estimate / best rate")
    axes[1].axhspan(-100, 100 * TOLERANCE, color="C2", alpha=0.15, lw=0)
    axes[1].set_yscale("symlog", linthresh=100 * TOLERANCE)
    marks = (-50, -10, -2, 0, 2, 10, 50)
    axes[1].set(ylim=(-100, 100), yticks=marks, yticklabels=marks, ylabel="cost (percentage points)")
    axes[1].set(xticks=range(len(rules)), xticklabels=[rule.replace(" ", "\n", 1) for rule in rules])
    axes[1].minorticks_off()
    axes[0].legend(ncols=2, fontsize="small")
    return figure
