"""Does training VGG with batch normalization from the start give a better network? The experiment behind claim C19.

A small VGG (three pairs of convolutions) learns clothes from Fashion-MNIST with and without batch normalization: same
initial weights, same batches, each arm at its own best learning rate. The rate is chosen with seeds and validation
images of its own, so those that are reported had no say in it. The published numbers for ImageNet stand in the chapter,
with their source.

What this isn't: ImageNet, or a claim about networks without BN that are built and tuned for it (NF-nets, Fixup).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from bnlab.datasets import Dataset, fashion
from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict
from bnlab.models import small_vgg
from bnlab.training import seeded, sgd, train

EXPERIMENT = Experiment(
    name="vgg_from_scratch",
    title="A small VGG on clothes, trained with and without batch normalization from the start",
    claims=("C19",),
    section="sec-vgg-scratch",
    fair="He initialization (fan_out) and the same batches in both arms; SGD with momentum 0.9 and a cosine schedule, "
    "no weight decay; each arm at the best of its rates, chosen with two other seeds on validation images.",
)
ARMS = {"plain": None, "bn": nn.BatchNorm2d}
TUNING_SEEDS = (1001, 1002)
SIZES = {
    # images, pixels a side, channels of the first pair, steps, batch, steps between evaluations, learning rates
    "small": {"n": 2000, "side": 14, "width": 8, "steps": 120, "batch": 50, "every": 15},
    "full": {"n": 10_000, "side": 28, "width": 12, "steps": 500, "batch": 100, "every": 25},
}
LEARNING_RATES = {"plain": (0.003, 0.01, 0.03, 0.1, 0.3), "bn": (0.01, 0.03, 0.1, 0.3, 1.0)}
TARGET = 0.3  # test error


@lru_cache(maxsize=4)
def clothes(n: int, side: int, part: str = "test") -> Dataset:
    """Return n images of clothes to train on and a thousand others, averaged to `side` pixels (28 or 14).

    `part` says which others: those for "validation", with which learning rates are chosen, or those for the "test". All
    are standardized by the training set's mean and standard deviation.
    """
    data = fashion(n_train=n, n_test=2000)
    others = slice(0, 1000) if part == "validation" else slice(1000, 2000)
    images = data.x_train, data.x_test[others]
    x_train, x_test = (torch.nn.functional.avg_pool2d(torch.tensor(x), 28 // side).numpy() for x in images)
    mean, std = x_train.mean(), x_train.std()
    labels = data.y_test[others]
    return Dataset((x_train - mean) / std, data.y_train, (x_test - mean) / std, labels, data.classes)


def cosine(progress: float) -> float:
    """Return the factor of half a cosine, from 1 to 0: Loshchilov and Hutter (2017), equation 5."""
    return 0.5 * (1 + np.cos(np.pi * progress))


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Tune both arms, then train each with every seed; full: 28x28 images, all 10,000, 500 steps."""
    size = SIZES.get(budget, SIZES["small"])

    def fit(unit, rate, seed, part="test"):
        data = clothes(size["n"], size["side"], part)
        model = seeded(seed, lambda: small_vgg(ARMS[unit["arm"]], size["width"], size=size["side"])).to(device)
        return train(
            model,
            data,
            sgd(model, rate),
            steps=size["steps"],
            batch_size=size["batch"],
            seed=seed,
            every=size["every"] if part == "test" else None,
            schedule=cosine,
        )

    tuned = {}

    def measure(unit):
        if "rate" in unit:
            losses = [fit(unit, unit["rate"], seed, "validation").test_loss[-1] for seed in TUNING_SEEDS]
            return {"tuning_loss": float(np.mean(losses))}
        history = fit(unit, tuned[unit["arm"]], unit["seed"])
        return {
            "learning_rate": tuned[unit["arm"]],
            "steps": history.steps.tolist(),
            "test_error": history.test_error.tolist(),
            "final_error": history.test_error[-1],
            "train_loss": float(history.train_loss[-10:].mean()),
            "steps_to_target": history.steps_to(TARGET),
            "seconds_to_target": history.seconds_to(TARGET),
            "seconds": history.seconds[-1],
        }

    options = {"seeds": seeds, "device": device, "budget": budget}
    settings = size | {"learning_rates": LEARNING_RATES, "tuning_seeds": TUNING_SEEDS, "target_error": TARGET}
    journal = journal or Journal()
    sweep = [{"arm": arm, "rate": rate} for arm in ARMS for rate in LEARNING_RATES[arm]]
    losses = conduct(EXPERIMENT, sweep, measure, journal=journal, settings=settings, **options)
    for arm in ARMS:
        row = min(losses.select(arm=arm), key=lambda row: np.nan_to_num(row["tuning_loss"], nan=np.inf))
        tuned[arm] = row["rate"]
    units = sweep + [{"arm": arm, "seed": seed} for seed in seeds for arm in ARMS]
    return conduct(EXPERIMENT, units, measure, journal=journal, settings=settings, **options)


def finals(result: Result, column: str, arm: str) -> np.ndarray:
    """Return a column of the reported runs (not of the tuning) of an arm, in the order of the seeds."""
    return np.array([row[column] for row in result.select(arm=arm) if "seed" in row])


def plot(result: Result):
    """Draw the test error against the step: a line per seed, the median thick."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    for arm, color, style, name in (("plain", "C1", "--", "VGG"), ("bn", "C0", "-", "VGG with BN")):
        steps, errors = finals(result, "steps", arm)[0], finals(result, "test_error", arm)
        ax.plot(steps, 100 * errors.T, style, color=color, lw=0.8, alpha=0.5)
        ax.plot(steps, 100 * np.median(errors, axis=0), style, color=color, lw=2.5, label=name)
    ax.set(xlabel="step", ylabel="test error in %", ylim=(0, None))
    ax.legend()
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C19 by the final test error, plain minus BN, seed by seed.

    It holds if the whole interval is above zero, with conditions if the median is, and is refuted otherwise.
    """
    gain = Estimate.of(100 * (finals(result, "final_error", "plain") - finals(result, "final_error", "bn")), "points")
    verdict = "holds" if gain.low > 0 else "conditions" if gain.median > 0 else "refuted"
    plain, bn = (Estimate.of(100 * finals(result, "final_error", arm), "%") for arm in ARMS)
    what = "less test error with BN in a small VGG on clothes"
    return [Verdict("C19", verdict, gain, what, f"Without BN the error is {plain}, with it {bn}.")]
