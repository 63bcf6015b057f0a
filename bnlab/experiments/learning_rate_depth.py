"""Which learning rates train a network of which depth, with and without batch normalization? Claim C07.

"BN allows higher learning rates" and "networks that could not train start to train" are two claims, and the second
depends on why they could not. So a grid of learning rates and depths is run for five kinds of network:

- ``he`` and ``bn``: without and with batch normalization, both from He et al.'s (2015) initial weights: the fair pair.
- ``default`` and ``bn default``: the same from the initial weights that `torch.nn.Linear` draws by itself, which let
  the signal fade by a factor of 2.4 per ReLU layer. That is the straw man.
- ``skip``: no normalization, but every hidden layer only adds to what it was given, a depth-th of it at the start. It
  stands for the other ways to train deep networks (Zhang et al. 2019, Brock et al. 2021), in their simplest form.

All are trained for the same number of steps of plain SGD at a constant rate. What this isn't: a search for the best
deep network, or a statement on convolutions. Dense layers on small digits make depth hard, and runs short.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, kaiming, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.training_speed import torch_default

EXPERIMENT = Experiment(
    name="learning_rate_depth",
    title="Learning rate x depth, with and without batch normalization",
    claims=("C07",),
    section="sec-speed-depth",
    fair="He initialization with and without batch normalization; centered inputs; plain SGD at a constant rate; every "
    "arm and depth at every rate of the same grid.",
)

ARMS = {
    "he": "no BN, He",
    "bn": "BN, He",
    "default": "no BN, PyTorch's default",
    "bn default": "BN, PyTorch's default",
    "skip": "no BN, small steps",
}
TRAINS = 0.5  # a network with a test error above this hasn't begun to learn: chance is 0.9


class Skip(Ensemble):
    """Multilayer perceptrons whose hidden layers, but the first, add to their input: h + W relu(h) / depth.

    With the factor 1 / depth the values hardly grow from layer to layer, however many there are, and the derivative of
    the output by an early layer hardly shrinks or grows.
    """

    def forward(self, x, *, training: bool = True, tap=None) -> torch.Tensor:
        """Map inputs (m, D) or (R, m, D) to logits (R, m, outputs); `tap` sees the place "h" only."""
        h = self._linear(x if x.dim() == 3 else x.expand(len(self.seeds), -1, -1), 0)
        last = len(self.weights) - 1
        for layer in range(1, last):
            h = h + self._linear(self.activation(h), layer) / last
            if tap is not None:
                tap("h", layer, h)
        return self._linear(self.activation(h), last)

    __call__ = forward


def grid(
    arm: str, depth: int, learning_rates: Sequence[float], seeds: Sequence[int], device: str, **training
) -> list[dict]:
    """Train one arm at one depth at every learning rate and seed.

    Parameters
    ----------
    arm : str
        A key of `ARMS`.
    depth : int
        Number of hidden layers.
    learning_rates : sequence of float
    seeds : sequence of int
    device : str
    **training
        "width" of the hidden layers, "steps" and "batch_size".

    Returns
    -------
    list of dict
        A row for each learning rate and seed: "rate", "seed", "test_error" and "train_loss" after the last step (NaN
        where training diverged).
    """
    cases = [(rate, seed) for rate in learning_rates for seed in seeds]
    make = Skip if arm == "skip" else Ensemble
    ensemble = make(
        [64, *[training["width"]] * depth, 10],
        [seed for _, seed in cases],
        norm=BatchNorm() if arm.startswith("bn") else None,
        init=torch_default if arm.endswith("default") else kaiming,
        device=device,
    )
    steps = training["steps"]
    history = fit(
        ensemble,
        centered_digits(),
        [rate for rate, _ in cases],
        steps=steps,
        batch_size=training["batch_size"],
        every=steps,
    )
    return [
        {"rate": rate, "seed": seed, "test_error": error, "train_loss": loss}
        for (rate, seed), error, loss in zip(cases, history.test_error[-1], history.train_loss[-1], strict=True)
    ]


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train the whole grid: five arms, depths up to 32 (full: 40), learning rates from 0.008 to 5 (0.001 to 32)."""
    full = budget == "full"
    training = {"width": 48 if full else 32, "steps": 500 if full else 120, "batch_size": 32}
    depths = (1, 2, 4, 8, 16, 24, 32, 40) if full else (2, 4, 8, 16, 32)
    learning_rates = rates(0.001, 32, 4) if full else rates(0.00794, 5.01, 2.5)
    units = [{"arm": arm, "depth": depth} for depth in depths for arm in ARMS]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: grid(unit["arm"], unit["depth"], learning_rates, seeds, device, **training),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={**training, "depths": depths, "rates": learning_rates, "trains": TRAINS},
        journal=journal,
    )


def errors(result: Result, arm: str, depth: int) -> np.ndarray:
    """Return the final test errors of an arm at a depth, shape (rates, seeds), in the order of the settings."""
    return result.column("test_error", arm=arm, depth=depth).astype(float).reshape(-1, len(result.seeds))


def largest_rate(result: Result, arm: str, depth: int) -> np.ndarray:
    """Return the largest learning rate at which each seed trains (test error at most `TRAINS`); 0 where none does."""
    trained = errors(result, arm, depth) <= TRAINS
    return (trained * np.array(result.settings["rates"])[:, None]).max(axis=0)


def best_error(result: Result, arm: str, depth: int) -> tuple[float, np.ndarray]:
    """Return the learning rate with the smallest median test error, and the errors there, shape (seeds,)."""
    scores = errors(result, arm, depth)
    rate, _ = best_rate(result.settings["rates"], scores)
    return rate, scores[result.settings["rates"].index(rate)]


