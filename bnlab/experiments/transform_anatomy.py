"""What exactly does the transform do? The experiment behind claims C12, C14 and C21.

- C12: divide by the standard deviation, or by the variance, and look at what comes out.
- C14: count the parameters of dense, 1d, 2d and 3d layers, and see what statistics per pixel would do to a shift.
- C21: normalize one volume as a volume, as images, as signals and as a table.

All of it can be computed exactly, so the spread over seeds is that of the inputs. Whether batch normalization *helps*
to train is asked by other experiments.
"""

import numpy as np

from bnlab.experiments.conduct import Experiment, Journal, conduct
from bnlab.experiments.result import Estimate, Result, Verdict

EXPERIMENT = Experiment(
    name="transform_anatomy",
    title="Standard deviation or variance; parameters per channel; one function for all shapes",
    claims=("C12", "C14", "C21"),
    section="sec-transform-std",
    fair="The same inputs for every variant; float64; no training, so nothing to tune.",
    cpu_only=True,
)
SPATIAL = {"dense": (), "1d": (8,), "2d": (8, 8), "3d": (4, 8, 8)}
CHANNELS = 32


def run(seeds=range(5), device="cpu", budget="small", *, journal: Journal | None = None) -> Result:
    """Compute all three on random inputs, one set per seed; both budgets are the same."""
    units = [{"shape": shape, "seed": seed} for shape in SPATIAL for seed in seeds]
    settings = {"channels": CHANNELS, "batch": 16, "channel_stds": "1e-2 to 1e2"}
    return conduct(
        EXPERIMENT, units, _measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _measure(unit):
    import torch

    from bnlab import modules
    from bnlab.reference import batch_norm_forward

    space = SPATIAL[unit["shape"]]
    rng = np.random.default_rng(unit["seed"])
    channel = (1, CHANNELS) + (1,) * len(space)
    x = rng.normal(size=(16, CHANNELS, *space))
    x = np.geomspace(1e-2, 1e2, CHANNELS).reshape(channel) * (x + rng.normal(size=channel))
    gamma, beta = np.ones(CHANNELS), np.zeros(CHANNELS)
    y, _ = batch_norm_forward(x, gamma, beta, training=True, eps=1e-12)
    axes = (0, *range(2, x.ndim))
    by_var = (x - x.mean(axes, keepdims=True)) / x.var(axes, keepdims=True)
    spread = {name: a.std(axes).max() / a.std(axes).min() for name, a in (("x", x), ("std", y), ("var", by_var))}

    layer = {
        "dense": modules.BatchNorm1d,
        "1d": modules.BatchNorm1d,
        "2d": modules.BatchNorm2d,
        "3d": modules.BatchNorm3d,
    }
    layer = layer[unit["shape"]](CHANNELS, eps=1e-12).double()
    ours = layer(torch.from_numpy(x)).detach().numpy()
    # the same values as a table: one row per example and position, one column per channel
    table = np.moveaxis(x, 1, -1).reshape(-1, CHANNELS)
    as_table, _ = batch_norm_forward(table, gamma, beta, training=True, eps=1e-12)
    row = {
        "spread_in": spread["x"],
        "spread_after_std": spread["std"],
        "spread_after_var": spread["var"],
        "parameters": sum(p.numel() for p in layer.parameters()),
        "statistics": sum(b.numel() for b in layer.buffers()) - 1,  # all but num_batches_tracked
        "table_difference": float(np.abs(np.moveaxis(y, 1, -1).reshape(-1, CHANNELS) - as_table).max()),
        "layer_difference": float(np.abs(ours - y).max()),
    }
    if space:
        rolled = np.roll(x, 1, axis=-1)
        per_channel, _ = batch_norm_forward(rolled, gamma, beta, training=True, eps=1e-12)
        mu, std = x.mean(axis=0), x.std(axis=0)  # as stored statistics of a unit for every channel and position
        row["shift_per_channel"] = float(np.abs(per_channel - np.roll(y, 1, axis=-1)).max())
        row["shift_per_position"] = float(np.abs((rolled - mu) / std - np.roll((x - mu) / std, 1, axis=-1)).max())
    return row


def plot(result: Result):
    """Draw the ratio of the channels' standard deviations before and after, both ways."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    columns = {"spread_in": "input", "spread_after_std": "divided by std", "spread_after_var": "divided by variance"}
    for k, column in enumerate(columns):
        values = result.column(column)
        ax.plot(values, [k] * len(values), "o", color=f"C{k}")
    ax.set(
        xscale="log", xlabel="largest standard deviation over smallest", yticks=range(3), yticklabels=columns.values()
    )
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge the three claims.

    C12 holds if dividing by the standard deviation makes the channels equally wide (ratio below 1.001) and dividing by
    the variance doesn't (above 10). C14 holds if every shape has two parameters per channel. C21 holds if every shape
    gives what the table of its values gives, to 1e-9. Each is refuted otherwise.
    """
    by_std, by_var = result.column("spread_after_std"), result.column("spread_after_var")
    per_channel = result.column("parameters") / CHANNELS
    difference = np.maximum(result.column("table_difference"), result.column("layer_difference"))
    images = [row["shift_per_position"] for row in result.rows if "shift_per_position" in row]
    return [
        Verdict(
            "C12",
            "holds" if by_std.max() < 1.001 and by_var.min() > 10 else "refuted",
            Estimate.of(by_var),
            "is the ratio of the widest to the narrowest channel after dividing by the variance",
            f"After dividing by the standard deviation it is {Estimate.of(by_std)}.",
        ),
        Verdict(
            "C14",
            "holds" if (per_channel == 2).all() else "refuted",
            Estimate.of(per_channel),
            "parameters per channel, for dense, 1d, 2d and 3d layers",
            f"With statistics per position, an image moved by one pixel changes by up to {Estimate.of(images)}.",
        ),
        Verdict(
            "C21",
            "holds" if difference.max() < 1e-9 else "refuted",
            Estimate.of(difference),
            "is the largest difference between a shape and the table of its values",
            "It is one function. How much it helps training depends on the network.",
        ),
    ]
