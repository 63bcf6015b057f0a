"""What the explorable `running_statistics` must compute."""

import numpy as np

from bnlab.reference import RunningStatistics, batch_norm_forward


def oracle(state, data):
    momentum, m = float(f"{10 ** state['momentum']:.1e}"), 2 ** state["size"]
    batches = np.array(data["batches"])[:, :m]
    true = np.repeat([[data["mean"], data["var"]]], 100, axis=0)
    if state["jump"]:
        batches[50:] = 1.5 * batches[50:] - np.sqrt(data["var"])
        true[50:] = true[50:] * [1.5, 2.25] - [np.sqrt(data["var"]), 0]
    running, steps = RunningStatistics(1, momentum=momentum), []
    for batch, (mean, var) in zip(batches, true, strict=True):
        _, cache = batch_norm_forward(batch[:, None])
        running.update(cache.mu, cache.var, cache.m)
        steps.append(
            {
                "mean": batch.mean(),
                "var": batch.var(ddof=1),
                "running_mean": running.mean[0],
                "running_var": running.var[0],
                "true_mean": mean,
                "true_var": var,
            }
        )
    near = [abs(s["running_mean"] - s["true_mean"]) < 0.5 * np.sqrt(data["var"]) for s in steps[50:]]
    weights = momentum * (1 - momentum) ** np.arange(100_000)
    return {
        "weight": momentum,
        "steps": steps,
        "batch_off": np.sqrt(np.mean([(s["mean"] - data["mean"]) ** 2 for s in steps[25:50]]) / data["var"]),
        "running_off": np.sqrt(np.mean([(s["running_mean"] - data["mean"]) ** 2 for s in steps[25:50]]) / data["var"]),
        "worth": 1 / (weights**2).sum(),
        "arrival": near.index(True) + 1 if any(near) else -50,
        "start": 1 - weights[:50].sum(),
    }