def headroom(result: Result, depth: int) -> np.ndarray:
    """Return how many times larger the largest rate is that trains with BN, in the fair pair, shape (seeds,).

    Infinite where only the network with batch normalization trains, at any rate; 1 where neither does.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = largest_rate(result, "bn", depth) / largest_rate(result, "he", depth)
    return np.where(np.isnan(ratio), 1.0, ratio)


def trainable(result: Result, arm: str) -> list[int]:
    """Return the depths at which most seeds of an arm train at some learning rate."""
    return [d for d in result.settings["depths"] if np.median(largest_rate(result, arm, d)) > 0]


def awakened(result: Result, without: str, with_bn: str) -> list[int]:
    """Return the depths at which most seeds train at some rate with BN, and at no rate without."""
    return sorted(set(trainable(result, with_bn)) - set(trainable(result, without)))


def verdicts(result: Result) -> list[Verdict]:
    """Judge C07 by the largest rate that trains, and by the depths at which only batch normalization trains.

    *Holds* if, in the fair pair, that rate is larger with batch normalization at every depth (the whole interval above
    1), and if there is a depth at which only the network with batch normalization trains. *Holds with conditions* if
    only one of the two is so, or if the second needs the unfair initialization, or if the rate is larger at some depths
    only. *Refuted* if nothing of this is so.

    The number is the median over the depths at which either trains.
    """
    depths = sorted({*trainable(result, "bn"), *trainable(result, "he")})
    if not depths:
        return [Verdict("C07", "open", None, "", "Neither arm trained at any depth.")]
    higher = [d for d in depths if Estimate.of(headroom(result, d)).low > 1]
    fair, straw = awakened(result, "he", "bn"), awakened(result, "default", "bn default")
    if higher == depths and fair:
        word = "holds"
    elif higher or fair or straw:
        word = "conditions"
    else:
        word = "refuted"
    number = Estimate.of(np.median([headroom(result, d) for d in depths], axis=0))
    because = (
        f"The largest rate is higher at {len(higher)} of {len(depths)} depths. From He's initial weights batch "
        f"normalization makes {_named(fair)} trainable; from PyTorch's default ones {_named(straw)}."
    )
    return [Verdict("C07", word, number, "times higher is the largest learning rate that trains", because)]


def _named(depths) -> str:
    return f"depth {', '.join(map(str, depths))}" if depths else "no depth"


def plot(result: Result):
    """Draw the final test error over learning rate and depth as heat maps, one for each arm but ``bn default``."""
    import matplotlib.pyplot as plt

    shown = [arm for arm in ARMS if arm != "bn default"]
    learning_rates, depths = np.array(result.settings["rates"]), result.settings["depths"]
    figure, axes = plt.subplots(2, 2, figsize=(6.4, 5.4), sharex=True, sharey=True)
    ratio = learning_rates[1] / learning_rates[0]
    edges = np.append(learning_rates, learning_rates[-1] * ratio) / ratio**0.5
    for ax, arm in zip(axes.ravel(), shown, strict=True):
        values = np.array([np.median(np.nan_to_num(errors(result, arm, d), nan=1.0), axis=1) for d in depths])
        image = ax.pcolormesh(edges, np.arange(len(depths) + 1), values, vmin=0, vmax=0.9, cmap="cividis")
        for row, depth in enumerate(depths):
            middle = np.median(largest_rate(result, arm, depth))
            if middle:  # the largest rate that trains: a bar at the right edge of its cell
                ax.plot([middle * ratio**0.5] * 2, [row, row + 1], color="C1", lw=4, solid_capstyle="butt")
        ax.set(xscale="log", title=ARMS[arm], yticks=np.arange(len(depths)) + 0.5, yticklabels=depths)
        ax.grid(False)
    for ax in axes[-1]:
        ax.set_xlabel("learning rate")
    for ax in axes[:, 0]:
        ax.set_ylabel("hidden layers")
    figure.colorbar(image, ax=axes, label="test error at the end", shrink=0.8)
    return figure


def plot_best(result: Result):
    """Draw, over the depth, the largest learning rate that trains and the test error at the best one."""
    import matplotlib.pyplot as plt

    depths = result.settings["depths"]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
    looks = {
        "he": ("C1", "o", "-"),
        "bn": ("C0", "s", "-"),
        "default": ("C1", "^", ":"),
        "bn default": ("C0", "v", ":"),
        "skip": ("C2", "D", "--"),
    }
    for arm, (color, marker, line) in looks.items():
        largest = [Estimate.of(largest_rate(result, arm, d)) for d in depths]
        best = [Estimate.of(best_error(result, arm, d)[1]) for d in depths]
        for ax, found in ((top, largest), (bottom, best)):
            middle = np.array([e.median for e in found])
            middle[middle == 0] = np.nan  # trains at no rate: no point
            low, high = (np.array([getattr(e, side) for e in found]) for side in ("low", "high"))
            bars = [np.clip(middle - low, 0, None), np.clip(high - middle, 0, None)]
            ax.errorbar(depths, middle, bars, color=color, marker=marker, ls=line, capsize=3, label=ARMS[arm])
    top.set(xscale="log", yscale="log", ylabel="largest rate that trains")
    bottom.set(xlabel="hidden layers", ylabel="test error at the best rate", xticks=depths, xticklabels=depths)
    bottom.axhline(0.9, color="black", lw=1)
    bottom.text(depths[0], 0.87, "chance", va="top")
    bottom.minorticks_off()
    top.legend(loc="lower left", fontsize="small")
    return figure
