"""What the backward pass takes out of a gradient: its mean, and the part in proportion to x_hat."""

import matplotlib.pyplot as plt
import numpy as np

from bnlab.reference import batch_norm_backward, batch_norm_forward

ALT = (
    "Two panels of six dots each, over the normalized value of each example. Above, the gradient that arrives, with "
    "the straight line that fits the six dots best and a stick from each dot to the line. Below, the gradient that is "
    "handed on: the same sticks, now standing on zero."
)
HEIGHT = (600, 700)
X = (-1.5, -1.0, -0.3, 0.4, 0.9, 1.5)
OWN = (0.8, -1.4, 0.9, -0.3, 1.2, -0.5)  # what is added to the line, to begin with
OFFSET, SLOPE = 1.0, 0.8


def batch():
    """Six values with standard deviation 1, so that both panels have the same unit."""
    x = np.array(X)[:, None]
    return (x - x.mean()) / x.std()


def data():
    """The normalized values, and 1 / sqrt(var + eps)."""
    _, cache = batch_norm_forward(batch())
    return {"x_hat": cache.x_hat[:, 0].tolist(), "inv_std": float(cache.inv_std[0])}


def still(data):
    """The gradient that arrives and the one that is handed on, at the start."""
    x_hat = np.array(data["x_hat"])
    dy = np.array(OWN) + OFFSET + SLOPE * x_hat
    _, cache = batch_norm_forward(batch())
    dx = batch_norm_backward(dy[:, None], cache).dx[:, 0]
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 5.4), sharex=True)
    ends = np.array([-2, 2])
    line = dy.mean() + (dy * x_hat).mean() * ends
    fitted = dy.mean() + (dy * x_hat).mean() * x_hat
    axes[0].plot(ends, line, color="C1")
    axes[1].axhline(0, color="C1")
    for ax, foot, values in zip(axes, (fitted, 0 * dx), (dy, dx), strict=True):
        ax.vlines(x_hat, foot, values, color="C0")
        ax.plot(x_hat, values, "o", ms=8, color="C0")
        ax.set(ylim=(-4, 4))
    axes[0].set(title="dy: the gradient that arrives", ylabel="dy")
    axes[1].set(title="dx: the gradient that is handed on", ylabel="dx", xlabel="x_hat")
    return figure
