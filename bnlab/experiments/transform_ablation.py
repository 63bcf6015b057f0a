"""What does batch normalization lose, if one part of it is taken away? The experiment behind claims C13 and C23.

Small dense networks learn scikit-learn's digits, each with one change to the transform: without gamma, without beta,
without both (C13); with statistics that no gradient flows through; and with statistics computed once, before the first
step, as preprocessing does (C23). Three things make the comparison fair:

- A seed fixes the initial weights and the batches, so every arm starts from the same weights and sees the same data.
- Every arm gets its own best learning rate: the one with the smallest mean validation loss. The errors reported are
  those on other examples, the test set.
- Evaluation uses the statistics of the whole training set (Ioffe & Szegedy 2015, Algorithm 2), so that no running
  average takes part.

All learning rates and seeds of an arm are trained at once, as one stack of R networks with a leading axis. That is fast
for tiny networks and useless for large ones. The stack is this module's own and not a `bnlab.ensemble.Ensemble`: what
it varies is what that one takes for granted. It learns gamma without beta and beta without gamma, takes statistics for
constants or keeps those of the start in evaluation, too, and watches a validation set beside the test set.

What this isn't: a comparison with and without batch normalization (every arm normalizes), or a training library.

Shapes: R networks (learning rates x seeds, the seed varies fastest), m examples in a batch, C units in a layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict

EXPERIMENT = Experiment(
    name="transform_ablation",
    title="What is lost without gamma, without beta, or with statistics that are only preprocessing",
    claims=("C13", "C23"),
    section="sec-transform-ablation",
    fair="He initialization, the same weights and batches in every arm; plain SGD, constant rate; each arm at its own "
    "best learning rate, chosen on validation data.",
)


@dataclass(frozen=True)
class Arm:
    """One variant of the transform.

    Attributes
    ----------
    gamma, beta : bool
        Whether it is trained. If not, it stays at 1 or 0.
    statistics : {"batch", "constant", "start"}
        Where mu and var come from in training: the batch; the batch, but the gradient takes them for constants; or
        the training set before the first step, kept for good (in evaluation, too).
    """

    gamma: bool = True
    beta: bool = True
    statistics: str = "batch"


ARMS = {
    "gamma and beta": Arm(),
    "gamma only": Arm(beta=False),
    "beta only": Arm(gamma=False),
    "neither": Arm(gamma=False, beta=False),
    "statistics as constants": Arm(statistics="constant"),
    "statistics of the start": Arm(statistics="start"),
}
ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid}
LEARNING_RATES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CLASSES = 10


@dataclass(frozen=True)
class ArmResult:
    """One arm with one activation. Except for `validation_loss`, arrays are those of its best learning rate.

    Attributes
    ----------
    activation, arm : str
        Keys of `ACTIVATIONS` and `ARMS`.
    learning_rates : ndarray, shape (rates,)
    validation_loss : ndarray, shape (rates, seeds)
        Mean cross-entropy in nats after the last step; inf where training diverged.
    learning_rate : float
        The best one: its mean validation loss is the smallest.
    train_loss, test_error : ndarray, shape (seeds,)
        After the last step: mean cross-entropy in nats, and the fraction of wrong predictions.
    steps_to_target, seconds_to_target : ndarray, shape (seeds,)
        The first evaluated step at which the validation error was at or below the target (inf: never), and that number
        times the median duration of a step. A step is timed for the whole stack of R networks: compare arms, no more.
    gamma, beta : ndarray, shape (seeds, depth, C)
        After the last step.
    mean, std : ndarray, shape (seeds, depth, C)
        The mean and sqrt(var + eps) that evaluation normalizes with: those of the training set after the last step
        (before the first, in the arm that keeps them). gamma = std and beta = mean would undo the normalization.
    """

    activation: str
    arm: str
    learning_rates: np.ndarray
    validation_loss: np.ndarray
    learning_rate: float
    train_loss: np.ndarray
    test_error: np.ndarray
    steps_to_target: np.ndarray
    seconds_to_target: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def load_digits() -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Return scikit-learn's digits as three pairs (x, y): 1000 to train on, 400 for validation, 397 for testing.

    x has shape (examples, 64): gray values in [0, 1], less the training mean of each pixel. y holds classes 0 to 9. The
    split is always the same.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = torch.tensor(x[order] / 16, dtype=torch.float32)
    y = torch.tensor(y[order])
    x = x - x[:1000].mean(0)
    return tuple((x[part], y[part]) for part in (slice(0, 1000), slice(1000, 1400), slice(1400, None)))


def initial_weights(seed: int, sizes: Sequence[int]) -> list[torch.Tensor]:
    """Return He-normal weights (He et al. 2015), one matrix (inputs, outputs) for each pair of neighboring sizes."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(a, b, generator=generator) * (2 / a) ** 0.5 for a, b in pairwise(sizes)]


