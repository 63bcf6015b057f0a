"""Which statistics should a trained network use? The experiment behind claim C23 and the chapter on running statistics.

"Batch normalization is preprocessing at every layer" promises two things that preprocessing keeps: an example gets the
same answer in training and in use, and its answer doesn't depend on the other examples. Small dense networks learn
scikit-learn's digits with batches of several sizes, and after 10 to 1000 steps the same weights are tested with

- running statistics, for several momenta at once (they don't take part in training, so one run serves them all);
- precise statistics, those of the whole training set under the present weights (Ioffe & Szegedy 2015, Algorithm 2);
- the statistics of test batches, as a network left in training mode uses.

In the last case ten shuffles into other batches tell, for the final weights, for how many test images the predicted
class depends on the company.

What this isn't: a comparison with and without batch normalization. Every network here has it.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.datasets import Dataset, digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

EXPERIMENT = Experiment(
    name="running_statistics",
    title="Running, precise and batch statistics",
    claims=("C23",),
    section="sec-modes-trial",
    fair="He initialization, plain SGD at a constant rate; for every batch size the best rate of a grid by the "
    "validation loss with precise statistics. All ways to test share the same weights.",
)
SIZES = (64, 32, 32, 32, 10)
MOMENTA = (0.001, 0.01, 0.1, 0.5, 1.0, None)
CORRECTED = 0.01
BUDGETS = {
    "small": {
        "batch_sizes": [4, 16, 64, 256],
        "checkpoints": [10, 30, 100, 300],
        "learning_rates": rates(0.01, 10, per_decade=2),
    },
    "full": {
        "batch_sizes": [2, 4, 8, 16, 32, 64, 128, 256],
        "checkpoints": [10, 30, 100, 300, 1000, 3000],
        "learning_rates": rates(0.0001, 10, per_decade=2),
    },
}
SHUFFLES = 10


class Tracker:
    """Running statistics of every layer of an ensemble, for several momenta at once, as torch keeps them.

    Pass :meth:`see` as ``tap`` to `bnlab.ensemble.fit`.

    Parameters
    ----------
    momenta : sequence of float or None
        None is the plain average over all batches.

    Attributes
    ----------
    batches : int
        How many batches were seen, the newest included.
    before : dict
        momentum -> [(mean, var) of layer 0, 1, ...], each (R, 1, C), without the newest batch. This is what belongs to
        the present weights in an ``on_step`` callback: the newest batch has not changed the weights yet.
    """

    def __init__(self, momenta: Sequence[float | None]):
        self.batches = 0
        self.now = {momentum: [] for momentum in momenta}
        self.before = {momentum: [] for momentum in momenta}

    def see(self, place: str, layer: int, value: torch.Tensor) -> None:
        """Take in the values (R, m, C) that enter the normalization of a layer: their mean and unbiased variance."""
        if place != "z":
            return
        if layer == 0:
            self.batches += 1
            self.before = {momentum: list(layers) for momentum, layers in self.now.items()}
        value = value.detach()
        mu = value.mean(dim=1, keepdim=True)
        var = (value - mu).square().sum(dim=1, keepdim=True) / (value.shape[1] - 1)
        for momentum, layers in self.now.items():
            if len(layers) == layer:
                layers.append((torch.zeros_like(mu), torch.ones_like(var)))
            weight = 1 / self.batches if momentum is None else momentum
            mean, variance = layers[layer]
            layers[layer] = (mean.lerp(mu, weight), variance.lerp(var, weight))

    def corrected(self, momentum: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the running statistics without what is left of their start at mean 0 and variance 1."""
        left = (1 - momentum) ** (self.batches - 1)
        return [(mean / (1 - left), (var - left) / (1 - left)) for mean, var in self.before[momentum]]


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train at every batch size, and test with running averages of every kind, exact statistics and the batch's.

    One row for each batch size, seed and way to test, at the best learning rate: ``arm`` ("momentum 0.1", "precise",
    "batch", ...), ``steps`` and ``errors`` (lists: test error after so many steps), for arm "batch" also ``flips`` (the
    fraction of test images whose predicted class changes with the company); ``learning_rate``, ``inside`` (whether it
    lies inside the grid). Rows with the arm "sweep" have the validation loss of every learning rate.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])  # conduct refuses an unknown budget
    units = [{"batch_size": size} for size in plan["batch_sizes"]]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: measure(unit["batch_size"], plan["checkpoints"], list(seeds), plan["learning_rates"], device),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={"sizes": SIZES, "shuffles": SHUFFLES, **plan},
        journal=journal,
    )


