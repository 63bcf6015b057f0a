"""Gradient descent on two badly scaled features, and on the same features standardized."""

import matplotlib.pyplot as plt
import numpy as np

from bnlab.experiments.feature_scaling import descend, hessian, loss, scale, two_scales

ALT = (
    "A map of the loss over the two weights with the path of gradient descent, and below it the loss left after each "
    "of 30 steps. The features are raw and the learning rate is close to its limit: the contours are long, thin "
    "ellipses, and the path jumps from one wall of the ravine to the other while it creeps along the floor. After 30 "
    "steps it has not arrived."
)
HEIGHT = (620, 680)
RATE, STEPS = 0.9, 30
SCALINGS = {"raw": "centered", "standardized": "standardized"}  # centered: the map needs no bias


def problem(scaling):
    """Return the features and the target, both with mean 0."""
    X, y = two_scales(7, ranges=((0, 1), (0, 5)))
    return scale(X, SCALINGS[scaling]), y - y.mean()


def data():
    """The Hessian of each loss, its lowest point, and the height of the start above it."""
    found = {}
    for scaling in SCALINGS:
        X, y = problem(scaling)
        end = np.linalg.lstsq(X, y, rcond=None)[0]
        height = loss(X, y, np.zeros(3)) - loss(X, y, np.r_[0, end])
        found[scaling] = {"hessian": hessian(X)[1:, 1:].tolist(), "end": end.tolist(), "height": float(height)}
    return found


def still(data):
    """Raw features at the learning rate of the start."""
    X, y = problem("raw")
    end = np.array(data["raw"]["end"])
    path = descend(X, y, RATE, STEPS)
    left = (loss(X, y, path) - loss(X, y, np.r_[0, end])) / data["raw"]["height"]
    reach = 1.3 * np.abs(end).max()
    w1, w2 = np.meshgrid(end[0] + np.linspace(-reach, reach, 200), end[1] + np.linspace(-reach / 2, reach / 2, 200))
    around = loss(X, y, np.stack([0 * w1, w1, w2], axis=-1)) - loss(X, y, np.r_[0, end])
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.8), height_ratios=(2, 1))
    levels = [0.03, 0.1, 0.3, 1, 3, 10]
    above.contour(w1, w2, around / data["raw"]["height"], levels=levels, colors="0.55", linewidths=1)
    above.plot(*path[:, 1:].T, "o-", ms=4, lw=1.5, color="C1")
    above.plot(*end, "*", color="black", ms=14)
    above.set(xlabel="weight of feature 1", ylabel="weight of feature 2", aspect="equal")
    above.grid(False)
    below.semilogy(left, "o-", ms=4, lw=1.5, color="C1")
    below.set(xlabel="step", ylabel="loss left", ylim=(1e-4, 2))
    return figure
