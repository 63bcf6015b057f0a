"""Does the noise of batch statistics regularize? The experiment behind claim C10.

The mean and the variance of a batch differ from those of the whole training set, and they differ anew in every step. To
ask what this noise does, everything else must stay the same. Here every step of gradient descent uses the *whole*
training set, so nothing else is random, and only the groups that share their statistics vary: "ghost batches" of 4 to
64 examples, dealt anew in every step (Hoffer et al. 2017). With one group of all examples there is no noise at all. Two
controls:

- ``injected``: statistics of the whole training set, to which noise is added that is drawn from the sampling
  distribution of a group's mean and variance. If it does what the groups do, it was the noise that did it.
- ``sgd``: ordinary mini-batches, normalized by their own statistics, by those of the whole training set (through which
  the gradient flows), or not at all. Here the noise of the statistics comes on top of the noise of the gradient.

Every seed draws its own training set, weights and noise. Training data are scarce, so that there is something to
regularize. What this isn't: an experiment on speed.

Source: Hoffer, Hubara and Soudry (2017), Train longer, generalize better, section 4, for ghost batches.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from bnlab import datasets
from bnlab.datasets import Dataset
from bnlab.ensemble import BatchNorm, Ensemble, fit
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

EXPERIMENT = Experiment(
    name="batch_noise",
    title="The noise of batch statistics, and what it does to the test error",
    claims=("C10",),
    section="sec-regularization-noise",
    fair="He initialization in all arms; full-batch gradient descent at a constant rate, so nothing else is random; "
    "every arm at its own best rate and best moment to stop, chosen on validation images, judged on test images.",
)

EXAMPLES = 128
WIDTH = 32
GHOSTS = (4, 8, 16, 32)
INJECTED = 16
SGD_BATCH = 32
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
BUDGETS = {
    "small": {"tasks": ("fashion",), "steps": 200, "noise_batches": 500},
    "full": {"tasks": ("fashion", "mnist1d"), "steps": 1000, "noise_batches": 5000},
}


def scarce(task: str, examples: int, seed: int, validation: int = 500) -> tuple[Dataset, torch.Tensor, torch.Tensor]:
    """Draw a small training set, and a validation set to choose learning rates by.

    Parameters
    ----------
    task : {"fashion", "mnist1d"}
        Clothes, averaged over 4x4 pixels to 49 features; or signals of 40 values.
    examples, validation : int
    seed : int
        Decides which of the training examples that ship are drawn.

    Returns
    -------
    data : Dataset
        `examples` for training, and as x_test, y_test `validation` others. Features are standardized with the mean and
        the standard deviation of the training examples drawn.
    x_test, y_test : torch.Tensor
        1,000 test examples, (N, D) and (N,): for the report, not for any choice.
    """
    full = _full(task)
    chosen = np.random.default_rng(seed).permutation(len(full.x_train))[: examples + validation]
    train, held_out = chosen[:examples], chosen[examples:]
    x = full.x_train[train]
    mu, std = x.mean(axis=0), x.std(axis=0)

    def standardized(x):
        return np.float32((x - mu) / (std + 0.01))  # a corner pixel may be black in every image drawn

    data = Dataset(standardized(x), full.y_train[train], standardized(full.x_train[held_out]), full.y_train[held_out],
                   full.classes)  # fmt: skip
    return data, torch.as_tensor(standardized(full.x_test[:1000])), torch.as_tensor(full.y_test[:1000])


@torch.no_grad()
def test_scores(ensemble: Ensemble, x_test: torch.Tensor, y_test: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return mean cross-entropy and error of every network in evaluation, shape (R,) each; NaN where diverged."""
    x_test, y_test = x_test.to(ensemble.device), y_test.to(ensemble.device)
    logits = ensemble(x_test, training=False)
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), y_test.expand(len(logits), -1), reduction="none"
    ).mean(1)
    wrong = (logits.argmax(-1) != y_test).float().mean(1)
    return losses.cpu().numpy(), torch.where(losses.isfinite(), wrong, torch.nan).cpu().numpy()


