"""What does weight decay do to weights that batch normalization follows? An experiment beside claims C08 and C18.

BN(aWx) = BN(Wx), so the length of such weights is no part of the function. Decay shortens them, and that changes the
step: it acts as a learning rate. Three measurements:

- ``part="exact"``: in float64 with eps = 0, a network with decay, one with weights 10 times as long (100 times the
  rate, a hundredth of the decay), and one *without* decay whose rate grows exponentially, compute the same outputs
  during the whole training (van Laarhoven 2017, section 2; Li and Arora 2020, theorem 1.1). Two controls that must not.
- ``part="rotation"``: the length that decay and gradient agree on, from three initial lengths, and the angle by which
  the weights then turn in a step, against arccos(1 - rate * decay).
- ``part="which"``: test errors over a grid of rates and decays when decay acts on different groups of parameters.

What this isn't: a verdict on decay in general. Optimizers with momentum and Adam have another equilibrium.

Sources: van Laarhoven (2017), L2 regularization versus batch and weight normalization; Zhang, Wang, Xu and Grosse
(2019), Three mechanisms of weight decay regularization; Li and Arora (2020), An exponential learning rate schedule
for deep learning.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from bnlab.ensemble import BatchNorm, Ensemble, fit
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.batch_noise import scarce, test_scores

EXPERIMENT = Experiment(
    name="weight_decay",
    title="Weight decay before batch normalization",
    claims=(),
    section="sec-regularization-decay",
    fair="He initialization, plain SGD at a constant rate with batches of 32, the same ones in all arms; every group "
    "of decayed parameters at its own best pair of rate and decay, chosen on validation images.",
    cpu_only=True,
)

EXAMPLES = 256
BATCH = 32
VARIANTS = ("decay", "10 times the weights", "no decay, growing rate", "no decay", "no BN, growing rate")
LENGTHS = (0.3, 1.0, 3.0)
ROTATIONS = ((0.1, 0.08), (0.4, 0.02), (0.4, 0.08))  # rate and decay; the first two have the same product
GROUPS = {
    "BN, hidden weights": ("hidden",),
    "BN, last layer": ("last",),
    "BN, all weights": ("hidden", "last"),
    "BN, everything": ("hidden", "last", "gamma", "beta"),
    "no BN, all weights": ("hidden", "last"),
}
BUDGETS = {
    "small": {
        "width": 32,
        "exact_steps": 200,
        "rotation_steps": 400,
        "which_steps": 300,
        "rates": (0.006, 0.02, 0.06, 0.2, 0.6, 2.0),
        "decays": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0),
    },
    "full": {
        "width": 64,
        "exact_steps": 1000,
        "rotation_steps": 4000,
        "which_steps": 3000,
        "rates": (0.002, 0.006, 0.02, 0.06, 0.2, 0.6, 2.0),
        "decays": (0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    },
}


def run(seeds: Sequence[int] = range(5), device: str = "cpu", budget: str = "small", *, journal=None) -> Result:
    """Measure the three parts.

    Rows with ``part="exact"``: variant, difference (largest distance of a logit from the one of the variant "decay", in
    standard deviations of the logits, over all steps), length (of the first weights at the end, against the start).
    With ``part="rotation"``: rate, decay, gain (initial length), step, lengths and angles (lists over the steps: root
    mean square weight of the first layer, and degrees turned). With ``part="which"``: arm, rate, decay,
    validation_error, test_error, train_loss.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    units = [{"part": "exact", "seed": seed} for seed in seeds]
    units += [{"part": "rotation", "rate": rate, "decay": decay, "seed": seed}
              for rate, decay in ROTATIONS for seed in seeds]  # fmt: skip
    units += [{"part": "which", "arm": arm, "seed": seed} for arm in GROUPS for seed in seeds]

    def measure(unit):
        if unit["part"] == "exact":
            return exact(unit["seed"], plan["width"], plan["exact_steps"])
        if unit["part"] == "rotation":
            return rotation(unit["rate"], unit["decay"], unit["seed"], plan["width"], plan["rotation_steps"])
        return which(unit["arm"], unit["seed"], plan)

    return conduct(EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=plan,
                   journal=journal)  # fmt: skip


def exact(seed: int, width: int = 32, steps: int = 200, rate: float = 0.2, decay: float = 0.02) -> list[dict]:
    """Train the variants on the same batches in float64 and compare their logits after every step."""
    data, x_test, _ = scarce("fashion", EXAMPLES, seed)
    x, y = torch.as_tensor(data.x_train).double(), torch.as_tensor(data.y_train)
    probe = x_test[:100].double()
    order = np.random.default_rng(seed)
    batches = [torch.as_tensor(order.choice(EXAMPLES, BATCH, replace=False)) for _ in range(steps)]
    paths = {v: _path(v, x, y, probe, batches, seed, width, rate, decay) for v in VARIANTS}
    reference = {"BN": paths["decay"][0]}
    reference["no BN"] = _path("no BN", x, y, probe, batches, seed, width, rate, decay)[0]
    rows = []
    for variant, (logits, length) in paths.items():
        other = reference["no BN" if variant.startswith("no BN") else "BN"]
        difference = (logits - other).abs().amax(dim=(1, 2)) / other.std()
        rows.append({"variant": variant, "difference": difference.max().item(), "length": length})
    return rows


