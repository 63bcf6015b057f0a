"""Does batch normalization prevent overfitting? The experiment behind claim C18.

Overfitting is measured in three ways, with and without BN:

- Random labels (Zhang et al. 2017): there is nothing to learn but the answers by heart. A method that prevents
  overfitting would refuse. How many steps does it take until the training error is zero?
- A quarter of the labels replaced by random ones: what do the networks lose on clean test images by fitting them?
- True labels and few images: how large is the gap between test and training, at *the same training loss* in both arms?
  Comparing after the same number of steps instead would compare networks that have fitted to different degrees.

Every seed draws its own images, weights and labels. What this isn't: the part of the noise (`batch_noise`), or a
statement about networks that see each image once.

Source: Zhang, Bengio, Hardt, Recht and Vinyals (2017), Understanding deep learning requires rethinking generalization,
sections 2 and 3.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.batch_noise import scarce, test_scores

EXPERIMENT = Experiment(
    name="memorization",
    title="Learning random labels by heart, with and without BN",
    claims=("C18",),
    section="sec-regularization-overfitting",
    fair="He initialization and plain SGD at a constant rate with batches of 32, the same ones in both arms; each at "
    "its own best rate: the fewest steps for random labels, the lowest validation loss at the same training loss else.",
)

ARMS = ("no BN", "BN")
WIDTH = 64
BATCH = 32
EVERY = 20
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
MATCHED = 0.05  # the training loss, in nats, at which the arms are compared
BUDGETS = {
    "small": {"steps": 640, "memorize": 128, "sizes": (64, 256), "noisy": 256, "tasks": ("fashion",)},
    "full": {"steps": 4000, "memorize": 1024, "sizes": (64, 256, 1024), "noisy": 1024, "tasks": ("fashion", "mnist1d")},
}


def run(seeds: Sequence[int] = range(5), device: str = "cpu", budget: str = "small", *, journal=None) -> Result:
    """Train with random, partly random and true labels.

    Rows: task, labels ("random", "quarter random" or "true"), examples, arm, seed, rate, and lists over the
    evaluations: step, train_loss, train_error and, unless labels are random, validation_loss, test_loss, test_error.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    kinds = [("random", plan["memorize"]), ("quarter random", plan["noisy"])]
    kinds += [("true", examples) for examples in plan["sizes"]]
    units = [
        {"task": task, "labels": labels, "examples": examples, "arm": arm, "seed": seed}
        for task in plan["tasks"]
        for labels, examples in kinds
        for arm in ARMS
        for seed in seeds
    ]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: train(**unit, steps=plan["steps"], device=device),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={**plan, "rates": RATES, "width": WIDTH, "batch": BATCH, "matched": MATCHED},
        journal=journal,
    )


def train(task: str, labels: str, examples: int, arm: str, seed: int, steps: int, device: str = "cpu") -> list[dict]:
    """Train one arm at all learning rates; return one row for each."""
    data, x_test, y_test = scarce(task, examples, seed)
    data = data._replace(y_train=relabel(data.y_train, labels, len(data.classes), seed))
    sizes = [data.x_train.shape[1], WIDTH, WIDTH, len(data.classes)]
    ensemble = Ensemble(sizes, [seed] * len(RATES), norm=BatchNorm() if arm == "BN" else None, device=device)
    sets = {"train": (data.x_train, data.y_train), "validation": (data.x_test, data.y_test), "test": (x_test, y_test)}
    # on other images a network that learned random labels is as good as a guess: nothing to evaluate
    names = ("train",) if labels == "random" else tuple(sets)
    sets = {name: tuple(map(torch.as_tensor, sets[name])) for name in names}
    curves = {"step": []} | {f"{name}_{score}": [] for name in sets for score in ("loss", "error")}

    def evaluate(step, gradients=None):
        if step % EVERY and step < steps:
            return
        ensemble.calibrate(sets["train"][0].to(device))
        curves["step"].append(step)
        for name, pair in sets.items():
            for score, values in zip(("loss", "error"), test_scores(ensemble, *pair), strict=True):
                curves[f"{name}_{score}"].append(values)

    fit(ensemble, data, RATES, steps=steps, batch_size=BATCH, every=steps, on_step=evaluate)
    evaluate(steps)
    return [
        {"rate": rate, "step": curves["step"]}
        | {name: np.array(values)[:, k] for name, values in curves.items() if name not in ("step", "validation_error")}
        for k, rate in enumerate(RATES)
    ]


def relabel(y: np.ndarray, labels: str, classes: int, seed: int) -> np.ndarray:
    """Return y, with all or a quarter of its labels drawn anew at random.

    Parameters
    ----------
    y : ndarray of int, shape (m,)
    labels : {"true", "quarter random", "random"}
    classes, seed : int
    """
    share = {"true": 0.0, "quarter random": 0.25, "random": 1.0}[labels]
    rng = np.random.default_rng(40_000 + seed)
    y = y.copy()
    replaced = rng.permutation(len(y))[: round(share * len(y))]
    y[replaced] = rng.integers(classes, size=len(replaced))
    return y


def steps_to_memorize(result: Result, arm: str, task: str = "fashion") -> tuple[np.ndarray, float, bool]:
    """Return the first evaluated step without a training error, one per seed (infinite: never), at the best rate.

    Also the rate, and whether it lies inside the grid.
    """
    rows = result.select(task=task, labels="random", arm=arm)
    rates = sorted({row["rate"] for row in rows})
    steps = [[_first(row["step"], np.array(row["train_error"]) == 0) for row in rows if row["rate"] == rate]
             for rate in rates]  # fmt: skip
    rate, inside = best_rate(rates, steps)
    return np.array(steps[rates.index(rate)]), rate, inside


