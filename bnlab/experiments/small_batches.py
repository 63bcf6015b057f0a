"""How small may a batch be? Batch normalization and its relatives on batches of 2 to 128 examples.

Small dense networks learn scikit-learn's digits: without normalization, with batch normalization, ghost batch
normalization, batch renormalization, group and layer normalization. A second part takes networks that were trained with
batch normalization on batches of 32 and fine-tunes them on another task, digits turned by 90 degrees, with batch
statistics or with frozen ones. What makes the comparison fair:

- All see the same number of examples, in the same order: a batch of 2 means 64 times as many steps as one of 128.
- Every arm gets its own best learning rate at every batch size, chosen on validation data; errors are those on other
  examples, the test set. Rates decay linearly to zero, so that no arm ends on the noise of its last steps.
- Running averages go over about `MEMORY` examples however small the batch, as a careful user would set their momentum.
  Besides, batch normalization is evaluated with the statistics of the whole training set, and as it was trained, on
  batches of test examples; each of these ways has its own best learning rate.
- The layers are dense, so nothing but the examples of a batch supplies their statistics. A convolutional layer has
  its positions too: on 8x8 images it would hardly show the problem.

What this isn't: evidence on large convolutional networks. For those the chapter cites published numbers.

Shapes: R networks (learning rates x seeds, the seed varies fastest), m examples in a batch, C units of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from bnlab.datasets import Dataset, digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.relatives import RenormSchedule, batch_renorm

EXPERIMENT = Experiment(
    name="small_batches",
    title="Batch normalization and its relatives on small batches",
    claims=(),
    section="sec-relatives-experiment",
    fair="He initialization, plain SGD, rates that decay linearly to zero, equal numbers of examples seen; for every "
    "arm and batch size the best of at least six learning rates, chosen on validation data.",
)


@dataclass(frozen=True)
class Arm:
    """What a network normalizes with in training.

    Attributes
    ----------
    groups : int or None
        The groups into which the units of one example are divided; None normalizes over examples.
    ghost : int or None
        Examples in a ghost batch; None takes the whole batch.
    renorm : bool
        Whether the batch statistics are corrected toward the running ones (Ioffe 2017).
    frozen : bool
        Whether the running statistics, gamma and beta stay as they are, in training too.
    """

    groups: int | None = None
    ghost: int | None = None
    renorm: bool = False
    frozen: bool = False


GHOST = 8
ARMS = {
    "none": None,
    "batch": Arm(),
    "ghost": Arm(ghost=GHOST),
    "renorm": Arm(renorm=True),
    "group": Arm(groups=4),
    "layer": Arm(groups=1),
}
FINE_TUNING = {"batch": Arm(), "frozen": Arm(frozen=True)}
LABELS = {
    "none": "no normalization",
    "batch": "batch norm",
    "ghost": f"ghost, {GHOST} examples",
    "renorm": "batch renorm",
    "group": "group norm",
    "layer": "layer norm",
    "frozen": "frozen batch norm",
}
LOOKS = {
    "none": "k:",
    "batch": "C1o-",
    "ghost": "C1s--",
    "renorm": "C3D-",
    "group": "C2^-",
    "layer": "C0v-",
    "frozen": "C0s-",
}
EVALUATIONS = {
    "running": "running statistics",
    "everything": "the whole training set's",
    "batch": "the batch's, as in training",
}
BATCHES = {"scratch": (2, 4, 8, 16, 32, 128), "fine-tuning": (2, 4, 8, 32)}
EXAMPLES = {"small": {"scratch": 2_560, "fine-tuning": 1_280}, "full": {"scratch": 12_800, "fine-tuning": 3_200}}
RATES = {"small": tuple(2.0**k for k in range(-7, 4, 2)), "full": tuple(2.0**k for k in range(-9, 5))}
SIZES, EPS, MEMORY, VALIDATION = (64, 16, 16, 16, 10), 1e-5, 256, 400


class Networks(Ensemble):
    """An ensemble whose hidden layers normalize as an `Arm` says.

    Parameters
    ----------
    arm : Arm or None
    seeds, device
        See `bnlab.ensemble.Ensemble`.
    batch : int
        Examples in a training batch.
    steps : int
        Of the whole training: batch renormalization widens its bounds from 10 to 50 percent of them.

    Attributes
    ----------
    step : int
        The present one.
    source : {"running", "everything", "batch"}
        A key of `EVALUATIONS`: what evaluation normalizes with, where the arm normalizes over examples.
    """

    def __init__(self, arm, seeds, *, batch, steps, device="cpu"):
        super().__init__(SIZES, seeds, norm=None if arm is None else BatchNorm(EPS), device=device)
        self.arm, self.batch, self.step, self.source = arm, batch, 0, "running"
        self.momentum = min(0.1, batch / MEMORY)
        self.schedule = RenormSchedule(start=steps // 10, r_end=steps // 2, d_end=steps // 2)
        self.running = [self._fresh(c) for c in SIZES[1:-1]]

    @property
    def parameters(self):
        if self.arm is not None and self.arm.frozen:
            return [*self.weights, self.biases[-1]]
        return super().parameters

    def calibrate(self, x):
        """Take the statistics of the whole training set, layer after layer."""
        self.population = [self._fresh(c) for c in SIZES[1:-1]]
        source, self.source = self.source, "calibrating"
        with torch.no_grad():
            self.forward(x, training=False)
        self.source = source

    def copy_from(self, other):
        """Start from the networks of another ensemble: the one with the same seed, weights and statistics."""
        chosen = torch.tensor([other.seeds.index(seed) for seed in self.seeds], device=self.device)
        with torch.no_grad():
            for ours, theirs in zip(Ensemble.parameters.fget(self), Ensemble.parameters.fget(other), strict=True):
                ours.copy_(theirs[chosen])
            for ours, theirs in zip(self.running, other.running, strict=True):
                for to, values in zip(ours, theirs, strict=True):
                    to.copy_(values.view(len(other.seeds), -1)[chosen].flatten())

    def _fresh(self, units):
        """Mean 0 and variance 1 for the units of all networks."""
        units *= len(self.seeds)
        return torch.zeros(units, device=self.device), torch.ones(units, device=self.device)

    def _normalized(self, z, layer, training):
        if self.arm is None:
            return z
        runs, m, units = z.shape
        if self.arm.groups is not None:
            x_hat = F.group_norm(z.reshape(-1, units), self.arm.groups, eps=EPS).view_as(z)
            return x_hat * self.gamma[layer] + self.beta[layer]
        # The units of all networks side by side, (m, R * C), are what a batch normalization layer takes.
        columns = z.transpose(0, 1).reshape(m, -1)
        y = self._over_examples(columns, layer, training, self.gamma[layer].flatten(), self.beta[layer].flatten())
        return y.view(m, runs, units).transpose(0, 1)

    def _over_examples(self, x, layer, training, gamma, beta):
        running = self.running[layer]
        training = training and not self.arm.frozen
        size = min(self.arm.ghost or self.batch, self.batch)
        if training and self.arm.renorm:
            r_max, d_max = self.schedule(self.step)
            return batch_renorm(x, *running, gamma, beta, self.momentum, EPS, r_max=r_max, d_max=d_max)
        if training and size == self.batch:
            return F.batch_norm(x, *running, gamma, beta, True, self.momentum, EPS)
        if training or self.source == "batch":
            return self._by_parts(x, size, running if training else None, gamma, beta)
        if self.source == "calibrating":
            return F.batch_norm(x, *self.population[layer], gamma, beta, True, 1.0, EPS)
        stored = self.population[layer] if self.source == "everything" else running
        return F.batch_norm(x, *stored, gamma, beta, False, 0.0, EPS)

    def _by_parts(self, x, size, running, gamma, beta):
        """Normalize every `size` examples on their own: parts side by side, (size, parts * R * C)."""
        parts = len(x) // size
        side = x.view(parts, size, -1).transpose(0, 1).reshape(size, -1)
        gamma, beta, *copies = (v.repeat(parts) for v in (gamma, beta, *(running or ())))
        y = F.batch_norm(side, *(copies or (None, None)), gamma, beta, True, self.momentum, EPS)
        for v, copy in zip(running or (), copies, strict=True):
            v.copy_(copy.view(parts, -1).mean(0))
        return y.view(size, parts, -1).transpose(0, 1).reshape(x.shape)


def load(part: str = "scratch") -> tuple[Dataset, Dataset]:
    """Return the digits, once with validation images as the test set and once with the real one.

    Parameters
    ----------
    part : {"scratch", "fine-tuning"}
        For fine-tuning, all images are turned by 90 degrees.

    Returns
    -------
    tuple of Dataset
        x of shape (examples, 64), less the training mean of each pixel. The same 1,042 training images in both.
    """
    data = digits()
    turn = (lambda x: np.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64)) if part == "fine-tuning" else np.array
    order = np.random.default_rng(0).permutation(len(data.x_train))
    held_out, kept = order[:VALIDATION], order[VALIDATION:]
    mean = data.x_train[kept].mean(0)

    def dataset(x_test, y_test):
        return Dataset(turn(data.x_train[kept] - mean), data.y_train[kept], turn(x_test - mean), y_test, data.classes)

    return dataset(data.x_train[held_out], data.y_train[held_out]), dataset(data.x_test, data.y_test)


def train(networks: Networks, data: Dataset, learning_rates: Sequence[float], examples: int):
    """Train until each network has seen `examples` examples; return what `bnlab.ensemble.fit` does."""
    steps = examples // networks.batch

    def on_step(step, _):
        networks.step = step + 1

    return fit(
        networks,
        data,
        learning_rates,
        steps=steps,
        batch_size=networks.batch,
        every=steps,
        schedule=lambda progress: 1 - progress,
        on_step=on_step,
    )


def errors(networks: Networks, data: Dataset) -> np.ndarray:
    """Return the fraction of wrong predictions on the test set for each network, shape (R,)."""
    count = len(data.x_test)
    if networks.source == "batch":
        count -= count % networks.batch
    x, y = (torch.as_tensor(a[:count]).to(networks.device) for a in (data.x_test, data.y_test))
    with torch.no_grad():
        return (networks(x, training=False).argmax(-1) != y).double().mean(1).cpu().numpy()


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Measure test errors for every arm and batch size.

    One row for each part, arm, batch, evaluation and seed: `error` (fraction of the test set) at the best learning
    `rate`; `inside`, whether that rate lies within the grid; `validation`, the median validation error at each rate;
    `steps`; `seconds_per_step` for the ensemble of all rates and seeds.
    """
    seeds = list(seeds)
    units = [
        {"part": part, "arm": arm, "batch": batch}
        for part, arms in (("scratch", ARMS), ("fine-tuning", FINE_TUNING))
        for batch in BATCHES[part]
        for arm in arms
        if arm != "ghost" or batch > GHOST  # a smaller batch is one ghost batch: batch normalization
    ]
    data = {part: load(part) for part in BATCHES}
    trained = []  # what fine-tuning starts from, once it is needed

    def measure(unit):
        part, batch = unit["part"], unit["batch"]
        arm = (ARMS if part == "scratch" else FINE_TUNING)[unit["arm"]]
        rates, examples = RATES[budget], EXAMPLES[budget][part]
        networks = Networks(arm, seeds * len(rates), batch=batch, steps=examples // batch, device=device)
        if part == "fine-tuning":
            if not trained:
                trained.append(_trained(seeds, device, data["scratch"][0], EXAMPLES[budget]["scratch"]))
            networks.copy_from(trained[0])
        history = train(networks, data[part][0], np.repeat(rates, len(seeds)), examples)
        rows = []
        for networks.source in EVALUATIONS if part == "scratch" and unit["arm"] == "batch" else ("running",):
            validation, test = (errors(networks, d).reshape(len(rates), -1) for d in data[part])
            rate, inside = best_rate(rates, validation)
            for seed, error in zip(seeds, test[rates.index(rate)], strict=True):
                rows.append({
                    "evaluation": networks.source, "seed": seed, "error": error, "rate": rate, "inside": inside,
                    "validation": np.median(validation, axis=1), "steps": examples // batch,
                    "seconds_per_step": history.seconds_per_step,
                })  # fmt: skip
        return rows

    settings = {"sizes": SIZES, "rates": RATES[budget], "examples": EXAMPLES[budget], "memory": MEMORY, "ghost": GHOST}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _trained(seeds, device, data, examples, batch=32, rate=0.5):
    networks = Networks(ARMS["batch"], seeds, batch=batch, steps=examples // batch, device=device)
    train(networks, data, [rate] * len(seeds), examples)
    return networks


def estimate(result: Result, arm: str, batch: int, evaluation: str = "running", part: str = "scratch") -> Estimate:
    """Return the test error in percent, with its spread over seeds."""
    return Estimate.of(100 * result.column("error", part=part, arm=arm, batch=batch, evaluation=evaluation), "%")


def verdicts(result: Result) -> list[Verdict]:
    """Return no verdict: this experiment judges none of the numbered claims."""
    return []


def plot(result: Result):
    """Draw test error against batch size for every arm."""
    return _lines(result, "scratch", [(arm, "running", LABELS[arm], LOOKS[arm]) for arm in ARMS])


def plot_evaluations(result: Result):
    """Draw test error against batch size for batch normalization, evaluated in three ways."""
    looks = ("C1o-", "C0s--", "C2^:")
    series = [("batch", how, label, look) for (how, label), look in zip(EVALUATIONS.items(), looks, strict=True)]
    return _lines(result, "scratch", series, title="evaluated with")


def plot_fine_tuning(result: Result):
    """Draw test error against batch size after fine-tuning, with batch statistics and with frozen ones."""
    return _lines(result, "fine-tuning", [(arm, "running", LABELS[arm], LOOKS[arm]) for arm in FINE_TUNING])


def _lines(result, part, series, title=None):
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 4.6))
    for k, (arm, evaluation, label, look) in enumerate(series):
        batches = [batch for batch in BATCHES[part] if result.select(part=part, arm=arm, batch=batch)]
        spread = [estimate(result, arm, batch, evaluation, part) for batch in batches]
        middle, low, high = (np.array([getattr(e, name) for e in spread]) for name in ("median", "low", "high"))
        aside = np.array(batches) * 2 ** (0.05 * (k - (len(series) - 1) / 2))  # so that bars don't hide each other
        ax.errorbar(aside, middle, yerr=[middle - low, high - middle], fmt=look, elinewidth=0.9, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(BATCHES[part], BATCHES[part])
    ticks = [t for t in (2, 3, 5, 10, 20, 50, 90) if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]]
    ax.set_yticks(ticks, ticks)
    ax.minorticks_off()
    ax.set(xlabel="batch size", ylabel="test error in percent")
    ax.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
