"""One wrong value among 178: what is left of the others after three scalings."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine

from bnlab.experiments.feature_scaling import scale

ALT = (
    "Four strips of dots for the proline of 178 wines. In the first, one wine lies far to the right of all others, "
    "ten times as high as it should be. Below: after min-max scaling the others are squeezed against zero; "
    "standardized, they keep about two fifths of their spread; after robust scaling they are as wide as ever."
)
HEIGHT = (560, 600)
START = 10  # the wrong value, times what it should be
SCALINGS = ("min-max", "standardized", "robust")
WINDOWS = {"raw": (0, 13000), "min-max": (0, 1), "standardized": (-3, 4), "robust": (-1.5, 2.5)}


def data():
    """Proline of the wines, the wrong one first; where to draw each of them; and what is shown of each scaling."""
    wine = load_wine()
    x = wine.data[:, wine.feature_names.index("proline")]
    lift = np.random.default_rng(0).uniform(-1, 1, size=len(x)).round(3)
    lift[0] = 0
    return {"x": x.tolist(), "lift": lift.tolist(), "windows": WINDOWS}


def still(data):
    """The four strips with the wrong value at ten times its size."""
    x = np.array(data["x"])
    x[0] *= START
    strips = {"raw": x} | {scaling: scale(x[:, None], scaling)[:, 0] for scaling in SCALINGS}
    colors = {"raw": "0.3", "min-max": "C2", "standardized": "C0", "robust": "C3"}
    figure, axes = plt.subplots(4, 1, figsize=(6.4, 5.2))
    for ax, (name, values) in zip(axes, strips.items(), strict=True):
        low, high = WINDOWS[name]
        ax.plot(values[1:], data["lift"][1:], "o", ms=4, alpha=0.5, color=colors[name])
        if values[0] <= high:
            ax.plot(values[0], 0, "o", ms=9, color="C1")
        else:
            ax.annotate(f"at {values[0]:.1f}", (1, 0.5), (-52, -4), "axes fraction", "offset points", color="C1")
            ax.plot(1, 0.5, ">", ms=9, color="C1", transform=ax.transAxes, clip_on=False)
        margin = 0.02 * (high - low)
        ax.set(title=name, xlim=(low - margin, high + margin), ylim=(-1.6, 1.6), yticks=[])
    return figure
