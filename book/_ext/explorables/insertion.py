"""Batch normalization inserted into a trained VGG: four choices of gamma, and eps to move.

Means and variances are those of the channels of the small VGG that comes with bnlab, on images it has not seen. What
the inserted layer makes of each channel follows from them exactly, and the browser computes it. What the whole network
makes of it can't be computed from them: that is measured here, in float64, for every choice and eps on the slider.
"""

from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
import torch
from remembered import remembered

from bnlab import datasets, trained
from bnlab.experiments import vgg_insertion

HEIGHT = (660, 760)
EPS = tuple(10.0**k for k in range(-8, 1))
CALIBRATION, SHOWN = slice(8000, 8200), slice(8200, 8300)  # images that the network has not learned from
GAMMAS = {
    "exact": "sqrt(var + eps)",
    "root": "sqrt(var)",
    "var": "var",
    "one": "1 (and beta = 0)",
}  # the keys of vgg_insertion.CHOICES

ALT = (
    "Standard deviation of each channel behind the inserted layer against that before it, both logarithmic, for the "
    "six convolutions of a trained VGG. With gamma the root of the variance plus eps all points lie on the diagonal: "
    "nothing has changed. With gamma equal to the variance they lie on a line twice as steep, too high where the "
    "standard deviation is above one and too low below. With gamma 1 they lie on a level line: every channel has "
    "standard deviation one."
)


def _layers(model):
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]


def chosen(exact, gamma, eps):
    """A copy of the network with inserted layers, with another gamma and eps."""
    model, choice = deepcopy(exact), vgg_insertion.CHOICES[GAMMAS[gamma]]
    for layer in _layers(model):
        layer.eps = eps
        layer.weight.data = choice(layer.running_var, eps)
        layer.bias.data = torch.zeros_like(layer.running_mean) if gamma == "one" else layer.running_mean.clone()
    return model


@torch.no_grad()
def measure():
    """Statistics of all channels, and how much the network's outputs change."""
    images = torch.tensor(datasets.fashion(10_000, 1).x_train, dtype=torch.float64)
    vgg = trained.small_vgg().double()
    exact = vgg_insertion.insert(vgg, images[CALIBRATION], GAMMAS["exact"])
    before, measured = vgg(images[SHOWN]), {}
    for gamma in GAMMAS:
        measured[gamma] = []
        for eps in EPS:
            after = chosen(exact, gamma, eps)(images[SHOWN])
            measured[gamma].append(
                {
                    "change": float((after - before).abs().max() / before.abs().max()),
                    "classes": float((after.argmax(1) != before.argmax(1)).double().mean()),
                }
            )
    return {
        "eps": list(EPS),
        "layers": [{"mean": b.running_mean.tolist(), "var": b.running_var.tolist()} for b in _layers(exact)],
        "measured": measured,
    }


def data():
    """What `measure` found."""
    return remembered(__file__, "vgg_insertion", measure)


def still(data, eps=1e-5):
    """Every channel's standard deviation before and behind the inserted layer, for three choices."""
    figure, ax = plt.subplots()
    var = np.concatenate([layer["var"] for layer in data["layers"]])
    before = np.sqrt(var)
    choices = {
        "γ = √(σ² + ε)": (np.sqrt(var + eps), "C0o"),
        "γ = σ²": (var, "C1^"),
        "γ = 1, β = 0": (np.ones_like(var), "C2s"),
    }
    for label, (gamma, look) in choices.items():
        ax.plot(before, gamma * before / np.sqrt(var + eps), look, ms=4, alpha=0.7, label=label)
    ends = np.array([before.min(), before.max()])
    ax.plot(ends, ends, color="black", lw=1)
    ax.set(xscale="log", yscale="log", xlabel="standard deviation before", ylabel="behind the inserted layer")
    ax.legend()
    return figure