def batch_indices(seed: int, examples: int, steps: int, batch: int) -> torch.Tensor:
    """Return which examples every step uses, shape (steps, batch), drawn with replacement."""
    return torch.randint(examples, (steps, batch), generator=torch.Generator().manual_seed(10_000 + seed))


def run_arm(
    arm: str,
    activation: str,
    seeds: Sequence[int] = range(5),
    device: str = "cpu",
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    steps: int = 200,
    batch: int = 64,
    width: int = 16,
    depth: int = 3,
    eps: float = 1e-5,
    target: float = 0.1,
    every: int = 10,
) -> ArmResult:
    """Train one arm at every learning rate and seed, and report it at its best learning rate.

    Parameters
    ----------
    arm : str
        Key of `ARMS`.
    activation : str
        Key of `ACTIVATIONS`. It follows the normalization.
    seeds : sequence of int
    device : str
    learning_rates : sequence of float
    steps, batch : int
        Number of steps of plain gradient descent, and examples in the batch of each.
    width, depth : int
        Units in a hidden layer, and number of hidden layers. Each is weights, normalization, activation.
    eps : float
        Added to the variance, inside the root.
    target : float
        The validation error that `steps_to_target` waits for.
    every : int
        Steps between two evaluations.

    Returns
    -------
    ArmResult

    Raises
    ------
    ValueError
        If the arm or the activation is unknown.
    """
    for given, known in ((arm, ARMS), (activation, ACTIVATIONS)):
        if given not in known:
            raise ValueError(f"got {given!r}, which is unknown: choose one of {list(known)}")
    sets = [(x.to(device), y.to(device)) for x, y in load_digits()]
    x, y = sets[0]
    stack = _Stack(ARMS[arm], ACTIVATIONS[activation], x, seeds, len(learning_rates), [width] * depth, eps)
    rate = torch.tensor(learning_rates, device=device).repeat_interleave(len(seeds)).view(-1, 1, 1)
    chosen = torch.stack([batch_indices(seed, len(x), steps, batch) for seed in seeds])
    chosen = chosen.repeat(len(learning_rates), 1, 1).to(device)  # (R, steps, batch)

    reached = torch.full((stack.runs,), torch.inf)
    seconds = []
    for step in range(1, steps + 1):
        start = perf_counter()
        now = chosen[:, step - 1]
        stack.descend(x[now], y[now], rate)
        seconds.append(perf_counter() - start)
        if step % every == 0 or step == steps:
            scores, statistics = stack.evaluate(sets if step == steps else sets[:2])
            hit = scores[1][1].cpu() <= target
            reached[hit] = reached[hit].clamp(max=step)

    def by_rate(values):  # (R, ...) -> (rates, seeds, ...)
        return values.detach().cpu().double().numpy().reshape(len(learning_rates), len(seeds), *values.shape[1:])

    (train_loss, _), (validation_loss, _), (_, test_error) = scores
    validation_loss = np.nan_to_num(by_rate(validation_loss), nan=np.inf)
    best = int(validation_loss.mean(axis=1).argmin())
    steps_to_target = by_rate(reached)[best]
    mu, var = zip(*statistics, strict=True)
    layers = {name: by_rate(torch.cat(each, 1))[best] for name, each in (("mean", mu), ("var", var))}
    return ArmResult(
        activation=activation,
        arm=arm,
        learning_rates=np.array(learning_rates),
        validation_loss=validation_loss,
        learning_rate=float(learning_rates[best]),
        train_loss=by_rate(train_loss)[best],
        test_error=by_rate(test_error)[best],
        steps_to_target=steps_to_target,
        seconds_to_target=steps_to_target * np.median(seconds),
        gamma=by_rate(torch.cat(stack.gamma, 1))[best],
        beta=by_rate(torch.cat(stack.beta, 1))[best],
        mean=layers["mean"],
        std=np.sqrt(layers["var"] + eps),
    )


