"""What the explorable `adabn` must compute."""

import numpy as np

from bnlab.experiments import Estimate
from bnlab.reference import RunningStatistics, batch_norm_forward


def oracle(state, data):
    c, share = state["channel"] - 1, state["moved"] / 100

    def normalized(name, moved):
        """The edges of a histogram, and its values' mean and spread, through batch normalization in evaluation."""
        new = data["new"][state["shift"]][state["images"]]
        running = RunningStatistics(1, momentum=moved)
        running.mean = np.array([(1 - moved) * data["old"]["mean"][c] + moved * new["mean"][c]])
        running.var = np.array([(1 - moved) * data["old"]["var"][c] + moved * new["var"][c]])
        seen = data["seen"][name]
        mean, std = seen["mean"][c], np.sqrt(seen["var"][c])
        x = np.array([*data["edges"][c], mean, mean - std, mean + std])[:, None]
        y = batch_norm_forward(x, running=running, training=False, eps=data["eps"])[0][:, 0]
        counts = np.array(seen["counts"][c])
        density = counts / counts.sum() / np.diff(y[:-3])
        bars = [dict(zip(("from", "to", "density"), bar, strict=True)) for bar in zip(y, y[1:], density, strict=False)]
        return {"bars": bars, "mean": y[-3], "std": (y[-1] - y[-2]) / 2}

    runs = np.array(data["accuracy"][state["shift"]][state["images"]])
    curve = []
    for at, values in zip(data["moved"], runs.T, strict=True):
        estimate = Estimate.of(values)
        curve.append({"at": at, "median": estimate.median, "low": estimate.low, "high": estimate.high})
    return {
        "gray": normalized("gray", 0.0),
        "now": normalized(state["shift"], share),
        "curve": curve,
        "here": curve[state["moved"] // 10],
    }