def measure(
    batch_size: int,
    checkpoints: Sequence[int],
    seeds: Sequence[int],
    learning_rates: Sequence[float],
    device: str = "cpu",
) -> list[dict]:
    """Train with one batch size at every learning rate and seed, and test at the checkpoints in every way.

    Parameters
    ----------
    batch_size : int
        At least 2.
    checkpoints : sequence of int
        Steps after which to test, ascending.
    seeds : sequence of int
    learning_rates : sequence of float, ascending
    device : str

    Returns
    -------
    list of dict
        The rows that :func:`run` describes.
    """
    data, test_x, test_y = split_digits()
    test_x, test_y = torch.tensor(test_x, device=device), torch.tensor(test_y, device=device)
    everyone = [seed for _ in learning_rates for seed in seeds]
    ensemble = Ensemble(SIZES, everyone, norm=BatchNorm(), device=device)
    tracker = Tracker(MOMENTA)
    errors, flips = {}, []

    def test(step, _):
        if step not in checkpoints:
            return
        with torch.no_grad():
            ensemble.calibrate(torch.as_tensor(data.x_train, device=device))
            ways = {"precise": ensemble.population}
            ways |= {name(momentum): tracker.before[momentum] for momentum in MOMENTA}
            ways[name(CORRECTED, corrected=True)] = tracker.corrected(CORRECTED)
            for arm, statistics in ways.items():
                ensemble.population = statistics
                wrong = ensemble(test_x, training=False).argmax(-1) != test_y
                errors.setdefault(arm, []).append(wrong.float().mean(1))
            # All shuffles only at the end: with small batches they cost more than the training.
            last = step == checkpoints[-1]
            answers = shuffled_answers(ensemble, test_x, batch_size, SHUFFLES if last else 1)
            seen = answers >= 0
            errors.setdefault("batch", []).append(((answers != test_y) & seen).sum((0, 2)) / seen.sum((0, 2)))
            if last:
                flips.append(changes(answers))

    history = fit(
        ensemble,
        data,
        np.repeat(learning_rates, len(seeds)),
        steps=checkpoints[-1] + 1,
        batch_size=batch_size,
        every=checkpoints[-1] + 1,
        tap=tracker.see,
        on_step=test,
    )
    validation = history.test_loss[-1].reshape(len(learning_rates), len(seeds))
    rate, inside = best_rate(learning_rates, validation)
    chosen = slice(list(learning_rates).index(rate) * len(seeds), None)
    rows = [
        {"arm": "sweep", "seed": seed, "learning_rate": lr, "validation_loss": loss}
        for lr, losses in zip(learning_rates, validation, strict=True)
        for seed, loss in zip(seeds, losses, strict=True)
    ]
    for arm, each in errors.items():
        for k, seed in enumerate(seeds):
            row = {"arm": arm, "seed": seed, "learning_rate": rate, "inside": inside, "steps": list(checkpoints)}
            row["errors"] = [float(error[chosen][k]) for error in each]
            if arm == "batch":
                row["flips"] = float(flips[0][chosen][k])
            rows.append(row)
    return rows


def name(momentum: float | None, corrected: bool = False) -> str:
    """Return the name of an arm: "momentum 0.1"."""
    return f"momentum {momentum}{' corrected' if corrected else ''}"


