"""Test error against the learning rate, at a depth to choose, with and without batch normalization (claim C07).

All numbers are those of the experiment `learning_rate_depth`, as the chapter recalls it.
"""

import matplotlib.pyplot as plt
import numpy as np

from bnlab.experiments import learning_rate_depth, recall

HEIGHT = (520, 640)

ALT = (
    "Two panels of test error against the learning rate, for networks of 2 and of 16 hidden layers, with and without "
    "batch normalization. At 2 layers both curves are low over a wide range of rates, and the one with batch "
    "normalization stays low further to the right. At 16 layers the one without comes below half at a single small "
    "rate only, the one with batch normalization over a wide range of rates."
)


def data():
    """Every error of the grid: by arm and depth, a list of seeds for every rate."""
    result = recall("learning_rate_depth")
    depths = result.settings["depths"]
    return {
        "arms": learning_rate_depth.ARMS,
        "depths": depths,
        "rates": result.settings["rates"],
        "steps": result.settings["steps"],
        "trains": result.settings["trains"],
        "errors": {
            arm: {str(d): np.nan_to_num(learning_rate_depth.errors(result, arm, d), nan=1.0).tolist() for d in depths}
            for arm in learning_rate_depth.ARMS
        },
    }


def still(data):
    """The fair pair at a small and at a large depth."""
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharey=True)
    for ax, depth in zip(axes, (2, 16), strict=True):
        for arm, look in (("he", "C1o--"), ("bn", "C0s-")):
            errors = 100 * np.array(data["errors"][arm][str(depth)])
            ax.fill_between(data["rates"], errors.min(axis=1), errors.max(axis=1), color=look[:2], alpha=0.25, lw=0)
            ax.plot(data["rates"], np.median(errors, axis=1), look, label=data["arms"][arm])
        ax.axhline(100 * data["trains"], color="black", lw=1, ls=":")
        ax.set(xscale="log", xlabel="learning rate", title=f"{depth} hidden layers", ylim=(0, 100))
    axes[0].set_ylabel("test error (%)")
    axes[0].legend(fontsize="small", loc="upper left")
    return figure