def _path(variant, x, y, probe, batches, seed, width, rate, decay):
    """Return the logits of `probe` before every step, (steps, probes, classes), and how the first weights grew."""
    norm = not variant.startswith("no BN")
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], width, width, 10]
    weights = [torch.randn(a, b, generator=generator, dtype=torch.float64) * math.sqrt(2 / a)
               for a, b in pairwise(sizes)]  # fmt: skip
    factor = 10.0 if variant.startswith("10 times") else 1.0
    weights = [*(factor * w for w in weights[:-1]), weights[-1]]
    if norm:
        gammas = [torch.ones(width, dtype=torch.float64) for _ in range(2)]
        betas = [torch.zeros(width, dtype=torch.float64) for _ in range(2)]
    else:
        gammas, betas = [], []
    start = weights[0].norm().item()
    for p in (*weights, *gammas, *betas):
        p.requires_grad_()
    hidden_decay = 0.0 if variant.startswith("no decay") or variant.endswith("growing rate") else decay / factor**2

    def network(h):
        for layer, w in enumerate(weights[:-1]):
            h = h @ w
            if norm:
                h = h - h.mean(0)
                # eps = 0: a shift that would break the invariance, if only a little
                h = h / h.square().mean(0).sqrt() * gammas[layer] + betas[layer]
            h = torch.relu(h)
        return h @ weights[-1]

    outputs = []
    for step, batch in enumerate(batches):
        with torch.no_grad():
            outputs.append(network(probe))
        loss = torch.nn.functional.cross_entropy(network(x[batch]), y[batch])
        parameters = [*weights, *gammas, *betas]
        gradients = torch.autograd.grad(loss, parameters)
        hidden_rate = rate * factor**2
        if variant.endswith("growing rate"):
            hidden_rate = rate * (1 - rate * decay) ** -(2 * step + 1)
        with torch.no_grad():
            for k, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                if k < len(weights) - 1:
                    p.sub_(hidden_rate * (g + hidden_decay * p))
                else:
                    p.sub_(rate * g)
    return torch.stack(outputs), weights[0].detach().norm().item() / start