class GhostNorm(BatchNorm):
    """Normalizes groups of `size` examples by their own statistics (Hoffer et al. 2017, algorithm 1).

    Examples that stand one after the other form a group: shuffle the batch to deal new groups.

    Parameters
    ----------
    size : int
        Must divide the batch.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def statistics(self, z, layer):
        """Return mu and var of each example's group, shape (R, m, C)."""
        runs, m, channels = z.shape
        groups = z.reshape(runs, m // self.size, self.size, channels)
        mu = groups.mean(dim=2, keepdim=True)
        var = (groups - mu).square().mean(dim=2, keepdim=True)
        return tuple(s.expand_as(groups).reshape(z.shape) for s in (mu, var))


class InjectedNorm(BatchNorm):
    """The statistics of the whole batch, with the noise that groups of `size` normal values would have.

    mu + sqrt(var / size) * N(0, 1) and var * chi2(size - 1) / size, independent, one draw for each group and channel.
    """

    def __init__(self, size: int, seed: int):
        super().__init__()
        self.size = size
        self.generator = torch.Generator().manual_seed(20_000 + seed)

    def statistics(self, z, layer):
        """Return mu and var of each example's group, shape (R, m, C)."""
        mu, var = super().statistics(z, layer)
        runs, m, channels = z.shape
        # 1 to `size` normal values: their mean, and their variance around it, have the two distributions
        draws = torch.randn(runs, m // self.size, self.size, channels, generator=self.generator)
        shift = draws.mean(dim=2, keepdim=True)
        stretch = (draws - shift).square().mean(dim=2, keepdim=True)
        shift, stretch = (s.expand(-1, -1, self.size, -1).reshape(z.shape).to(z.device) for s in (shift, stretch))
        return mu + var.sqrt() * shift, var * stretch


class Dealt(Ensemble):
    """An ensemble that shuffles the full batch in every training step, so that ghost batches are dealt anew."""

    def __init__(self, *args, seed: int, **options):
        super().__init__(*args, **options)
        self.generator = torch.Generator().manual_seed(30_000 + seed)

    def forward(self, x, *, training=True, tap=None):
        """As `Ensemble.forward`; outputs are in the order of the inputs."""
        if not training or self._calibrating:
            return super().forward(x, training=training, tap=tap)
        order = torch.randperm(x.shape[-2], generator=self.generator)
        logits = super().forward(x[..., order, :], tap=tap)
        return logits[:, order.argsort()]

    __call__ = forward


class WholeSet(Ensemble):
    """An ensemble whose every step normalizes by the statistics of the whole training set, with their gradient."""

    def __init__(self, *args, x_train: np.ndarray, **options):
        norm = _TailNorm(len(x_train))
        super().__init__(*args, norm=norm, **options)
        self.x_train = torch.as_tensor(x_train).to(self.device)

    def forward(self, x, *, training=True, tap=None):
        """As `Ensemble.forward`; in training, the whole training set passes through together with the batch."""
        if not training or self._calibrating:
            return super().forward(x, training=training, tap=tap)
        x, everything = (part.expand(len(self.seeds), -1, -1) for part in (x, self.x_train))
        both = torch.cat([x, everything], dim=1)
        return super().forward(both, tap=tap)[:, : x.shape[1]]

    __call__ = forward


class _TailNorm(BatchNorm):
    """Statistics of the last `size` rows only."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def statistics(self, z, layer):
        return super().statistics(z[:, -self.size :], layer)


def run(seeds: Sequence[int] = range(5), device: str = "cpu", budget: str = "small", *, journal=None) -> Result:
    """Measure the noise of batch statistics, and the test error with more and less of it.

    Rows with ``part="noise"``: m, mean_noise and var_noise (standard deviation, over batches, of the batch mean in
    units of sigma and of the batch variance in units of sigma^2; the root mean square over the units of the first
    hidden layer of a trained network), kurtosis. Rows with ``part="training"``: task, setting ("full batch" or "sgd"),
    arm, seed, rate, and lists over the evaluations: step, train_loss, train_error, validation_loss, validation_error,
    test_loss, test_error.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    arms = ["no BN", *(f"groups of {g}" for g in GHOSTS), "no noise", f"injected, {INJECTED}"]
    settings = [("full batch", arm) for arm in arms] + [("sgd", arm) for arm in ("no BN", "batch", "no noise")]
    units = [{"part": "noise", "seed": seed} for seed in seeds]
    units += [
        {"part": "training", "task": task, "setting": setting, "arm": arm, "seed": seed}
        for task in plan["tasks"]
        for setting, arm in settings
        for seed in seeds
    ]

    def measure(unit):
        if unit["part"] == "noise":
            return noise(unit["seed"], plan["noise_batches"], device)
        return train(unit["task"], unit["setting"], unit["arm"], unit["seed"], plan["steps"], device)

    return conduct(
        EXPERIMENT,
        units,
        measure,
        seeds=seeds,
        device=device,
        budget=budget,
        settings={**plan, "examples": EXAMPLES, "width": WIDTH, "rates": RATES, "sgd_batch": SGD_BATCH,
                  "moments": moments(plan["steps"])},
        journal=journal,
    )  # fmt: skip


def noise(seed: int, batches: int, device: str = "cpu") -> list[dict]:
    """Draw batches of 4 to 128 from 2,000 images and compare their statistics with those of all 2,000."""
    data, _, _ = scarce("fashion", 2000, seed)
    sizes = [data.x_train.shape[1], WIDTH, WIDTH, len(data.classes)]
    ensemble = Ensemble(sizes, [seed], norm=BatchNorm(), device=device)
    fit(ensemble, data, [0.3], steps=200, batch_size=64, every=200)
    values = {}

    def keep(place, layer, value):
        if place == "z" and layer == 0:
            values["z"] = value[0].double().cpu()

    with torch.no_grad():
        ensemble(torch.as_tensor(data.x_train).to(device), training=False, tap=keep)
    z = values["z"]
    z = (z - z.mean(0)) / z.std(0, correction=0)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for m in (4, 8, 16, 32, 64, 128):
        batch = z[torch.randint(len(z), (batches, m), generator=generator)]  # (batches, m, C)
        rows.append(
            {
                "m": m,
                "mean_noise": batch.mean(1).var(0).mean().sqrt().item(),
                "var_noise": batch.var(1, correction=0).var(0).mean().sqrt().item(),
                "kurtosis": (z**4).mean().item(),
            }
        )
    return rows


def noise_theory(m, kurtosis: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviations of the mean and of the biased variance of m independent values of variance 1.

    The first is 1 / sqrt(m). The second is sqrt((kurtosis - 1) / m) for large m, and exactly
    (m - 1) / m * sqrt((kurtosis - (m - 3) / (m - 1)) / m): Cramér (1946), Mathematical Methods of Statistics, 27.4.2.

    Parameters
    ----------
    m : array_like
        Batch sizes, at least 2.
    kurtosis : float
        E[x^4] for mean 0 and variance 1: 3 for normal values.
    """
    m = np.asarray(m, dtype=float)
    return 1 / np.sqrt(m), (m - 1) / m * np.sqrt((kurtosis - (m - 3) / (m - 1)) / m)


def train(task: str, setting: str, arm: str, seed: int, steps: int, device: str = "cpu") -> list[dict]:
    """Train one arm at all learning rates; return one row for each."""
    data, x_test, y_test = scarce(task, EXAMPLES, seed)
    sizes = [data.x_train.shape[1], WIDTH, WIDTH, len(data.classes)]
    seeds = [seed] * len(RATES)
    if setting == "sgd" and arm == "no noise":
        ensemble = WholeSet(sizes, seeds, x_train=data.x_train, device=device)
    elif arm.startswith("groups"):
        ensemble = Dealt(sizes, seeds, norm=GhostNorm(int(arm.split()[-1])), seed=seed, device=device)
    elif arm.startswith("injected"):
        ensemble = Ensemble(sizes, seeds, norm=InjectedNorm(INJECTED, seed), device=device)
    else:
        ensemble = Ensemble(sizes, seeds, norm=None if arm == "no BN" else BatchNorm(), device=device)
    sets = {
        name: tuple(map(torch.as_tensor, pair))
        for name, pair in {
            "train": (data.x_train, data.y_train),
            "validation": (data.x_test, data.y_test),
            "test": (x_test, y_test),
        }.items()
    }
    at = moments(steps)
    curves = {"step": []} | {f"{name}_{score}": [] for name in sets for score in ("loss", "error")}

    def evaluate(step, gradients=None):
        if step not in at:
            return
        ensemble.calibrate(sets["train"][0].to(device))
        curves["step"].append(step)
        for name, pair in sets.items():
            for score, values in zip(("loss", "error"), test_scores(ensemble, *pair), strict=True):
                curves[f"{name}_{score}"].append(values)

    fit(ensemble, data, RATES, steps=steps, batch_size=None if setting == "full batch" else SGD_BATCH, every=steps,
        on_step=evaluate)  # fmt: skip
    evaluate(steps)
    return [
        {"rate": rate, "step": curves["step"]}
        | {name: np.array(values)[:, k] for name, values in curves.items() if name != "step"}
        for k, rate in enumerate(RATES)
    ]


def moments(steps: int) -> list[int]:
    """Return after how many steps to evaluate: 0, 5, and from there a quarter more each time."""
    found = [0, min(5, steps)]
    while found[-1] < steps:
        found.append(min(steps, round(1.25 * found[-1])))
    return found


def chosen(result: Result, score: str = "loss", *, stop: bool = True, **where) -> dict:
    """Choose the rate of an arm, and when to stop, by the mean validation score; return its test scores.

    Parameters
    ----------
    result : Result
    score : {"loss", "error"}
    stop : bool
        Whether to choose the moment to stop as well; else the last step counts.
    **where
        task, setting and arm.

    Returns
    -------
    dict
        rate, step, inside (whether the best rate is neither the first nor the last of those tried, and the best moment
        neither), and arrays with one entry per seed, in the order of the seeds: test_loss, test_error, train_loss,
        train_error.
    """
    rows = result.select(part="training", **where)
    rates = sorted({row["rate"] for row in rows})
    by_rate = [[row for row in rows if row["rate"] == rate] for rate in rates]
    scores = np.array([[row[f"validation_{score}"] for row in group] for group in by_rate], dtype=float).mean(axis=1)
    scores = np.nan_to_num(scores, nan=np.inf)
    scores[:, 0] = np.inf  # an untrained network is no candidate
    if not stop:
        scores[:, :-1] = np.inf
    k, moment = np.unravel_index(scores.argmin(), scores.shape)
    best = by_rate[k]
    measured = ("test_loss", "test_error", "train_loss", "train_error")
    return {
        "rate": rates[k],
        "step": best[0]["step"][moment],
        "inside": bool(0 < k < len(rates) - 1 and (not stop or 1 < moment < scores.shape[1] - 1)),
        **{name: np.array([row[name][moment] for row in best]) for name in measured},
    }


def gain(result: Result, task: str, setting: str, arm: str, score: str = "loss", *, stop: bool = True) -> Estimate:
    """Return how much lower the test score of an arm is than that of BN without noise, seed by seed.

    In nats for the loss, in percentage points for the error.
    """
    ours, without = (
        chosen(result, score, stop=stop, task=task, setting=setting, arm=name)[f"test_{score}"]
        for name in (arm, "no noise")
    )
    factor, unit = (1, "nats") if score == "loss" else (100, "percentage points")
    return Estimate.of(factor * (without - ours), unit)


def best_groups(result: Result, task: str) -> str:
    """Return the arm of groups with the smallest mean validation loss: chosen without the test images."""

    def score(arm):
        best = chosen(result, task=task, setting="full batch", arm=arm)
        rows = result.select(part="training", task=task, setting="full batch", arm=arm, rate=best["rate"])
        return np.mean([row["validation_loss"][row["step"].index(best["step"])] for row in rows])

    return min((f"groups of {g}" for g in GHOSTS), key=score)


def verdicts(result: Result) -> list[Verdict]:
    """Judge C10 by BN with noise against BN without, everything else equal.

    Four comparisons on every task; one succeeds if the arm without noise is worse in the whole interval over seeds:
    the test loss of the best groups (their size chosen on validation images), the test loss with injected noise, the
    test error of the best groups after the last step, and the test loss of ordinary mini-batches. The claim *holds* if
    all four succeed on all tasks, *holds with conditions* if the first two do on all, or any does on some; it is
    *refuted* if groups have a higher loss on every task in the whole interval, and otherwise *open*.
    """
    tasks = sorted({row["task"] for row in result.select(part="training")})
    groups = {task: gain(result, task, "full batch", best_groups(result, task)) for task in tasks}
    others = [
        estimate
        for task in tasks
        for estimate in (
            gain(result, task, "full batch", f"injected, {INJECTED}"),
            gain(result, task, "full batch", best_groups(result, task), "error", stop=False),
            gain(result, task, "sgd", "batch"),
        )
    ]
    succeeds = [estimate.low > 0 for estimate in (*groups.values(), *others)]
    if all(succeeds):
        verdict = "holds"
    elif any(succeeds):
        verdict = "conditions"
    elif all(estimate.high < 0 for estimate in groups.values()):
        verdict = "refuted"
    else:
        verdict = "open"
    size = best_groups(result, tasks[0])
    return [
        Verdict(
            claim="C10",
            verdict=verdict,
            number=groups[tasks[0]],
            what=f"less test loss with the noise of {size} than without noise ({tasks[0]}, {EXAMPLES} examples)",
            because=f"That is at the best moment to stop. Injected noise does it too, by {others[0]}; after the last "
            f"step the test error is lower by {others[1]:.1f}; on top of mini-batches of {SGD_BATCH} the test loss is "
            f"lower by {others[2]}. Data were scarce.",
        )
    ]


def plot(result: Result):
    """Plot test loss and test error against the group size, with the arms without noise beside them."""
    import matplotlib.pyplot as plt

    task = sorted({row["task"] for row in result.select(part="training")})[0]
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.6), sharex=True)
    for ax, score, stop, factor in ((axes[0], "loss", True, 1), (axes[1], "error", False, 100)):
        estimates = {
            arm: Estimate.of(
                factor * chosen(result, score, stop=stop, task=task, setting="full batch", arm=arm)[f"test_{score}"]
            )
            for arm in {row["arm"] for row in result.select(part="training", setting="full batch")}
        }
        _dots(ax, GHOSTS, [estimates[f"groups of {g}"] for g in GHOSTS], "o", "C0", "BN, in groups")
        _dots(ax, [INJECTED * 1.15], [estimates[f"injected, {INJECTED}"]], "D", "C3", "BN, noise injected")
        _dots(ax, [EXAMPLES], [estimates["no noise"]], "s", "C2", "BN, no noise")
        _dots(ax, [2 * EXAMPLES], [estimates["no BN"]], "X", "C1", "no BN")
    axes[0].set(ylabel="test loss (nats)", title="stopped at the best moment")
    axes[1].set(ylabel="test error (%)", title="after the last step")
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks([*GHOSTS, EXAMPLES, 2 * EXAMPLES], [*map(str, GHOSTS), f"all {EXAMPLES}", "no BN"])
    axes[1].minorticks_off()
    axes[1].set_xlabel("examples that share their statistics")
    axes[0].legend(ncols=2)
    return figure


def plot_noise(result: Result):
    """Plot the measured noise of batch mean and batch variance against the batch size, with the theory as lines."""
    import matplotlib.pyplot as plt

    sizes = sorted({row["m"] for row in result.select(part="noise")})
    figure, ax = plt.subplots()
    line = np.geomspace(min(sizes), max(sizes), 50)
    theory = noise_theory(line, result.column("kurtosis", part="noise").mean())
    ax.loglog(line, theory[0], color="C0", lw=1, label="theory, mean")
    ax.loglog(line, theory[1], "--", color="C1", lw=1, label="theory, variance")
    for name, marker, color, label in (("mean_noise", "o", "C0", "batch mean"), ("var_noise", "^", "C1", "variance")):
        middle = [result.column(name, part="noise", m=m).mean() for m in sizes]
        ax.loglog(sizes, middle, marker, color=color, label=label)
    ax.set(xlabel="batch size m", ylabel="noise (in sigma, sigma²)")
    ax.set_xticks(sizes, [str(m) for m in sizes])
    ax.set_yticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
    ax.minorticks_off()
    ax.legend(ncols=2)
    return figure


def _dots(ax, x, estimates, marker, color, label):
    low, middle, high = np.array([(e.low, e.median, e.high) for e in estimates]).T
    ax.errorbar(
        np.array(x),
        middle,
        yerr=np.array([middle - low, high - middle]),
        fmt=marker,
        color=color,
        capsize=3,
        label=label,
    )


@lru_cache  # every unit draws from the same set, and preparing it takes a second
def _full(task) -> Dataset:
    if task == "mnist1d":
        return datasets.mnist1d()
    full = datasets.fashion(10_000, 2_000)

    def coarse(x):
        return x.reshape(len(x), 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(x), 49)

    return full._replace(x_train=coarse(full.x_train), x_test=coarse(full.x_test))
