"""Where does batch normalization belong? The experiment behind claim C15 and the order of claim C22.

- ``part="order"``: linear, BN, activation against linear, activation, BN, and no BN, for three activation functions. In
  the second order the linear layers keep their bias, as it isn't redundant there.
- ``part="residual"``: residual networks with BN as in He et al. (2016a; the addition is followed by ReLU: "post"), the
  same with the last gamma of each block starting at zero (Goyal et al. 2017, section 5.1), with BN and ReLU before the
  linear layers (He et al. 2016b: "pre"), and that with the last weights of each block starting at zero.

What this isn't: an experiment on convolutional networks of the size for which these designs were made.

Sources: Ioffe and Szegedy (2015), section 3.2, for the order; He, Zhang, Ren and Sun (2016), Deep residual learning,
and Identity mappings in deep residual networks.
"""

from collections.abc import Sequence
from copy import copy
from itertools import product

import numpy as np
import torch

from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, kaiming
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.batch_noise import scarce, test_scores

EXPERIMENT = Experiment(
    name="placement",
    title="BN before or after the activation, and in residual blocks",
    claims=("C15",),
    section="sec-placement-order",
    fair="He initialization for ReLU, Glorot for tanh and sigmoid, in all orders; biases wherever they have an effect; "
    "plain SGD, the same batches, a rate that falls linearly to zero (residual: constant); every arm at its own best "
    "rate, by the validation error (residual: by the training loss).",
)

ORDERS = ("before", "after", "no BN")
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
RATES = {"order": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "residual": (0.03, 0.1, 0.3, 1.0, 3.0)}
BLOCKS = ("post", "post, gamma 0", "pre", "pre, weights 0")
EXAMPLES = 1000
EVERY = 25
TARGET = 0.25  # validation error
WORTH_IT = 2.0  # percentage points of test error
BUDGETS = {
    "small": {"width": 32, "hidden": 4, "steps": 200, "blocks": (10,), "residual_steps": 80, "tasks": ("fashion",)},
    "full": {"width": 64, "hidden": 6, "steps": 1000, "blocks": (4, 16, 48), "residual_steps": 600,
             "tasks": ("fashion", "mnist1d")},
}  # fmt: skip