def rotation(rate: float, decay: float, seed: int, width: int, steps: int) -> list[dict]:
    """Follow length and direction of the first weights from three initial lengths."""
    data, _, _ = scarce("fashion", EXAMPLES, seed)
    ensemble = Ensemble(
        [data.x_train.shape[1], width, width, 10], [seed] * len(LENGTHS), norm=BatchNorm(), gain=LENGTHS
    )
    lengths, angles, before = [], [], [None]

    def follow(step, gradients):
        w = ensemble.weights[0].detach().flatten(1).clone()
        if before[0] is not None:
            cosine = torch.nn.functional.cosine_similarity(w.double(), before[0].double(), dim=1)
            angles.append(torch.rad2deg(torch.arccos(cosine.clamp(max=1))).tolist())
        lengths.append(w.square().mean(1).sqrt().tolist())
        before[0] = w

    fit(ensemble, data, [rate] * len(LENGTHS), steps=steps, batch_size=BATCH, every=steps, weight_decay=decay,
        on_step=follow)  # fmt: skip
    thin = slice(None, None, max(1, steps // 200))
    return [
        {
            "gain": gain,
            "steps": list(range(steps))[thin],
            "lengths": np.array(lengths)[thin, k],
            "angle": float(np.mean(np.array(angles)[-steps // 4 :, k])),
            "predicted": math.degrees(math.acos(1 - rate * decay)),
        }
        for k, gain in enumerate(LENGTHS)
    ]


def which(arm: str, seed: int, plan: dict) -> list[dict]:
    """Train one arm at every pair of rate and decay."""
    data, x_test, y_test = scarce("fashion", EXAMPLES, seed)
    pairs = [(rate, decay) for rate in plan["rates"] for decay in plan["decays"]]
    rates, decays = (np.array(column) for column in zip(*pairs, strict=True))
    sizes = [data.x_train.shape[1], plan["width"], plan["width"], 10]
    ensemble = Ensemble(sizes, [seed] * len(pairs), norm=None if arm.startswith("no BN") else BatchNorm())
    groups = {"hidden": ensemble.weights[:-1], "last": ensemble.weights[-1:], "gamma": ensemble.gamma,
              "beta": ensemble.beta}  # fmt: skip
    decayed = {id(p) for group in GROUPS[arm] for p in groups[group]}
    factor = torch.as_tensor(decays, dtype=torch.float32).reshape(-1, 1, 1)

    @torch.no_grad()
    def decay(step, gradients):  # the gradient of decay / 2 * |p|^2, for the chosen group only
        for p, g in zip(ensemble.parameters, gradients, strict=True):
            if id(p) in decayed:
                g.add_(factor * p)

    history = fit(ensemble, data, rates, steps=plan["which_steps"], batch_size=BATCH, every=plan["which_steps"],
                  on_step=decay)  # fmt: skip
    loss, error = test_scores(ensemble, x_test, y_test)
    return [
        {
            "rate": rate,
            "decay": weight_decay,
            "train_loss": history.train_loss[-1, k],
            "validation_error": history.test_error[-1, k],
            "validation_loss": history.test_loss[-1, k],
            "test_loss": loss[k],
            "test_error": error[k],
        }
        for k, (rate, weight_decay) in enumerate(pairs)
    ]


def best_pair(result: Result, arm: str) -> tuple[float, float, list[dict]]:
    """Return the rate and the decay with the smallest median validation loss, and the rows, one per seed."""
    rows = result.select(part="which", arm=arm)
    pairs = sorted({(row["decay"], row["rate"]) for row in rows})

    def score(pair):
        return float(np.median([np.nan_to_num(row["validation_loss"], nan=np.inf) for row in rows
                                if (row["decay"], row["rate"]) == pair]))  # fmt: skip

    decay, rate = min(pairs, key=score)
    return rate, decay, [row for row in rows if (row["decay"], row["rate"]) == (decay, rate)]


def verdicts(result: Result) -> list[Verdict]:
    """Judge no claim: the numbers explain others. Returns an empty list."""
    return []


def plot(result: Result):
    """Plot how the length of the first weights forgets its start, for three pairs of rate and decay."""
    import matplotlib.pyplot as plt

    rows = result.select(part="rotation", seed=result.seeds[0])
    pairs = list(dict.fromkeys((row["rate"], row["decay"]) for row in rows))
    figure, axes = plt.subplots(len(pairs), 1, figsize=(6.4, 2.1 * len(pairs) + 0.4), sharex=True, sharey=True)
    for ax, (rate, decay) in zip(np.atleast_1d(axes), pairs, strict=True):
        chosen = [row for row in rows if (row["rate"], row["decay"]) == (rate, decay)]
        for row, style, color in zip(chosen, ("--", "-", ":"), ("C0", "C1", "C2"), strict=True):
            ax.semilogy(row["steps"], row["lengths"], style, color=color, label=f"start × {row['gain']:g}")
        ax.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
        ax.minorticks_off()
        ax.set_title(f"rate {rate:g}, decay {decay:g}")
        ax.set_ylabel("rms weight")
    np.atleast_1d(axes)[0].legend(ncols=3, loc="upper right")
    np.atleast_1d(axes)[-1].set_xlabel("step")
    return figure


def plot_which(result: Result, arms: Sequence[str] = ("BN, hidden weights", "no BN, all weights")):
    """Plot the median test error over the grid of rates and decays, one panel per arm."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(arms), 1, figsize=(6.4, 3.4 * len(arms)))
    for ax, arm in zip(np.atleast_1d(axes), arms, strict=True):
        rows = result.select(part="which", arm=arm)
        rates, decays = (sorted({row[name] for row in rows}) for name in ("rate", "decay"))
        grid = [[Estimate.of([100 * row["test_error"] for row in rows
                              if (row["decay"], row["rate"]) == (decay, rate)]).median for rate in rates]
                for decay in decays]  # fmt: skip
        grid = np.array(grid)
        ax.imshow(np.clip(grid, None, 50), cmap="cividis", origin="lower", aspect="auto", vmin=24, vmax=40)
        for i, j in np.ndindex(grid.shape):
            text = f"{grid[i, j]:.0f}" if np.isfinite(grid[i, j]) else "–"
            dark = np.isfinite(grid[i, j]) and grid[i, j] < 33
            ax.text(j, i, text, ha="center", va="center", color="0.95" if dark else "0.05")
        ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        ax.set_yticks(range(len(decays)), [f"{decay:g}" for decay in decays])
        ax.set(xlabel="learning rate", ylabel="decay", title=f"{arm}: test error (%)")
        ax.grid(False)
    return figure


def inside(result: Result, arm: str) -> bool:
    """Tell whether the best rate and the best decay of an arm lie inside the grid. A decay of 0 is no edge."""
    rate, decay, _ = best_pair(result, arm)
    rates, decays = (result.column(name, part="which", arm=arm) for name in ("rate", "decay"))
    return bool(rates.min() < rate < rates.max() and decay < decays.max())
