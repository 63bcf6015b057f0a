"""The noise of batch statistics: two hundred batches of one size, and what they make of one example."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from bnlab.experiments.batch_noise import noise_theory

ALT = (
    "Two panels for 200 batches of 16 values. Above, a dot for each batch: by how much its mean misses the true one, "
    "and its variance as a share of the true one. The dots form a cloud around the middle. Below, what an example of "
    "x_hat = 2 becomes in these batches: dots scattered around 2, nine of ten between 1.5 and 3.1."
)
HEIGHT = (640, 740)
SIZE, X_HAT, BATCHES = 16, 2.0, 200
DRAWN = {"m": SIZE, "seed": 1}


def populations():
    """Two columns of values, standardized: a random neuron that looks at digits, and the areas of cell nuclei."""
    neuron = load_digits().data @ np.random.default_rng(0).normal(size=64)
    cells = load_breast_cancer()
    area = cells.data[:, list(cells.feature_names).index("mean area")]
    return {name: ((x - x.mean()) / x.std()).round(3) for name, x in (("neuron", neuron), ("area", area))}


def draw(x, m, seed):
    """Return 200 batches of m values of x. The page draws the same ones: Park and Miller's generator."""
    picked, s = [], 1000 * seed + m
    for _ in range(BATCHES * m):
        s = s * 48271 % 2147483647
        picked.append(s % len(x))
    return x[np.array(picked)].reshape(BATCHES, m)


def data():
    """Values, and what theory says about batches of them."""
    found = {}
    for name, x in populations().items():
        z = (x - x.mean()) / x.std()
        kurtosis = float((z**4).mean())
        sizes = [2**power for power in range(2, 9)]
        theory = {str(m): [float(noise) for noise in noise_theory(m, kurtosis)] for m in sizes}
        found[name] = {"x": x.tolist(), "theory": theory}
    return found


def still(data):
    """The cloud of batches of 16, and one example in them."""
    x = np.array(data["neuron"]["x"])
    batches = draw(x, **DRAWN)
    mu, var = batches.mean(axis=1), batches.var(axis=1)
    seen = (x.mean() + X_HAT * x.std() - mu) / np.sqrt(var)
    figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.8), height_ratios=(2.4, 1))
    above.plot((mu - x.mean()) / x.std(), var / x.var(), "o", ms=4, alpha=0.5, color="C0")
    above.plot(0, 1, "+", ms=14, mew=2, color="black")
    above.set(xlabel="mean of the batch, off by", ylabel="variance, of the true one", xlim=(-1.5, 1.5), ylim=(0, 3))
    below.plot(seen, np.random.default_rng(0).uniform(-1, 1, len(seen)), "o", ms=4, alpha=0.5, color="C1")
    below.axvline(X_HAT, color="black", ls="--", lw=1.2)
    below.set(xlabel=f"what an example of x_hat = {X_HAT:.0f} becomes", yticks=[], ylim=(-1.5, 1.5), xlim=(-5, 5))
    return figure