def glorot(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (fan_in, fan_out) from N(0, 2 / (fan_in + fan_out)): Glorot & Bengio (2010), equation 12."""
    return torch.randn(fan_in, fan_out, generator=generator) * (2 / (fan_in + fan_out)) ** 0.5


class Residual(Ensemble):
    """R residual networks: a linear layer, blocks of two linear layers around which the input passes, a linear layer.

    Parameters
    ----------
    inputs, width, blocks, outputs : int
    seeds : sequence of int
    style : {"post", "post, gamma 0", "pre", "pre, weights 0", "pre, gamma 0"}
        Post: relu(h + BN(W relu(BN(W h)))). Pre: h + W relu(BN(W relu(BN(h)))), with one more BN and ReLU at the end.
        What is named after the comma starts at zero in every block: the last gamma or the last weights.
    """

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, seeds: Sequence[int], style: str,
                 device: str = "cpu"):  # fmt: skip
        super().__init__([inputs, *[width] * (2 * blocks + 1), outputs], seeds, norm=BatchNorm(), device=device)
        self.style = style
        kind, _, zero = style.partition(", ")
        if kind not in ("post", "pre") or zero not in ("", "gamma 0", "weights 0"):
            raise ValueError(f"style is {style!r}: give 'post' or 'pre', alone or with ', gamma 0' or ', weights 0'")
        with torch.no_grad():
            for last in range(2, 2 * blocks + 1, 2):
                if zero == "gamma 0":
                    # of post, a norm follows linear layer `last`; of pre, it precedes it
                    self.gamma[last if kind == "post" else last - 1].zero_()
                elif zero == "weights 0":
                    self.weights[last].zero_()

    def forward(self, x, *, training=True, tap=None):
        """As `Ensemble.forward`. The tap sees place "h": the value that leaves the stem (layer 0) and each block."""
        see = tap or (lambda place, layer, value: None)
        h = self._linear(x if x.dim() == 3 else x.expand(len(self.seeds), -1, -1), 0)
        post = self.style.startswith("post")
        if post:
            h = torch.relu(self._normalized(h, 0, training))
        see("h", 0, h)
        for first in range(1, len(self.weights) - 1, 2):
            u = h
            for layer in (first, first + 1):
                if post:
                    u = self._normalized(self._linear(u, layer), layer, training)
                    u = torch.relu(u) if layer == first else u
                else:
                    u = self._linear(torch.relu(self._normalized(u, layer - 1, training)), layer)
            h = torch.relu(h + u) if post else h + u
            see("h", (first + 1) // 2, h)
        if not post:
            h = torch.relu(self._normalized(h, len(self.weights) - 2, training))
        return self._linear(h, len(self.weights) - 1)

    __call__ = forward


def run(seeds: Sequence[int] = range(5), device: str = "cpu", budget: str = "small", *, journal=None) -> Result:
    """Train all orders, and all residual blocks at all depths.

    Rows: task, part, arm, activation (order) or blocks (residual), seed, rate, step and train_loss and
    validation_error (lists over the evaluations), steps_to_target (infinite: never), test_loss, test_error.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    units = [
        {"task": task, "part": "order", "arm": arm, "seed": seed}
        for task, arm, seed in product(plan["tasks"], ORDERS, seeds)
    ]
    units += [
        {"task": task, "part": "residual", "kind": kind, "blocks": blocks, "seed": seed}
        for task, blocks, kind, seed in product(plan["tasks"], plan["blocks"], ("post", "pre"), seeds)
    ]
    return conduct(EXPERIMENT, units, lambda unit: train(unit, plan, device), seeds=seeds, device=device, budget=budget,
                   settings={**plan, "rates": RATES, "examples": EXAMPLES, "target": TARGET},
                   journal=journal)  # fmt: skip


def train(unit: dict, plan: dict, device: str = "cpu") -> list[dict]:
    """Train an order with all activations, or a kind of block with all its starts, at all learning rates, at once.

    Return one row for each network.
    """
    data, x_test, y_test = scarce(unit["task"], EXAMPLES, unit["seed"])
    features, classes, rates = data.x_train.shape[1], len(data.classes), RATES[unit["part"]]
    seeds = [unit["seed"]] * len(rates)
    if unit["part"] == "order":
        sizes = [features, *[plan["width"]] * plan["hidden"], classes]
        arms = [{"activation": activation} for activation in ACTIVATIONS]
        ensembles = [ordered(sizes, seeds, unit["arm"], activation, device) for activation in ACTIVATIONS]
        steps, batch = plan["steps"], 64
    else:
        arms = [{"arm": arm} for arm in BLOCKS if arm.startswith(unit["kind"])]
        ensembles = [
            Residual(features, plan["width"], unit["blocks"], classes, seeds, row["arm"], device) for row in arms
        ]
        steps, batch = plan["residual_steps"], 32
    ensemble, cases = joined(ensembles), list(product(arms, rates))
    # the orders are compared by where they end, so the last steps should be quiet ones; the blocks by how they start
    schedule = (lambda progress: 1 - progress) if unit["part"] == "order" else (lambda progress: 1.0)
    history = fit(ensemble, data, [rate for _, rate in cases], steps=steps, batch_size=batch, every=EVERY,
                  schedule=schedule)  # fmt: skip
    loss, error = test_scores(ensemble, x_test, y_test)
    reached = history.steps_to(TARGET)
    return [
        {
            **arm,
            "rate": rate,
            "step": history.steps,
            "train_loss": history.train_loss[:, k],
            "validation_error": history.test_error[:, k],
            "steps_to_target": reached[k],
            "test_loss": loss[k],
            "test_error": error[k],
        }
        for k, (arm, rate) in enumerate(cases)
    ]


def joined(ensembles: Sequence[Ensemble]) -> Ensemble:
    """Return one ensemble of the networks of several, which computes what they do, in fewer calls.

    They must have the same layers and norms; initial weights and activations may differ.
    """
    whole, runs = copy(ensembles[0]), [len(ensemble.seeds) for ensemble in ensembles]
    whole.seeds = [seed for ensemble in ensembles for seed in ensemble.seeds]
    for name in ("weights", "biases", "gamma", "beta"):
        layers = zip(*(getattr(ensemble, name) for ensemble in ensembles), strict=True)
        setattr(whole, name, [
            None if own[0] is None else torch.cat([t.detach() for t in own]).requires_grad_() for own in layers
        ])  # fmt: skip
    whole.population = [None] * len(whole.population)
    activations = [ensemble.activation for ensemble in ensembles]
    if len(set(activations)) > 1:
        whole.activation = lambda h: torch.cat([f(own) for f, own in zip(activations, h.split(runs), strict=True)])
    return whole


def ordered(sizes: Sequence[int], seeds: Sequence[int], order: str, activation: str, device: str = "cpu") -> Ensemble:
    """Return an ensemble with BN "before" or "after" the activation, or with "no BN".

    With BN after the activation, the linear layers get a bias, starting at zero: there it moves the activation's bend.
    """
    ensemble = Ensemble(
        sizes,
        seeds,
        norm=None if order == "no BN" else BatchNorm(),
        activation=ACTIVATIONS[activation],
        init=kaiming if activation == "relu" else glorot,
        order="activation-norm" if order == "after" else "norm-activation",
        device=device,
    )
    if order == "after":
        shapes = [(len(seeds), 1, width) for width in sizes[1:-1]]
        ensemble.biases[:-1] = [torch.zeros(shape, device=device, requires_grad=True) for shape in shapes]
    return ensemble


def chosen(result: Result, score: str = "validation_error", **where) -> tuple[list[dict], float, bool]:
    """Return the rows of an arm at its best rate, one per seed; the rate; and whether it is inside the grid.

    Parameters
    ----------
    result : Result
    score : {"validation_error", "steps_to_target", "train_loss"}
        The rate with the smallest median is the best; of curves, the last value counts.
    **where
        part, arm, activation or blocks.
    """
    rows = result.select(**({"task": "fashion"} | where))
    rates = sorted({row["rate"] for row in rows})
    scores = [[np.ravel(row[score])[-1] for row in rows if row["rate"] == rate] for rate in rates]
    rate, inside = best_rate(rates, scores)
    return [row for row in rows if row["rate"] == rate], rate, inside


def advantage(result: Result, activation: str, task: str = "fashion") -> Estimate:
    """Return how many percentage points of test error BN before the activation saves against BN after it, by seed."""
    before, after = (
        np.array([row["test_error"] for row in chosen(result, part="order", arm=arm, activation=activation,
                                                      task=task)[0]])
        for arm in ("before", "after")
    )  # fmt: skip
    return Estimate.of(100 * (after - before), "percentage points")


def largest_rate(result: Result, arm: str, blocks: int, task: str = "fashion") -> float:
    """Return the largest rate at which most seeds end with a validation error below one half; 0 if there is none."""
    rows = result.select(part="residual", arm=arm, blocks=blocks, task=task)
    trains = [0.0]
    for rate in {row["rate"] for row in rows}:
        errors = np.array([row["validation_error"][-1] for row in rows if row["rate"] == rate], dtype=float)
        if np.median(np.nan_to_num(errors, nan=1.0)) < 0.5:
            trains.append(rate)
    return max(trains)


def verdicts(result: Result) -> list[Verdict]:
    """Judge C15 by the test errors of BN before and after the activation, for every activation and task.

    The claim *holds* if before is better in the whole interval over seeds for all of them, and *holds with conditions*
    if for some. It is *refuted* if for none, and if all intervals end below `WORTH_IT`, so that an advantage that
    matters is excluded. Otherwise it stays *open*.
    """
    tasks = sorted({row["task"] for row in result.rows})
    saved = {(task, name): advantage(result, name, task) for task in tasks for name in ACTIVATIONS}
    better = [estimate.low > 0 for estimate in saved.values()]
    excluded = all(estimate.high < WORTH_IT for estimate in saved.values())
    verdict = "holds" if all(better) else "conditions" if any(better) else "refuted" if excluded else "open"
    return [
        Verdict(
            claim="C15",
            verdict=verdict,
            number=saved[tasks[0], "relu"],
            what=f"fewer test errors with BN before ReLU than after it ({tasks[0]})",
            because="With tanh it is "
            + " and with the sigmoid ".join(f"{saved[tasks[0], name]:.1f}" for name in ("tanh", "sigmoid"))
            + ". Most networks trained well either way.",
        )
    ]


def plot(result: Result):
    """Plot the test error of every order and activation, one dot for each seed, at its best rate."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
    for ax, name, factor in ((axes[0], "test_error", 100), (axes[1], "steps_to_target", 1)):
        score = "validation_error" if name == "test_error" else name
        for k, (arm, marker, color) in enumerate(zip(ORDERS, "osX", ("C0", "C2", "C1"), strict=True)):
            for place, activation in enumerate(ACTIVATIONS):
                rows, _, _ = chosen(result, score, part="order", arm=arm, activation=activation)
                values = factor * np.array([row[name] for row in rows], dtype=float)
                label = {"before": "BN before", "after": "BN after", "no BN": "no BN"}[arm]
                ax.plot(np.full(len(values), place + 0.22 * (k - 1)), values, marker, color=color, alpha=0.8,
                        label=label if place == 0 else None)  # fmt: skip
        ax.set_xticks(range(len(ACTIVATIONS)), list(ACTIVATIONS))
    axes[0].set(ylabel="test error (%)")
    axes[1].set(ylabel=f"steps to {TARGET:.0%} error", xlabel="activation", ylim=(0, None))
    axes[0].legend(ncols=3)
    return figure


def plot_residual(result: Result):
    """Plot the training loss over the steps for every kind of block, one panel per depth, each at its best rate."""
    import matplotlib.pyplot as plt

    depths = sorted({row["blocks"] for row in result.select(part="residual")})
    figure, axes = plt.subplots(len(depths), 1, figsize=(6.4, 3.2 * len(depths)), sharex=True)
    looks = zip(BLOCKS, ("-", "--", "-.", ":"), ("C0", "C1", "C2", "C3"), strict=True)
    looks = list(looks)
    for ax, blocks in zip(np.atleast_1d(axes), depths, strict=True):
        for arm, style, color in looks:
            rows, rate, _ = chosen(result, "train_loss", part="residual", arm=arm, blocks=blocks)
            middle = np.median([row["train_loss"] for row in rows], axis=0)
            ax.plot(rows[0]["step"], middle, style, color=color, label=f"{arm} ({rate:g})")
        ax.set(ylabel="training loss", title=f"{blocks} blocks", ylim=(0.2, 2.6))
        ax.legend(title="start (best rate)")
    np.atleast_1d(axes)[-1].set_xlabel("step")
    return figure
