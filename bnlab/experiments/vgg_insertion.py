"""What happens if batch normalization is inserted into a trained VGG? The experiment behind claim C20.

A small VGG is trained without normalization. Then a BN layer goes behind every convolution, with several choices of
gamma and beta: those that undo the normalization (`bnlab.retrofit.insert_batch_norm`), the two near misses (the
variance itself; the root without eps), and none (gamma 1, beta 0). Outputs before and after are compared, in evaluation
and in training mode. Last, the network as it was, the exact insertion and the one without repair are trained
further on new images, each at its own best learning rate.

What this isn't: training with BN from the start (`vgg_from_scratch`).
"""

import copy
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnlab.datasets import Dataset
from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict
from bnlab.experiments.vgg_from_scratch import clothes, cosine
from bnlab.models import small_vgg
from bnlab.retrofit import fold_batch_norm, insert_batch_norm
from bnlab.training import seeded, sgd, train

EXPERIMENT = Experiment(
    name="vgg_insertion",
    title="BN inserted into a trained small VGG: choices of gamma and beta, and training further",
    claims=("C20",),
    section="sec-vgg-insertion",
    fair="All variants start from the same trained weights and calibration images. Training further: SGD with momentum "
    "0.9, cosine schedule, the same new images; each arm at the best of its rates, chosen with two other seeds "
    "on validation images.",
)
CHOICES = {
    "sqrt(var + eps)": lambda var, eps: (var + eps).sqrt(),
    "sqrt(var)": lambda var, eps: var.sqrt(),
    "var": lambda var, eps: var,
    "1 (and beta = 0)": lambda var, eps: torch.ones_like(var),
}
FURTHER = ("as it was", "exact insertion", "gamma 1, beta 0")
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
TUNING_SEEDS = (1001, 1002)
SIZES = {
    "small": {"n": 4000, "side": 14, "width": 8, "pretraining": 120, "further": 45, "batch": 50},
    "full": {"n": 10_000, "side": 28, "width": 12, "pretraining": 400, "further": 200, "batch": 100},
}
EPS = 1e-5
ZERO = 1e-9  # where a logarithmic axis has room for 0


def split(n: int, side: int, part: str = "test") -> tuple[Dataset, Dataset]:
    """Return two data sets: the first half of n training images, and the second, with the same others for `part`."""
    data, half = clothes(n, side, part), n // 2
    first = data._replace(x_train=data.x_train[:half], y_train=data.y_train[:half])
    second = data._replace(x_train=data.x_train[half:], y_train=data.y_train[half:])
    return first, second


def insert(model: nn.Module, images: torch.Tensor, choice: str) -> nn.Module:
    """Insert BN behind every convolution, with gamma and beta as `choice` says: a key of `CHOICES`."""
    return chosen(insert_batch_norm(model, images.split(250), layers=["features"], eps=EPS).eval(), choice)


def chosen(exact: nn.Module, choice: str) -> nn.Module:
    """Copy a network with exactly inserted BN, and give its gamma and beta another `choice`: a key of `CHOICES`."""
    inserted = copy.deepcopy(exact)
    for layer in inserted.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and choice != "sqrt(var + eps)":
            layer.weight.data = CHOICES[choice](layer.running_var, layer.eps)
            if choice.startswith("1"):
                layer.bias.data.zero_()
    return inserted