def run_arms(
    seeds: Sequence[int] = range(5),
    device: str = "cpu",
    *,
    arms: Iterable[str] = ARMS,
    activations: Iterable[str] = ACTIVATIONS,
    **options,
) -> dict[tuple[str, str], ArmResult]:
    """Run arms with activations, by default every arm with every activation.

    Parameters
    ----------
    seeds : sequence of int
    device : str
    arms, activations : iterable of str
        Keys of `ARMS` and of `ACTIVATIONS`.
    **options
        Passed on to `run_arm`.

    Returns
    -------
    dict
        (activation, arm) -> ArmResult, as in ``result["relu", "gamma only"].test_error.mean()``.
    """
    return {
        (activation, arm): run_arm(arm, activation, seeds, device, **options)
        for activation in activations
        for arm in arms
    }


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Train every arm: gamma and beta with three hidden layers and both activations, statistics with six and ReLU."""
    steps = 200 if budget == "small" else 1000
    affine, statistics = list(ARMS)[:4], ["gamma and beta", *list(ARMS)[4:]]
    units = [{"arm": arm, "activation": name, "depth": 3} for name in ACTIVATIONS for arm in affine]
    units += [{"arm": arm, "activation": "relu", "depth": 6} for arm in statistics]
    # down to where the last arm, preprocessed once, still trains: deep nets without moving statistics need small rates
    grid = (0.015625, 0.03125, *LEARNING_RATES)

    def rows(unit):
        outcome = run_arm(
            unit["arm"], unit["activation"], seeds, device, learning_rates=grid, depth=unit["depth"], steps=steps
        )
        for k, seed in enumerate(seeds):
            yield {
                "seed": seed,
                "learning_rate": outcome.learning_rate,
                "inside": grid[0] < outcome.learning_rate < grid[-1],
                "train_loss": outcome.train_loss[k],
                "test_error": outcome.test_error[k],
                "steps": outcome.steps_to_target[k],
                "seconds": outcome.seconds_to_target[k],
                # how far gamma is from what would undo the normalization, as a ratio
                "gamma_over_std": float(np.median(outcome.gamma[k] / outcome.std[k])),
            }

    settings = {"learning_rates": grid, "steps": steps, "batch": 64, "width": 16, "target_error": 0.1}
    return conduct(
        EXPERIMENT, units, rows, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def plot(result: Result):
    """Draw the training loss of the four affine arms, one dot per seed, for both activations."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(6.4, 5.6), sharex=True)
    for ax, activation in zip(axes, ACTIVATIONS, strict=True):
        for k, arm in enumerate(list(ARMS)[:4]):
            loss = result.column("train_loss", arm=arm, activation=activation, depth=3)
            ax.plot(k + np.linspace(-0.15, 0.15, len(loss)), loss, "o", color="C0")
            ax.hlines(np.median(loss), k - 0.3, k + 0.3, color="black")
        ax.set(title=activation, ylabel="training loss", ylim=(0, None))
    axes[1].set_xticks(range(4), list(ARMS)[:4])
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C13 by the training loss without gamma and beta, C23 by the steps with statistics of the start.

    C13 holds if both activations train to a higher loss without the two (the whole interval of the paired ratio above
    one), with conditions if one of them does, and is refuted if neither does. C23, that the transform is no more than
    preprocessing, holds if a network that is preprocessed once reaches the target in as many steps (the interval of the
    ratio contains one), with conditions if it needs more but gets there, and is refuted if most seeds never do.
    """
    ratio = {}
    for activation in ACTIVATIONS:
        full, neither = (
            result.column("train_loss", arm=arm, activation=activation, depth=3)
            for arm in ("gamma and beta", "neither")
        )
        ratio[activation] = Estimate.of(neither / full)
    worse = [name for name, factor in ratio.items() if factor.low > 1]
    c13 = Verdict(
        "C13",
        {2: "holds", 1: "conditions", 0: "refuted"}[len(worse)],
        ratio["sigmoid"],
        "times the training loss of sigmoid networks without gamma and beta",
        f"In ReLU networks the factor is {ratio['relu']}. For fixed statistics the identity is exact.",
    )
    full, start = (
        result.column("steps", arm=arm, activation="relu", depth=6)
        for arm in ("gamma and beta", "statistics of the start")
    )
    steps = Estimate.of(start / full)
    verdict = "refuted" if np.isinf(steps.median) else "conditions" if steps.low > 1 else "holds"
    c23 = Verdict(
        "C23",
        verdict,
        steps,
        "times as many steps if the statistics are only preprocessing",
        "In evaluation the analogy is exact; in training, statistics move, gradients flow through them and examples of "
        "a batch depend on each other.",
    )
    return [c13, c23]


class _Stack:
    """R networks of one arm: their parameters, one step, one evaluation."""

    def __init__(self, arm, activation, x, seeds, rates, widths, eps):
        self.arm, self.activation, self.eps, self.runs = arm, activation, eps, rates * len(seeds)
        sizes, device = [x.shape[1], *widths, CLASSES], x.device
        per_seed = [initial_weights(seed, sizes) for seed in seeds]
        self.weights = [torch.stack(layer).repeat(rates, 1, 1).to(device) for layer in zip(*per_seed, strict=True)]
        self.gamma = [torch.ones(self.runs, 1, width, device=device) for width in widths]
        self.beta = [torch.zeros(self.runs, 1, width, device=device) for width in widths]
        self.bias = torch.zeros(self.runs, 1, CLASSES, device=device)
        _, self.start = self.forward(x.expand(self.runs, -1, -1))
        self.parameters = [*self.weights, self.bias]
        self.parameters += self.gamma if arm.gamma else []
        self.parameters += self.beta if arm.beta else []
        for parameter in self.parameters:
            parameter.requires_grad_()

    def forward(self, x, statistics=None):
        """Map x (R, m, inputs) to logits (R, m, classes) and the (mu, var) that normalized each hidden layer.

        They come from x, unless `statistics` gives them.
        """
        used = []
        for layer, weight in enumerate(self.weights[:-1]):
            z = torch.bmm(x, weight)
            if statistics is None:
                source = z.detach() if self.arm.statistics == "constant" else z
                mu = source.mean(dim=1, keepdim=True)
                var = (source - mu).square().mean(dim=1, keepdim=True)  # several times faster than torch.var_mean here
            else:
                mu, var = statistics[layer]
            used.append((mu, var))
            z = (z - mu) * torch.rsqrt(var + self.eps)
            # multiplying by 1 and adding 0 would change nothing but the time that the arm takes
            if self.arm.gamma:
                z = z * self.gamma[layer]
            if self.arm.beta:
                z = z + self.beta[layer]
            x = self.activation(z)
        return torch.bmm(x, self.weights[-1]) + self.bias, used

    def fixed(self):
        """The statistics that every forward pass has to use, or None if they come from the data."""
        return self.start if self.arm.statistics == "start" else None

    def descend(self, x, y, rate):
        """Take one step of gradient descent, with a learning rate for each network."""
        # The networks share no parameter, so the gradient of the sum of losses is each network's own gradient.
        logits, _ = self.forward(x, self.fixed())
        gradients = torch.autograd.grad(_loss(logits, y).sum(), self.parameters)
        with torch.no_grad():
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter -= rate * gradient

    @torch.no_grad()
    def evaluate(self, sets):
        """Return (loss, error) on each set, shape (R,) each, and the statistics of the first, which all of them use."""
        statistics, scores = self.fixed(), []
        for x, y in sets:
            y = y.expand(self.runs, -1)
            logits, statistics = self.forward(x.expand(self.runs, -1, -1), statistics)
            scores.append((_loss(logits, y), (logits.argmax(-1) != y).float().mean(1)))
        return scores, statistics


def _loss(logits, y):
    """Mean cross-entropy of each network, shape (R,)."""
    return F.cross_entropy(logits.transpose(1, 2), y, reduction="none").mean(1)