def split_digits() -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Split the digits: a Dataset whose "test" part is for choosing the learning rate, and (x, y) to test on.

    Every fourth training image is for validation, so there are 1081, 361 and 355.
    """
    data = digits()
    held = np.arange(len(data.x_train)) % 4 == 3
    rest = data._replace(
        x_train=data.x_train[~held], y_train=data.y_train[~held], x_test=data.x_train[held], y_test=data.y_train[held]
    )
    return rest, data.x_test, data.y_test


def shuffled_answers(ensemble: Ensemble, x: torch.Tensor, batch_size: int, shuffles: int = SHUFFLES) -> torch.Tensor:
    """Return the classes that networks left in training mode predict for x (n, D), in shuffled batches.

    Returns
    -------
    torch.Tensor, shape (shuffles, R, n)
        −1 for the few examples that were left over in a shuffle because they didn't fill a batch.
    """
    generator = torch.Generator().manual_seed(0)
    answers = torch.full((shuffles, len(ensemble.seeds), len(x)), -1, device=x.device)
    for shuffle in range(shuffles):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for batch in order[: len(x) // batch_size * batch_size].split(batch_size):
            answers[shuffle][:, batch] = ensemble(x[batch]).argmax(-1)
    return answers


def changes(answers: torch.Tensor) -> torch.Tensor:
    """Return, for each network, the fraction of examples with more than one answer; shape (R,).

    Parameters
    ----------
    answers : torch.Tensor, shape (shuffles, R, n)
        −1 stands for no answer.
    """
    highest = answers.max(dim=0).values
    lowest = torch.where(answers < 0, highest, answers).min(dim=0).values
    return (highest != lowest).float().mean(1)


def at_end(result: Result, arm: str, batch_size: int) -> np.ndarray:
    """Return the test error after the last step for every seed, shape (seeds,)."""
    return result.column("errors", arm=arm, batch_size=batch_size)[:, -1]


def verdicts(result: Result) -> list[Verdict]:
    """Judge C23, "BN is preprocessing at every layer", by the two promises of preprocessing.

    With the largest and the smallest batch of the run (of at least 4 examples), after the last step: the *gap*
    is the median over seeds of |test error with running statistics, momentum 0.1, minus that with precise ones|;
    *flips* is the median share of test images whose predicted class changes with the batch in training mode.

    - "holds": gap at most 1 point and flips at most 1 % with both batch sizes;
    - "conditions": not so, but the gap is at most 1 point with the largest batch, so that stored statistics can do
      what preprocessing does;
    - "refuted": the gap is larger than that even with the largest batch.
    """
    sizes = sorted({row["batch_size"] for row in result.rows if row["batch_size"] >= 4})
    gap, flips = {}, {}
    for size in (sizes[0], sizes[-1]):
        running, precise = at_end(result, "momentum 0.1", size), at_end(result, "precise", size)
        gap[size] = 100 * np.median(np.abs(running - precise))
        flips[size] = Estimate.of(100 * result.column("flips", arm="batch", batch_size=size), "%")
    small, large = sizes[0], sizes[-1]
    if max(gap.values()) <= 1 and max(flip.median for flip in flips.values()) <= 1:
        verdict = "holds"
    else:
        verdict = "conditions" if gap[large] <= 1 else "refuted"
    return [
        Verdict(
            claim="C23",
            verdict=verdict,
            number=flips[small],
            what=f"of the test images change their predicted class with the rest of a training-mode batch of {small}",
            because=f"In batches of {large} it is {flips[large]:.2g}; running statistics (momentum 0.1) miss the error "
            f"of precise ones by {gap[small]:.1f} points with batches of {small}, by {gap[large]:.1f} with {large}.",
        )
    ]


def plot(result: Result):
    """Plot the test error after the last step against the batch size, for running, precise and batch statistics.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    sizes = sorted({row["batch_size"] for row in result.rows})
    looks = {"batch": ("^-.", "C1", "batch of the test set"), "momentum 0.1": ("s--", "C2", "running, momentum 0.1")}
    looks["precise"] = ("o-", "C0", "precise")
    fig, ax = plt.subplots(figsize=(6.4, 4))
    for arm, (style, color, label) in looks.items():
        spread = [Estimate.of(100 * at_end(result, arm, size)) for size in sizes]
        middle = np.array([e.median for e in spread])
        ax.plot(sizes, middle, style, color=color, label=label)
        ax.fill_between(sizes, [e.low for e in spread], [e.high for e in spread], color=color, alpha=0.15, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="test error in %")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ticks = [1, 2, 5, 10, 20, 50, 100]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.legend()
    return fig


def plot_steps(result: Result, batch_size: int):
    """Plot the test error against the number of steps, for every momentum, at one batch size.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    looks = {
        "momentum 0.001": ("v:", "C6"),
        "momentum 0.01": ("s--", "C2"),
        "momentum 0.01 corrected": ("D-.", "C2"),
        "momentum 0.1": ("o-", "C1"),
        "momentum 1.0": ("x:", "C3"),
        "momentum None": ("^--", "C5"),
        "precise": ("*-", "C0"),
    }
    fig, ax = plt.subplots(figsize=(6.4, 5.2))
    for arm, (style, color) in looks.items():
        rows = result.select(arm=arm, batch_size=batch_size)
        middle = 100 * np.median([row["errors"] for row in rows], axis=0)
        ax.plot(rows[0]["steps"], middle, style, color=color, label=arm)
    ax.set(xscale="log", yscale="log", xlabel="steps of training", ylabel="test error in %")
    ax.set_xticks(rows[0]["steps"], [f"{step:,}" for step in rows[0]["steps"]])
    ticks = [2, 5, 10, 20, 50, 90]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    fig.legend(loc="outside lower center", ncols=2)
    return fig
