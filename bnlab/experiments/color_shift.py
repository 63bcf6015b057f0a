"""What happens to a network that learned on black cats and meets colored ones? The experiment behind claim C03.

The cats are clothes: photographs of Fashion-MNIST, dyed. In the training set every garment is dark gray, on a gray
background; in the test sets it has a color. What kind of garment it is depends on its shape as before, so the relation
of image to class is unchanged and only the distribution of the images moves. Three shifts are told apart:

- "colors": each garment has a hue of its own, more or less saturated (the strength of the shift, 0 to 1);
- "ginger": all garments have the same orange;
- "lamp": the garments are gray as before, but the light is orange, so every channel is multiplied by a number.

The same small convolutional network, with and without batch normalization, learns four times: from gray garments
("gray"), and, as a repair, from labeled garments of all colors ("colored"), from gray ones whose channels are
stretched and inverted at random ("jittered"), from gray ones without color and with every image standardized
("standardized"). Two more repairs change a network trained on gray without training it: the statistics of its batch
normalization are estimated again on unlabeled images of the new kind (AdaBN), or the channels of new images are moved
and stretched to the mean and standard deviation of the old ones ("aligned").

What makes it fair: every network sees its inputs standardized by the mean and standard deviation of each channel of its
training set, as one would. Initial weights and the order of
examples are the same in both arms of a seed. Every arm and every way of training has its own best learning rate, chosen
on images that are neither trained nor tested on. Whatever adapts to new images sees others than those it is tested on.

Sources: Shimodaira (2000) for the term; Li et al. (2016), Revisiting Batch Normalization for Practical Domain
Adaptation, section 3, for AdaBN.
"""

from copy import deepcopy
from time import perf_counter

import numpy as np
import torch
from torch import nn

from bnlab import datasets
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.models import SmallConv
from bnlab.training import evaluate, seeded, sgd, train

EXPERIMENT = Experiment(
    name="color_shift",
    title="Trained on dark gray garments, tested on colored ones; and five repairs with their cost",
    claims=("C03",),
    section="sec-shift-trial",
    fair="Inputs standardized, the same He initialization and order of examples in both arms; SGD with momentum 0.9, "
    "linear decay; for every arm and way of training a rate that is better than its half and its double, chosen on "
    "validation images.",
)

NORMS = {"none": None, "bn": nn.BatchNorm2d}
RECIPES = ("gray", "colored", "jittered", "standardized")
SHIFTS = ("colors", "ginger", "lamp")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
GRAY, BACKGROUND = 0.3, 0.5
ORANGE = np.array([1.0, 0.55, 0.1])
BUDGETS = {
    "small": {
        "size": 14,
        "plan": (8, "M", 16, "M", 32),
        "train": 2000,
        "test": 1000,
        "steps": 72,
        "batch_size": 64,
        "first_rate": 0.1,
        "tuned_on": 2,
    },
    "full": {
        "size": 28,
        "plan": (12, "M", 24, "M", 48, "M"),
        "train": 8000,
        "test": 2000,
        "steps": 320,
        "batch_size": 100,
        "first_rate": 0.1,
        "tuned_on": 3,
    },
}
HELD_OUT = 1000  # images for choosing the rate, and as many for adapting
ADAPT_SIZES = (1, 4, 16, 64, 256, 1000)
FEW_CLASSES = (7, 8)  # sneakers and bags


# --- the images ------------------------------------------------------------------------------------------------------


def dye(garments: np.ndarray, tints: np.ndarray) -> np.ndarray:
    """Dye gray garments and put them on a gray background.

    Parameters
    ----------
    garments : ndarray, shape (N, H, W)
        Brightness of the garment in [0, 1], and 0 where there is none.
    tints : ndarray, shape (N, 3) or (3,)
        Red, green and blue, in [0, 1], that full brightness becomes.

    Returns
    -------
    ndarray of float32, shape (N, 3, H, W)
        ``(1 - a) * background + a * garment * tint``, where the opacity a is 4 times the brightness, 1 at most: so
        edges are soft.
    """
    opacity = np.clip(4 * garments, 0, 1)[:, None]
    tints = np.broadcast_to(tints, (len(garments), 3))[:, :, None, None]
    return np.float32((1 - opacity) * BACKGROUND + opacity * garments[:, None] * tints)


