"""Ghost batches against the full batch: the same values, normalized by the statistics of fewer and fewer of them.

The values are those of one neuron that looks at handwritten digits through a random layer and a ReLU, as in the
chapter: four batches of 128 images. The browser cuts them as `bnlab.relatives.ghost_batches` does, and normalizes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

HEIGHT = (700, 780)
BATCH, BATCHES, EPS = 128, 4, 1e-5

ALT = (
    "Two panels: each example of a batch of 128, normalized by the statistics of its ghost batch, against the same "
    "normalized by the full batch. With ghost batches of 32 the points lie along four lines close to the diagonal. "
    "With ghost batches of 2 nearly every point lies at minus one or plus one, whatever it is in the full batch."
)


def data():
    """Four batches of one neuron's values."""
    rng = np.random.default_rng(3)
    images = load_digits().data / 16
    first = rng.normal(size=(64, 100)) * np.sqrt(2 / 64)
    values = np.maximum(images @ first, 0) @ rng.normal(size=100) / 10
    drawn = rng.choice(values, size=(BATCHES, BATCH), replace=False)
    return {"batches": drawn.round(4).tolist(), "eps": EPS}


def normalized(x, ghost, eps):
    """Each ghost batch by its own mean and variance."""
    parts = np.array_split(np.asarray(x), max(1, len(x) // ghost))
    return np.concatenate([(part - part.mean()) / np.sqrt(part.var() + eps) for part in parts])


def still(data):
    """Ghost batches of 32 and of 2."""
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.4), sharex=True, sharey=True)
    x, eps = data["batches"][0], data["eps"]
    full = normalized(x, len(x), eps)
    for ax, ghost in zip(axes, (32, 2), strict=True):
        ax.axline((0, 0), slope=1, color="black", lw=1)
        ax.plot(full, normalized(x, ghost, eps), "o", ms=4, alpha=0.7)
        ax.set(title=f"ghost batches of {ghost}", xlabel="by the full batch")
    axes[0].set_ylabel("by its ghost batch")
    return figure
