"""What the explorable `removed_gradient` must compute: dx of the reference, and the line that least squares fits."""

import numpy as np

from bnlab.reference import batch_norm_backward, batch_norm_forward

X = np.array([-1.5, -1.0, -0.3, 0.4, 0.9, 1.5])


def oracle(state, data):
    x = ((X - X.mean()) / X.std())[:, None]
    _, cache = batch_norm_forward(x)
    x_hat = cache.x_hat[:, 0]
    dy = np.array([state[f"own{k}"] for k in range(6)]) + state["offset"] + state["slope"] * x_hat
    tilt, mean = np.polyfit(x_hat, dy, 1)
    shrunk = (x_hat**2).mean()  # a little less than 1, because of eps
    return {"dy": dy, "average": mean, "along": tilt * shrunk, "dx": batch_norm_backward(dy[:, None], cache).dx[:, 0]}