def matched(result: Result, arm: str, examples: int, labels: str = "true", task: str = "fashion") -> dict:
    """Return test scores at the first evaluation with a training loss of at most `MATCHED`, one per seed.

    The rate is the one with the lowest mean validation loss there. A network that never gets there has NaN.

    Returns
    -------
    dict
        rate, inside, and arrays of one entry per seed: test_loss, test_error, train_loss, step.
    """
    rows = result.select(task=task, labels=labels, examples=examples, arm=arm)
    rates = sorted({row["rate"] for row in rows})
    measured = ("validation_loss", "test_loss", "test_error", "train_loss", "step")
    found = {rate: {name: [] for name in measured} for rate in rates}
    for row in rows:
        reached = np.flatnonzero(np.array(row["train_loss"], dtype=float) <= MATCHED)
        for name in measured:
            found[row["rate"]][name].append(row[name][reached[0]] if len(reached) else np.nan)
    scores = [np.nan_to_num(np.mean(found[rate]["validation_loss"]), nan=np.inf) for rate in rates]
    best = int(np.argmin(scores))
    return {
        "rate": rates[best],
        "inside": bool(0 < best < len(rates) - 1),
        **{name: np.array(found[rates[best]][name], dtype=float) for name in measured},
    }


def gap(result: Result, examples: int, score: str = "loss", labels: str = "true", task: str = "fashion") -> Estimate:
    """Return how much lower a test score is with BN than without at the same training loss, seed by seed.

    In nats for the loss, in percentage points for the error.
    """
    without, with_bn = (matched(result, arm, examples, labels, task)[f"test_{score}"] for arm in ARMS)
    factor, unit = (1, "nats") if score == "loss" else (100, "percentage points")
    return Estimate.of(factor * (without - with_bn), unit)


def verdicts(result: Result) -> list[Verdict]:
    """Judge C18.

    If networks with BN don't reach a training error of zero on random labels in most runs, the claim *holds*. If they
    do, BN doesn't prevent overfitting as such. The claim then *holds with conditions* if, with true labels, test loss
    and test error at the same training loss are both lower with BN, in the whole interval, for every task and size. It
    is *refuted* if not.
    """
    tasks = sorted({row["task"] for row in result.rows})
    steps = {arm: steps_to_memorize(result, arm, tasks[0])[0] for arm in ARMS}
    learned = Estimate.of(steps["BN"], "steps")
    sizes = sorted({row["examples"] for row in result.select(labels="true")})
    gaps = [gap(result, examples, "loss", task=task) for task in tasks for examples in sizes]
    errors = [gap(result, examples, "error", task=task) for task in tasks for examples in sizes]
    if not np.isfinite(learned.median):
        verdict = "holds"
    elif all(estimate.low > 0 for estimate in (*gaps, *errors)):
        verdict = "conditions"
    else:
        verdict = "refuted"
    return [
        Verdict(
            claim="C18",
            verdict=verdict,
            number=learned,
            what="until a network with BN knows random labels by heart",
            because=f"Without BN it takes {Estimate.of(steps['no BN']):.0f} steps. With true labels, the test loss at "
            "the same training loss changes by "
            + " and ".join(f"{-e.median:+.2f}" for e in gaps)
            + " nats with BN, the test error by "
            + " and ".join(f"{-e.median:+.1f}" for e in errors)
            + " percentage points.",
        )
    ]


def plot(result: Result):
    """Plot the training error on random labels over the steps, each arm at its best rate; one line for each seed."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    for arm, color, style in zip(ARMS, ("C1", "C0"), ("--", "-"), strict=True):
        _, rate, _ = steps_to_memorize(result, arm)
        for k, row in enumerate(result.select(task="fashion", labels="random", arm=arm, rate=rate)):
            label = f"{arm}, rate {rate:g}" if k == 0 else None
            ax.plot(row["step"], 100 * np.array(row["train_error"]), style, color=color, lw=1.2, label=label)
    ax.set(xlabel="step", ylabel="training error (%)", title="random labels")
    ax.legend()
    return figure


def plot_gap(result: Result):
    """Plot the test loss and the test error at the same training loss against the number of training images."""
    import matplotlib.pyplot as plt

    sizes = sorted({row["examples"] for row in result.select(labels="true")})
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.0), sharex=True)
    for ax, name, factor in ((axes[0], "test_loss", 1), (axes[1], "test_error", 100)):
        for k, (arm, color, marker) in enumerate(zip(ARMS, ("C1", "C0"), ("X", "o"), strict=True)):
            places = [(n, "true", str(n)) for n in sizes] + [(_noisy(result), "quarter random", "noisy")]
            for place, (examples, labels, _) in enumerate(places):
                values = factor * matched(result, arm, examples, labels)[name]
                ax.plot(np.full(len(values), place + 0.24 * k - 0.12), values, marker, color=color, alpha=0.8,
                        label=arm if place == 0 else None)  # fmt: skip
        ax.set_xticks(range(len(places)), [f"{n} images" if labels == "true" else f"{n}, ¼ wrong"
                                           for n, labels, _ in places])  # fmt: skip
    axes[0].set(ylabel="test loss (nats)")
    axes[1].set(ylabel="test error (%)")
    axes[0].legend()
    return figure


def _noisy(result):
    return result.select(labels="quarter random")[0]["examples"]


def _first(steps, reached):
    return float(steps[int(np.argmax(reached))]) if np.any(reached) else np.inf
