"""What the explorable `live_batch` must compute."""

import numpy as np

from bnlab.reference import RunningStatistics, batch_norm_forward


def oracle(state, data):
    x = np.array([[state[f"x{k}"]] for k in range(6)])
    running = RunningStatistics(1)
    running.mean, running.var = np.array([data["mean"]]), np.array([data["var"]])
    y, cache = batch_norm_forward(
        x,
        np.array([float(state["gamma"])]),
        np.array([float(state["beta"])]),
        running=running,
        training=state["statistics"] == "batch",
        eps=10.0 ** state["eps"],
    )
    return {"mu": cache.mu[0], "var": cache.var[0], "x_hat": cache.x_hat[:, 0], "y": y[:, 0]}