@torch.no_grad()
def outputs(model: nn.Module, data: Dataset) -> tuple[torch.Tensor, float, float]:
    """Return the logits for the test images in evaluation mode, their mean cross-entropy and their error."""
    device = next(model.parameters()).device
    logits, labels = model.eval()(torch.tensor(data.x_test).to(device)), torch.tensor(data.y_test).to(device)
    return logits, F.cross_entropy(logits, labels).item(), (logits.argmax(1) != labels).float().mean().item()


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Insert with every choice into every seed's network; then tune and train further; full: larger and longer."""
    size = SIZES.get(budget, SIZES["small"])

    @cache
    def pretrained(seed):
        """The trained network of a seed; trained when it is first asked for."""
        data, _ = split(size["n"], size["side"])
        model = seeded(seed, lambda: small_vgg(None, size["width"], size=size["side"])).to(device)
        options = {"steps": size["pretraining"], "batch_size": size["batch"], "seed": seed, "schedule": cosine}
        train(model, data, sgd(model, 0.03), **options)
        return model.eval()

    @cache
    def before(seed):
        """Its outputs."""
        return outputs(pretrained(seed), split(size["n"], size["side"])[0])

    @cache
    def exact(seed):
        """The same with BN, inserted exactly; all choices start from a copy, as one pass over the images is enough."""
        first, _ = split(size["n"], size["side"])
        return insert(pretrained(seed), torch.tensor(first.x_train).to(device), "sqrt(var + eps)")

    def further(arm, rate, seed, part="test"):
        _, second = split(size["n"], size["side"], part)
        if arm == "as it was":
            model = copy.deepcopy(pretrained(seed))
        else:
            model = chosen(exact(seed), "sqrt(var + eps)" if arm == "exact insertion" else "1 (and beta = 0)")
        model = model.to(memory_format=torch.channels_last)  # a tenth faster or more
        options = {"steps": size["further"], "batch_size": size["batch"], "seed": seed, "schedule": cosine}
        return train(model, second, sgd(model, rate), **options)

    tuned = {}

    def measure(unit):
        first, _ = split(size["n"], size["side"])
        if "choice" in unit:
            model = pretrained(unit["seed"])
            after = chosen(exact(unit["seed"]), unit["choice"])
            (old, loss_before, _), (new, loss, error) = before(unit["seed"]), outputs(after, first)
            row = {"relative_error": ((new - old).abs().max() / old.abs().max()).item()}
            row |= {"loss": loss, "error": error, "loss_before": loss_before}
            with torch.no_grad():  # the same layers, normalizing by the statistics of a batch of 32
                x = torch.tensor(first.x_test[:32]).to(device)
                calm, live = model(x), copy.deepcopy(after).train()(x)
            row["relative_error_training_mode"] = ((live - calm).abs().max() / calm.abs().max()).item()
            if unit["choice"] == "sqrt(var + eps)":
                folded = fold_batch_norm(after)
                pairs = zip(folded.state_dict().values(), model.state_dict().values(), strict=True)
                row["round_trip"] = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
            return row
        if "rate" in unit:
            return {
                "tuning_loss": float(
                    np.mean([further(unit["arm"], unit["rate"], s, "validation").test_loss[-1] for s in TUNING_SEEDS])
                )
            }
        history = further(unit["arm"], tuned[unit["arm"]], unit["seed"])
        error_before = before(unit["seed"])[2]
        return {"learning_rate": tuned[unit["arm"]], "error_before": error_before, "error": history.test_error[-1]}

    options = {"seeds": seeds, "device": device, "budget": budget}
    settings = size | {"learning_rates": LEARNING_RATES, "tuning_seeds": TUNING_SEEDS, "eps": EPS}
    journal = journal or Journal()
    units = [{"choice": choice, "seed": seed} for seed in seeds for choice in CHOICES]
    units += [{"arm": arm, "rate": rate} for arm in FURTHER for rate in LEARNING_RATES]
    losses = conduct(EXPERIMENT, units, measure, journal=journal, settings=settings, **options)
    for arm in FURTHER:
        row = min(losses.select(arm=arm), key=lambda row: np.nan_to_num(row["tuning_loss"], nan=np.inf))
        tuned[arm] = row["rate"]
    units += [{"arm": arm, "seed": seed} for seed in seeds for arm in FURTHER]
    return conduct(EXPERIMENT, units, measure, journal=journal, settings=settings, **options)


def finals(result: Result, arm: str) -> np.ndarray:
    """Return the test error after training further, one per seed."""
    return np.array([row["error"] for row in result.select(arm=arm) if "seed" in row])


def plot(result: Result):
    """Draw the relative error of the logits for every choice of gamma, one dot per seed; 0 stands on the left."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    for k, choice in enumerate(CHOICES):
        errors = result.column("relative_error", choice=choice)
        ax.plot(np.where(errors > 0, errors, ZERO), [k] * len(errors), "o", color="C0" if k == 0 else "C1")
    ax.axvline(10 * ZERO, color="black", lw=0.8, ls=":")
    ax.text(ZERO, len(CHOICES) - 0.75, "0", ha="center")
    ax.set(xscale="log", yticks=range(len(CHOICES)), yticklabels=[f"gamma = {choice}" for choice in CHOICES])
    ax.set(xlabel="largest change of a logit, relative to the largest logit", ylim=(-0.5, len(CHOICES) - 0.5))
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C20 by the relative error of the logits after insertion.

    It holds if the exact choice stays below 1e-5 for every seed, while no repair (gamma 1, beta 0) changes the logits
    by more than a tenth; it holds with conditions if only the first is so, and is refuted if not even that is.
    """
    exact = Estimate.of(result.column("relative_error", choice="sqrt(var + eps)"))
    without = Estimate.of(result.column("relative_error", choice="1 (and beta = 0)"))
    var = Estimate.of(result.column("relative_error", choice="var"))
    verdict = "refuted" if exact.high >= 1e-5 else "holds" if without.low > 0.1 else "conditions"
    what = "is the relative change of the outputs with gamma = sqrt(var + eps), beta = mean"
    because = f"Without repair it is {without}; with gamma = var, {var}."
    return [Verdict("C20", verdict, exact, what, because)]