def hues(n: int, strength: float, seed: int) -> np.ndarray:
    """Draw n tints: dark gray at strength 0, pure hues all around the color circle at strength 1.

    Returns
    -------
    ndarray, shape (n, 3)
        Red, green, blue in [0, 1].
    """
    hue = np.random.default_rng(seed).random((n, 1))
    k = (np.array([5, 3, 1]) + 6 * hue) % 6
    pure = 1 - np.clip(np.minimum(k, 4 - k), 0, 1)  # HSV to RGB, with full saturation and value
    return (1 - strength) * GRAY + strength * pure


def standardize(images: np.ndarray) -> np.ndarray:
    """Take the color out of each image and standardize what is left: mean 0, standard deviation 1 over its pixels.

    Parameters
    ----------
    images : ndarray, shape (N, 3, H, W)

    Returns
    -------
    ndarray of float32, shape (N, 3, H, W)
        The same three times, so that the network stays the same.
    """
    gray = images.mean(axis=1, keepdims=True)
    mu = gray.mean(axis=(2, 3), keepdims=True)
    std = gray.std(axis=(2, 3), keepdims=True)
    return np.repeat((gray - mu) / (std + 1e-3), 3, axis=1)


def align(images: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Move and stretch each channel so that the mean and standard deviation of `new` become those of `old`.

    Parameters
    ----------
    images, new, old : ndarray, shape (N, 3, H, W)
        What to change, and images of the new and of the old distribution (no labels).

    Returns
    -------
    ndarray, shape of `images`
    """
    axes = (0, 2, 3)
    stretch = old.std(axis=axes, keepdims=True) / new.std(axis=axes, keepdims=True)
    return (images - new.mean(axis=axes, keepdims=True)) * stretch + old.mean(axis=axes, keepdims=True)


def jitter(seed: int):
    """Return an augmentation: each channel of each image is stretched about the background by a factor from -2 to 2.

    A negative factor makes what was darker than the background brighter than it.
    """
    generator = torch.Generator().manual_seed(seed)

    def augment(images: torch.Tensor) -> torch.Tensor:
        factors = (4 * torch.rand(len(images), 3, 1, 1, generator=generator) - 2).to(images.device)
        return BACKGROUND + factors * (images - BACKGROUND)

    return augment


def prepare(settings: dict) -> dict:
    """Dye everything that the experiment shows to a network.

    Returns
    -------
    dict
        ``"train"`` maps a recipe to a `Dataset` whose test set is for choosing the rate; ``"test"`` and ``"new"`` are
        what `shifted` makes of the garments to test on and of those to adapt to; ``"y_test"`` and ``"y_new"`` are
        their classes.
    """
    shipped = datasets.fashion(10_000, settings["test"])
    side, factor = settings["size"], 28 // settings["size"]
    x, x_test = (
        a.reshape(len(a), side, factor, side, factor).mean(axis=(2, 4)) for a in (shipped.x_train, shipped.x_test)
    )
    n = settings["train"]
    parts = {"train": slice(0, n), "tune": slice(8000, 8000 + HELD_OUT), "new": slice(9000, 9000 + HELD_OUT)}
    x = {name: x[part] for name, part in parts.items()}
    y = {name: shipped.y_train[part] for name, part in parts.items()}

    def together(change):
        return datasets.Dataset(change(x["train"], 1), y["train"], change(x["tune"], 2), y["tune"], shipped.classes)

    gray = together(lambda images, seed: dye(images, np.full(3, GRAY)))
    trained = {
        "gray": gray,
        "colored": together(lambda images, seed: dye(images, hues(len(images), 1.0, seed))),
        "jittered": gray,
        "standardized": together(lambda images, seed: standardize(dye(images, np.full(3, GRAY)))),
    }
    return {
        "train": trained,
        "test": shifted(x_test, seed=3),
        "new": shifted(x["new"], seed=4),
        "y_test": shipped.y_test,
        "y_new": y["new"],
    }


def shifted(garments: np.ndarray, seed: int) -> dict:
    """Return the garments as they look after every shift: images (N, 3, H, W) by (shift, strength)."""
    n = len(garments)
    images = {("colors", strength): dye(garments, hues(n, strength, seed)) for strength in STRENGTHS}
    images["ginger", 1.0] = dye(garments, ORANGE)
    images["lamp", 1.0] = dye(garments, np.full(3, GRAY)) * np.float32(ORANGE)[:, None, None]
    return images


# --- networks --------------------------------------------------------------------------------------------------------


def adapt(model: nn.Module, images) -> None:
    """AdaBN: replace the running statistics of every batch normalization layer by those of these images, in place.

    One pass in training mode, all images in one batch, no labels, no gradient. Weights, gamma and beta stay. The model
    is left in evaluation mode.

    Parameters
    ----------
    model : torch.nn.Module
        With at least one batch normalization layer that keeps running statistics.
    images : tensor or ndarray, shape (N, C, H, W)

    Raises
    ------
    ValueError
        If the model has no such layer: then there is nothing to adapt.

    References
    ----------
    Li et al. (2016), algorithm 1.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not layers:
        raise ValueError("the model has no batch normalization layer with running statistics: AdaBN can't adapt it")
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # forget the old statistics altogether
    try:
        model.train()
        with torch.no_grad():
            model(torch.as_tensor(images).to(layers[0].running_mean.device))
    finally:
        model.eval()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


class InputScaling(nn.Module):
    """Standardize images by the mean and standard deviation that each channel has in a training set.

    Parameters
    ----------
    images : ndarray, shape (N, C, H, W)
        The training set. Its statistics are computed once and never change.
    """

    def __init__(self, images: np.ndarray):
        super().__init__()
        axes = (0, 2, 3)
        self.register_buffer("mean", torch.tensor(images.mean(axis=axes, keepdims=True, dtype=np.float64)).float())
        self.register_buffer("std", torch.tensor(images.std(axis=axes, keepdims=True, dtype=np.float64)).float())

    def forward(self, x):
        """Return (x - mean) / std, per channel."""
        return (x - self.mean) / self.std


def fit(arm: str, recipe: str, rate: float, seed: int, data, settings: dict, device="cpu"):
    """Train one network. Returns the model, in evaluation mode, and its `bnlab.training.History`."""
    network = seeded(seed, lambda: SmallConv(NORMS[arm], settings["plan"], size=settings["size"], in_channels=3))
    model = nn.Sequential(InputScaling(data.x_train), network)
    model = model.to(device, memory_format=torch.channels_last)  # faster on a CPU
    history = train(
        model,
        data,
        sgd(model, rate),
        steps=settings["steps"],
        batch_size=settings["batch_size"],
        seed=seed,
        schedule=lambda progress: 1 - progress,
        transform=jitter(seed) if recipe == "jittered" else None,
    )
    return model, history


def search(error, start: float) -> float:
    """Find a learning rate that is better than its half and its double.

    Parameters
    ----------
    error : callable
        Maps a rate to a number to be small. Called once for each rate.
    start : float
        Where to begin; the rates tried are ``start * 2**k``.

    Returns
    -------
    float
    """
    errors = {start: error(start)}
    while True:
        best = min(errors, key=errors.get)
        missing = [rate for rate in (best / 2, 2 * best) if rate not in errors]
        if not missing:
            return best
        errors.update({rate: error(rate) for rate in missing})


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train every arm on every recipe, test on every kind of image, and repair.

    Rows have a ``kind``: "rate" (error on validation images for a learning rate), "test" (error on test images),
    "aligned" and "adabn" (the same after a repair that doesn't train), "adabn, few classes" (the images adapted to are
    of two classes only) and "adabn, gray again" (error on gray images after adapting to others). All have ``arm``,
    ``recipe``, ``seed``, ``rate`` and ``error`` (a fraction); all but the first have ``images`` (a shift) and
    ``strength``, and where it applies ``steps``, ``seconds``, ``adapted_on`` (how many unlabeled images).

    A small run has images of 14x14, three convolutions and 2,000 images; a full one 28x28, wider, longer, 8,000 images.
    """
    settings = BUDGETS.get(budget, BUDGETS["small"])  # conduct refuses another budget
    made = {}

    def measure(unit):
        if not made:
            made.update(prepare(settings))
        return _measure(unit["arm"], unit["recipe"], list(seeds), made, settings, device)

    units = [{"arm": arm, "recipe": recipe} for recipe in RECIPES for arm in NORMS]
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _measure(arm, recipe, seeds, images, settings, device):
    data, fits = images["train"][recipe], {}

    def fitted(rate, seed):
        if (rate, seed) not in fits:
            fits[rate, seed] = fit(arm, recipe, rate, seed, data, settings, device)
        return fits[rate, seed]

    def validation_error(rate):
        return float(np.mean([fitted(rate, seed)[1].test_error[-1] for seed in seeds[: settings["tuned_on"]]]))

    best = search(validation_error, settings["first_rate"])
    rows = [
        {"kind": "rate", "rate": rate, "seed": seed, "error": history.test_error[-1]}
        for (rate, seed), (_, history) in fits.items()
    ]
    prepared = standardize if recipe == "standardized" else lambda x: x
    tests = {where: prepared(x) for where, x in images["test"].items()}
    for seed in seeds:
        model, history = fitted(best, seed)
        common = {"seed": seed, "rate": best}
        effort = {"steps": settings["steps"], "seconds": history.seconds[-1]}
        for (shift, strength), x in tests.items():
            row = {"kind": "test", "images": shift, "strength": strength, **effort, **common}
            rows.append({**row, "error": evaluate(model, x, images["y_test"])[1]})
        if recipe == "gray":
            rows += [{**row, **common} for row in _repair(model, images)]
    return rows


def _repair(model, images):
    """Yield rows for the repairs that don't train."""
    y, old = images["y_test"], images["train"]["gray"].x_train
    adapted = deepcopy(model)
    has_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    for shift in SHIFTS:
        x, new = images["test"][shift, 1.0], images["new"][shift, 1.0]
        where = {"images": shift, "strength": 1.0, "adapted_on": len(new)}
        start = perf_counter()
        x_aligned = align(x, new, old)
        row = {"kind": "aligned", "seconds": perf_counter() - start, **where}
        yield {**row, "error": evaluate(model, x_aligned, y)[1]}
        if not has_norm:
            continue
        few = new[np.isin(images["y_new"], FEW_CLASSES)]
        adapt(adapted, few)
        row = {"kind": "adabn, few classes", **where, "adapted_on": len(few)}
        yield {**row, "error": evaluate(adapted, x, y)[1]}
        for n in ADAPT_SIZES:
            start = perf_counter()
            adapt(adapted, new[:n])
            row = {"kind": "adabn", "seconds": perf_counter() - start, **where, "adapted_on": n}
            yield {**row, "error": evaluate(adapted, x, y)[1]}
        yield {"kind": "adabn, gray again", **where, "error": evaluate(adapted, images["test"]["colors", 0.0], y)[1]}


# --- what it says ----------------------------------------------------------------------------------------------------


def accuracy(result: Result, arm: str, kind: str = "test", recipe: str = "gray", images="colors", **where) -> Estimate:
    """Return the accuracy in percent over the seeds, for an arm, a kind of row, a way of training and a shift.

    `where` may give ``strength`` (1.0 unless given) and ``adapted_on``.
    """
    where = {"arm": arm, "kind": kind, "recipe": recipe, "images": images, "strength": 1.0, **where}
    return Estimate.of(100 * (1 - result.column("error", **where)), unit="%")


def lost(result: Result, arm: str, images: str = "colors", strength: float = 1.0) -> Estimate:
    """Return how many points of accuracy networks trained on gray lose to a shift, each against itself."""
    where = {"arm": arm, "recipe": "gray", "kind": "test"}
    before = result.column("error", images="colors", strength=0.0, **where)
    after = result.column("error", images=images, strength=strength, **where)
    return Estimate.of(100 * (after - before), unit="points")


def repairs(result: Result, images: str, arm: str) -> list[dict]:
    """List what each repair regains and costs, for one shift and one arm.

    Returns
    -------
    list of dict
        With ``repair``, ``accuracy`` after it (an `Estimate`), new ``labels`` and ``unlabeled`` images that it needs,
        and ``seconds``, the median time for training or adapting.
    """
    n = result.settings["train"]
    listed = []
    for name, recipe, kind, labels, unlabeled in (
        ("nothing", "gray", "test", 0, 0),
        ("align the channels", "gray", "aligned", 0, HELD_OUT),
        ("AdaBN", "gray", "adabn", 0, HELD_OUT),
        ("standardize each image", "standardized", "test", 0, 0),
        ("jitter the channels", "jittered", "test", 0, 0),
        ("retrain on colors", "colored", "test", n, 0),
    ):
        if kind == "adabn" and NORMS[arm] is None:
            continue
        where = {"arm": arm, "recipe": recipe, "kind": kind, "images": images, "strength": 1.0}
        where |= {"adapted_on": unlabeled} if unlabeled else {}
        seconds = 0.0 if name == "nothing" else float(np.median(result.column("seconds", **where)))
        listed.append(
            {
                "repair": name,
                "accuracy": Estimate.of(100 * (1 - result.column("error", **where)), unit="%"),
                "labels": labels,
                "unlabeled": unlabeled,
                "seconds": seconds,
            }
        )
    return listed


FAILURE = 10.0  # points of accuracy; a smaller loss isn't what "fails" means


def verdicts(result: Result) -> list[Verdict]:
    """Judge C03 by the points of accuracy that networks trained on gray lose to colors.

    A shift breaks an arm if the whole interval of its loss is at least 10 points. C03 "holds" if every strength of the
    shift breaks both arms; "conditions" if pure hues (strength 1) break both, but a weaker tint does not; "refuted" if
    the whole interval stays below 10 points even for pure hues, in both arms; else it is "open". The number is the loss
    to pure hues in the arm that loses less.
    """
    losses = {(arm, strength): lost(result, arm, strength=strength) for arm in NORMS for strength in STRENGTHS[1:]}
    broken = {key: loss.low >= FAILURE for key, loss in losses.items()}
    strongest = {arm: losses[arm, 1.0] for arm in NORMS}
    if all(broken.values()):
        verdict = "holds"
    elif all(broken[arm, 1.0] for arm in NORMS):
        verdict = "conditions"
    elif all(loss.high < FAILURE for loss in strongest.values()):
        verdict = "refuted"
    else:
        verdict = "open"
    weakest = STRENGTHS[1]
    return [
        Verdict(
            claim="C03",
            verdict=verdict,
            number=min(strongest.values(), key=lambda loss: loss.median),
            what="of accuracy lost, when garments learned in dark gray get a hue each, in the arm that loses less",
            because=f"Pure hues cost {strongest['none']:.0f} without BN and {strongest['bn']:.0f} with it; a tint of "
            f"{weakest:g} of that strength costs {losses['none', weakest]:.1f} and {losses['bn', weakest]:.1f}.",
        )
    ]


LOOKS = {"none": ("no BN", "C1", "o", "--"), "bn": ("BN", "C0", "s", "-")}


def plot(result: Result):
    """Plot the accuracy of networks trained on gray against the strength of the color shift."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for arm, (label, color, marker, style) in LOOKS.items():
        found = [accuracy(result, arm, strength=strength) for strength in STRENGTHS]
        ax.fill_between(STRENGTHS, [e.low for e in found], [e.high for e in found], color=color, alpha=0.25, lw=0)
        ax.plot(STRENGTHS, [e.median for e in found], style, marker=marker, color=color, label=label)
    ax.axhline(10, color="black", lw=1, ls=":")
    ax.text(0, 12, "guessing")
    ax.set(xlabel="strength of the colors (0: dark gray, as in training)", ylabel="accuracy (%)", ylim=(0, 95))
    ax.legend(loc="upper right")
    return fig


def plot_repairs(result: Result):
    """Plot the accuracy after each repair, one panel for each shift."""
    import matplotlib.pyplot as plt

    titles = {"colors": "Each garment has its own color", "ginger": "All garments orange", "lamp": "Orange light"}
    fig, axes = plt.subplots(len(SHIFTS), 1, figsize=(6.4, 8.6), sharex=True)
    names = [row["repair"] for row in repairs(result, "colors", "bn")]
    for ax, shift in zip(axes, SHIFTS, strict=True):
        for arm, (label, color, marker, _) in LOOKS.items():
            for row in repairs(result, shift, arm):
                estimate = row["accuracy"]
                y = len(names) - names.index(row["repair"]) + (0.14 if arm == "bn" else -0.14)
                ax.plot([estimate.low, estimate.high], [y, y], color=color, lw=2)
                ax.plot(estimate.median, y, marker, color=color, label=label if row["repair"] == "nothing" else None)
        ax.axvline(accuracy(result, "bn", strength=0.0).median, color="black", lw=1, ls=":")
        ax.set(yticks=range(len(names), 0, -1), yticklabels=names, title=titles[shift], xlim=(0, 90))
    axes[-1].set_xlabel("accuracy (%)")
    axes[0].legend(loc="lower left")
    return fig


def plot_adapted(result: Result):
    """Plot the accuracy after AdaBN against the number of unlabeled images, for each shift."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for shift, color, marker in zip(SHIFTS, ("C0", "C1", "C2"), "os^", strict=True):
        found = [accuracy(result, "bn", "adabn", images=shift, adapted_on=n) for n in ADAPT_SIZES]
        ax.fill_between(ADAPT_SIZES, [e.low for e in found], [e.high for e in found], color=color, alpha=0.2, lw=0)
        ax.plot(ADAPT_SIZES, [e.median for e in found], marker=marker, color=color, label=shift)
        ax.axhline(accuracy(result, "bn", images=shift).median, color=color, ls=":")
    ax.set(xscale="log", xlabel="unlabeled images of the new kind", ylabel="accuracy (%)", ylim=(0, 95))
    ax.legend(ncols=3, loc="upper center")
    return fig
