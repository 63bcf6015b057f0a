"""What the explorable `batch_noise` must compute: the same batches, and what they make of an example."""

import numpy as np
from scipy.stats import kurtosis

from bnlab.experiments.batch_noise import noise_theory
from bnlab.reference import RunningStatistics, batch_norm_forward


def indices(count, s, below):
    """Yield numbers of Park and Miller's generator."""
    for _ in range(count):
        s = 48271 * s % (2**31 - 1)
        yield s % below


def oracle(state, data):
    x = np.array(data[state["values"]]["x"])
    m = 2 ** state["size"]
    picked = np.fromiter(indices(200 * m, 1000 * (state["again"] + 1) + m, len(x)), dtype=int)
    batches = x[picked].reshape(200, m)
    _, cache = batch_norm_forward(batches.T)  # a channel for each batch
    example = np.full((1, 200), x.mean() + state["x_hat"] * x.std())
    running = RunningStatistics(200)
    running.mean, running.var = cache.mu, cache.var
    seen = batch_norm_forward(example, running=running, training=False)[0][0]
    off, ratio = (cache.mu - x.mean()) / x.std(), cache.var / x.var()
    return {
        "batches": [{"mean_off": a, "var_ratio": b, "seen": c} for a, b, c in zip(off, ratio, seen, strict=True)],
        "mean_noise": np.sqrt((off**2).mean()),
        "var_noise": ratio.std(),
        "theory": np.array(noise_theory(m, kurtosis(x, fisher=False))),
        "from": np.quantile(seen, 0.05),
        "to": np.quantile(seen, 0.95),
    }
