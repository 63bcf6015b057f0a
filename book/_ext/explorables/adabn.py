"""AdaBN by degrees: what becomes of the first layer's values, and of the accuracy, as statistics move to a new light.

One pass in training mode over unlabeled images moves running statistics from the old ones to those of the images, by
the fraction that the layer calls its momentum: `(1 - momentum) * old + momentum * new`. AdaBN is momentum 1. Accuracies
are measured for every position of the controls, with five networks; histograms and statistics of the first batch
normalization layer are those of the first network, and the browser normalizes them.
"""

from copy import deepcopy

import matplotlib.pyplot as plt
import numpy as np
import torch
from remembered import remembered

from bnlab.experiments import color_shift, recall
from bnlab.training import evaluate

HEIGHT = (700, 860)
MOVED = tuple(range(0, 101, 10))  # percent of the way
IMAGES = (1, 16, 1000)
BINS = 48
LABELS = {"lamp": "orange light", "ginger": "all garments orange", "colors": "each garment its own color"}

ALT = (
    "Two panels for networks that were trained on gray garments and now see them under an orange lamp. Above, "
    "histograms of one channel behind the first batch normalization layer: with the old statistics the new values lie "
    "to the left of the gray ones and closer together; with those of the new images they have the gray ones' mean and "
    "spread. Below, accuracy against how far the statistics were moved, from the old ones to the new: it hardly rises "
    "at first, steeply in the second half, and ends short of the dotted line of the gray garments."
)


def layers(model):
    """The batch normalization layers of a network."""
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]


def moved(model, adapted, percent):
    """A copy of a network whose running statistics lie between its own and those of the adapted one."""
    between, share = deepcopy(model), percent / 100
    for layer, old, new in zip(layers(between), layers(model), layers(adapted), strict=True):
        for name in ("running_mean", "running_var"):
            getattr(layer, name).copy_((1 - share) * getattr(old, name) + share * getattr(new, name))
    return between


def before_normalization(model, images):
    """What the first batch normalization layer is given, in float64: one row for each channel."""
    scaling, network = model
    with torch.no_grad():
        values = network.features[0](scaling(torch.as_tensor(images))).double().numpy()
    return values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)


def statistics(model):
    """The running statistics of the first layer."""
    first = layers(model)[0]
    return {"mean": first.running_mean.double().tolist(), "var": first.running_var.double().tolist()}


def measure():
    """Accuracies of five networks, and what the first layer of the first one sees."""
    result = recall("color_shift")
    settings, made = result.settings, color_shift.prepare(result.settings)
    rate = result.column("rate", kind="test", arm="bn", recipe="gray")[0]
    accuracy = {shift: {str(n): [] for n in IMAGES} for shift in LABELS}
    new = {shift: {} for shift in LABELS}
    for seed in reversed(result.seeds):  # the first one last: its layer is looked at below
        model, _ = color_shift.fit("bn", "gray", rate, seed, made["train"]["gray"], settings)
        for shift in LABELS:
            x, y = made["test"][shift, 1.0], made["y_test"]
            for n in IMAGES:
                adapted = deepcopy(model)
                color_shift.adapt(adapted, made["new"][shift, 1.0][:n])
                errors = [evaluate(moved(model, adapted, percent), x, y)[1] for percent in MOVED]
                accuracy[shift][str(n)].append([100 * (1 - error) for error in errors])
                new[shift][str(n)] = statistics(adapted)

    values = {"gray": before_normalization(model, made["test"]["colors", 0.0])}
    values |= {shift: before_normalization(model, made["test"][shift, 1.0]) for shift in LABELS}
    low = np.min([v.min(axis=1) for v in values.values()], axis=0)
    high = np.max([v.max(axis=1) for v in values.values()], axis=0)
    edges = np.linspace(low, high, BINS + 1, axis=1)
    return {
        "moved": list(MOVED),
        "gray": (100 * (1 - result.column("error", kind="test", arm="bn", recipe="gray", strength=0.0))).tolist(),
        "accuracy": accuracy,  # shift, images, seed, moved
        "eps": layers(model)[0].eps,
        "old": statistics(model),
        "new": new,
        "edges": edges.tolist(),
        "seen": {
            name: {
                "mean": v.mean(axis=1).tolist(),
                "var": v.var(axis=1).tolist(),
                "counts": [np.histogram(row, bins=e)[0].tolist() for row, e in zip(v, edges, strict=True)],
            }
            for name, v in values.items()
        },
    }


def data():
    """What `measure` found."""
    return remembered(__file__, "color_shift", measure)


def still(data, shift="lamp", images="1000", channel=0):
    """The histograms with old and new statistics, and the accuracy between them."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 5.6))
    edges = np.array(data["edges"][channel])

    def outline(name, statistics, **look):
        scale = np.sqrt(statistics["var"][channel] + data["eps"])
        counts = np.array(data["seen"][name]["counts"][channel])
        at = (edges - statistics["mean"][channel]) / scale
        top.stairs(counts / counts.sum() / np.diff(at), at, **look)

    outline("gray", data["old"], color="0.5", fill=True, alpha=0.4, label="gray, as in training")
    outline(shift, data["old"], color="C1", lw=2, ls="--", label=f"{LABELS[shift]}, old statistics")
    outline(shift, data["new"][shift][images], color="C0", lw=2, label="the same, new statistics")
    top.set(xlabel=f"channel {channel + 1} behind normalization", ylabel="density", xlim=(-4, 4))
    top.legend(fontsize="small")
    accuracy = np.array(data["accuracy"][shift][images])
    bottom.fill_between(data["moved"], accuracy.min(axis=0), accuracy.max(axis=0), alpha=0.25, lw=0)
    bottom.plot(data["moved"], np.median(accuracy, axis=0), "o-")
    bottom.axhline(np.median(data["gray"]), color="black", lw=1, ls=":")
    bottom.set(xlabel="statistics moved from old (0) to new (100 %)", ylabel="accuracy (%)", ylim=(0, 95))
    return figure
