"""Size of values and of gradients through many fresh layers, with and without batch normalization.

The browser sends 64 handwritten digits through the layers and a random gradient back. Weights and that gradient are
drawn there, from a generator simple enough to be the same in every language: see `normals`.
"""

import matplotlib.pyplot as plt
import numpy as np

from bnlab.datasets import centered_digits
from bnlab.reference import batch_norm_backward, batch_norm_forward

HEIGHT = (660, 800)
EXAMPLES, WIDTH, EPS = 64, 48, 1e-5
SEED = 7000  # in a net this narrow chance has its say: of nine starts tried, one near the middle
# phi, its derivative, and the standard deviation of the weights times the root of fan-in: He's, or Glorot's
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float), np.sqrt(2)),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2.0, 1.0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2, 1.0),
    "linear": (lambda z: z, np.ones_like, 1.0),
}

ALT = (
    "Two panels over 50 fresh layers of ReLU units with He's weights, both on logarithmic axes. Left, the size of the "
    "values: with batch normalization it is level, without it it drifts, within a factor of ten. Right, the size of "
    "the gradient, which travels from the last layer to the first: without batch normalization it stays near one; "
    "with batch normalization it grows steadily, ten thousandfold or more over all the layers."
)


def normals(seed, n):
    """Standard normal numbers: splitmix32 for uniform ones, Box and Muller for normal ones."""
    with np.errstate(over="ignore"):
        z = np.uint32(SEED + seed) + np.arange(1, 2 * n + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
        z = (z ^ (z >> np.uint32(16))) * np.uint32(0x21F0AAAD)
        z = (z ^ (z >> np.uint32(15))) * np.uint32(0x735A2D97)
        z ^= z >> np.uint32(15)
    u = (z + 0.5) / 2**32
    return np.sqrt(-2 * np.log(u[0::2])) * np.cos(2 * np.pi * u[1::2])


def data():
    """The digits, with the mean of every pixel removed."""
    x = centered_digits().x_train[:EXAMPLES].astype(float)
    return {"x": x.round(3).tolist(), "width": WIDTH, "eps": EPS}


def profile(data, activation, gain, depth, arm):
    """Root mean square of the values behind each layer, and of the loss's gradient with respect to them.

    `arm` is "plain", "bn" or "skip": batch normalization, and what came in added again from the second layer on.
    """
    phi, slope, std = ACTIVATIONS[activation]
    h, tapes, sizes = np.array(data["x"]), [], []
    for layer in range(depth):
        fan_in = h.shape[1]
        weight = normals(layer + 1, fan_in * data["width"]).reshape(fan_in, -1) * gain * std / np.sqrt(fan_in)
        z, cache = h @ weight, None
        if arm != "plain":
            z, cache = batch_norm_forward(z, eps=data["eps"])
        h = phi(z) + h if arm == "skip" and layer else phi(z)
        tapes.append((weight, z, cache))
        sizes.append(np.sqrt(np.mean(h**2)))
    g, gradients = normals(0, h.size).reshape(h.shape), []
    for layer in reversed(range(depth)):
        weight, z, cache = tapes[layer]
        gradients.append(np.sqrt(np.mean(g**2)))
        dz = g * slope(z)
        if cache is not None:
            dz = batch_norm_backward(dz, cache).dx
        g = dz @ weight.T + (g if arm == "skip" and layer else 0)
    return sizes, gradients[::-1]


def still(data):
    """ReLU, He's weights, fifty layers."""
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.4))
    for arm, look, label in (("plain", "C1--", "without BN"), ("bn", "C0-", "with BN")):
        for ax, sizes in zip(axes, profile(data, "relu", 1.0, 50, arm), strict=True):
            ax.semilogy(range(1, 51), sizes, look, label=label)
    for ax, title in zip(axes, ("values", "gradient"), strict=True):
        ax.set(xlabel="layer", title=f"size of the {title}")
    axes[0].legend()
    return figure
