"""Six values go through batch normalization, line by line."""

import matplotlib.pyplot as plt
import numpy as np

from bnlab.reference import batch_norm_forward

ALT = (
    "Six values on three number lines, one above the other, joined by lines: as they come in, normalized, and as they "
    "leave. The values that come in lie between minus two and six; a bar marks their mean and one standard deviation "
    "to each side. Normalized, they lie around zero, and the bar reaches from minus one to plus one. With gamma 1 and "
    "beta 0 they leave as they are."
)
HEIGHT = (600, 680)
X = (-2.0, 0.2, 1.4, 2.6, 3.8, 6.0)
RUNNING = {"mean": 1.0, "var": 4.0}


def data():
    """The statistics that evaluation uses."""
    return RUNNING


def still(data):
    """The start: statistics of the batch, gamma 1 and beta 0."""
    y, cache = batch_norm_forward(np.array(X)[:, None])
    lines = (np.array(X), cache.x_hat[:, 0], y[:, 0])
    figure, ax = plt.subplots(figsize=(6.4, 4.6))
    for place, (values, name) in enumerate(zip(lines, ("x", "x_hat", "y"), strict=True)):
        level = 2 - place
        ax.axhline(level, color="0.8", lw=1, zorder=0)
        ax.errorbar(values.mean(), level - 0.22, xerr=values.std(), fmt="|", color="black", ms=10, capsize=4, lw=1.5)
        ax.text(-6.9, level + 0.08, name, weight="bold")
    for k in range(len(X)):
        ax.plot([line[k] for line in lines], [2, 1, 0], "o-", ms=7, lw=1, color=f"C{k}")
    ax.set(xlim=(-7, 9.5), ylim=(-0.5, 2.5), yticks=[])
    ax.grid(False, axis="y")
    return figure
