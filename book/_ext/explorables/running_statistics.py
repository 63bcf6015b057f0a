"""Running statistics of one neuron: how they follow the batches, by momentum and batch size."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from bnlab.reference import RunningStatistics

ALT = (
    "Two panels over 100 batches of 16 values: the mean above, the variance below. Dots, one for each batch, scatter "
    "around a dashed level, the statistics of all images; in the middle that level jumps. A line, the running "
    "statistic with momentum 0.1, starts at zero for the mean and at one for the variance, comes near the dashed "
    "level after some twenty batches, and takes about as long again after the jump."
)
HEIGHT = (620, 700)
BATCHES, LARGEST = 100, 64
MOMENTUM, SIZE = 0.1, 16


def data():
    """What a random neuron answers to 100 batches of 64 images of digits; the smaller batches are parts of these."""
    rng = np.random.default_rng(0)
    images = load_digits().data
    values = images @ rng.normal(size=64) / np.sqrt(64)
    batches = rng.choice(values, size=(BATCHES, LARGEST)).round(1)
    return {"batches": batches.tolist(), "mean": values.mean(), "var": values.var()}


def still(data):
    """The jump, followed at the momentum and batch size of the start."""
    batches = np.array(data["batches"])[:, :SIZE]
    batches[BATCHES // 2 :] = 1.5 * batches[BATCHES // 2 :] - np.sqrt(data["var"])
    running, line = RunningStatistics(1, momentum=MOMENTUM), []
    for batch in batches:
        running.update(np.array([batch.mean()]), np.array([batch.var()]), SIZE)
        line.append((running.mean[0], running.var[0]))
    level = np.repeat([[data["mean"], data["var"]]], BATCHES, axis=0)
    level[BATCHES // 2 :] = level[BATCHES // 2 :] * (1.5, 1.5**2) - (np.sqrt(data["var"]), 0)
    dots = np.stack([batches.mean(axis=1), batches.var(axis=1, ddof=1)], axis=1)
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 5.6), sharex=True)
    for k, (ax, name) in enumerate(zip(axes, ("mean", "variance"), strict=True)):
        ax.plot(np.arange(1, BATCHES + 1), dots[:, k], "o", ms=4, alpha=0.5, color="C0", label="batch")
        ax.plot(np.arange(1, BATCHES + 1), level[:, k], "--", color="black", lw=1.2, label="all images")
        ax.plot(np.arange(BATCHES + 1), [(0, 1)[k], *np.array(line)[:, k]], color="C1", label="running")
        ax.set(ylabel=name)
    axes[0].legend(loc="lower left")
    axes[1].set(xlabel="batch", ylim=(0, None))
    return figure
