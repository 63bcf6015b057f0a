"""Do dropout and batch normalization belong together? The experiment behind claim C11.

Dropout with probability p, followed by a linear layer and BN: in training, the masks add variance to what BN sees, and
BN stores it. In evaluation the masks are gone, the variance is smaller, and BN still divides by the stored one
(Li et al. 2019). The experiment

- measures the ratio of the two variances, layer by layer, against the value that the weights predict;
- compares dropout after every activation (so that a BN follows most of them), dropout only before the output layer
  (so that none follows), BN alone, dropout alone, and neither, each at its own best rate and p;
- evaluates networks with dropout before BN in two ways: with the statistics that training stored ("tracked"), and with
  statistics computed once more without dropout ("recalibrated").

What this isn't: a test of other places or kinds of dropout, or of large networks.

Sources: Li, Chen, Hu and Yang (2019), Understanding the disharmony between dropout and batch normalization by variance
shift, equation 3 onwards; Srivastava et al. (2014) for dropout.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bnlab.ensemble import BatchNorm, Ensemble, fit
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.batch_noise import scarce, test_scores

EXPERIMENT = Experiment(
    name="dropout_shift",
    title="Dropout before and after batch normalization",
    claims=("C11",),
    section="sec-regularization-dropout",
    fair="He initialization and plain SGD at a constant rate with batches of 32, the same ones in all arms; each at "
    "its own best pair of rate and dropout probability, chosen by the validation loss of the way it is evaluated.",
)

HIDDEN = 3
EXAMPLES = 256
BATCH = 32
MASKS = 20  # passes over the training set from which the tracked statistics are averaged
# Which activations are dropped: the last hidden layer is followed by no BN.
PLACES = {"everywhere": tuple(range(HIDDEN)), "at the end": (HIDDEN - 1,)}
ARMS = ("neither", "dropout", "BN", "BN, dropout everywhere", "BN, dropout at the end")
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
BUDGETS = {
    "small": {"width": 48, "steps": 300, "dropouts": (0.1, 0.3, 0.5, 0.7, 0.8, 0.9), "tasks": ("fashion",)},
    "full": {
        "width": 96,
        "steps": 2000,
        "dropouts": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9),
        "tasks": ("fashion", "mnist1d"),
    },
}


def run(seeds: Sequence[int] = range(5), device: str = "cpu", budget: str = "small", *, journal=None) -> Result:
    """Train every arm at every pair of rate and dropout probability.

    Rows: task, arm, seed, rate, p, and for each of "tracked" and "recalibrated" (equal without BN or dropout)
    validation_loss_*, test_loss_*, test_error_*; for BN with dropout everywhere also ratio (lists over the hidden
    layers: variance in evaluation divided by variance in training, mean over the units) and predicted (the same for the
    second hidden layer, from the weights; see `predicted_ratio`).
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    units = [{"task": task, "arm": arm, "seed": seed} for task in plan["tasks"] for arm in ARMS for seed in seeds]
    return conduct(
        EXPERIMENT,
        units,
        lambda unit: train(unit["task"], unit["arm"], unit["seed"], plan, device),
        seeds=seeds,
        device=device,
        budget=budget,
        settings={**plan, "rates": RATES, "examples": EXAMPLES, "batch": BATCH},
        journal=journal,
    )


def train(task: str, arm: str, seed: int, plan: dict, device: str = "cpu") -> list[dict]:
    """Train one arm at all pairs of rate and p; return one row for each."""
    data, x_test, y_test = scarce(task, EXAMPLES, seed)
    has_bn, has_dropout = arm.startswith("BN"), "dropout" in arm
    pairs = [(rate, p) for p in (plan["dropouts"] if has_dropout else (0.0,)) for rate in RATES]
    rates, ps = (np.array(column) for column in zip(*pairs, strict=True))
    sizes = [data.x_train.shape[1], *[plan["width"]] * HIDDEN, len(data.classes)]
    ensemble = Ensemble(sizes, [seed] * len(pairs), norm=Recorder() if has_bn else None, device=device)
    layers = PLACES["at the end" if arm.endswith("end") else "everywhere"] if has_dropout else ()
    drop = dropout(ps, layers, seed)
    fit(ensemble, data, rates, steps=plan["steps"], batch_size=BATCH, every=plan["steps"], tap=drop)

    x = torch.as_tensor(data.x_train).to(device)
    validation = torch.as_tensor(data.x_test), torch.as_tensor(data.y_test)
    measured, variances = {}, {}
    for way in ("recalibrated", "tracked"):
        ensemble.calibrate(x)
        if has_bn and has_dropout and way == "tracked":
            store_statistics(ensemble, x, drop)
        if has_bn:
            variances[way] = [var[:, 0].detach() for _, var in ensemble.population]
        measured[f"validation_loss_{way}"], _ = test_scores(ensemble, *validation)
        measured[f"test_loss_{way}"], measured[f"test_error_{way}"] = test_scores(ensemble, x_test, y_test)
    if arm == "BN, dropout everywhere":
        ratios = [(a / b).mean(1) for a, b in zip(variances["recalibrated"], variances["tracked"], strict=True)]
        measured["ratio"] = torch.stack(ratios, dim=1).cpu().numpy()
        measured["predicted"] = predicted_ratio(ensemble, x, ps).cpu().numpy()
    return [
        {"rate": rate, "p": p} | {name: values[k] for name, values in measured.items()}
        for k, (rate, p) in enumerate(pairs)
    ]


def dropout(p: np.ndarray, layers: Sequence[int], seed: int):
    """Return a tap that drops activations of the given layers, in training steps.

    Inverted dropout: an activation is set to zero with the probability p of its network, and divided by 1 - p else.

    Parameters
    ----------
    p : ndarray, shape (R,)
    layers : sequence of int
    seed : int
    """
    generator = torch.Generator().manual_seed(50_000 + seed)
    keep = torch.as_tensor(1 - p, dtype=torch.float32).reshape(-1, 1, 1)

    def tap(place, layer, value):
        if place != "h" or layer not in layers:
            return None
        kept = (torch.rand(value.shape, generator=generator) < keep) / keep
        return value * kept.to(value.device)

    return tap


class Recorder(BatchNorm):
    """Batch normalization that keeps the statistics it last normalized with: `seen`, one pair (mu, var) per layer."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def statistics(self, z, layer):
        """As `BatchNorm.statistics`."""
        self.seen[layer] = super().statistics(z, layer)
        return self.seen[layer]


@torch.no_grad()
def store_statistics(ensemble: Ensemble, x: torch.Tensor, tap, masks: int = MASKS) -> None:
    """Give an ensemble with a `Recorder` the statistics it has in training, with dropout on, for use in evaluation.

    They are averaged over passes of x, as running averages do when the weights stand still.
    """
    sums = [[0.0, 0.0] for _ in ensemble.population]
    for _ in range(masks):
        ensemble(x, tap=tap)
        for layer, (mu, var) in ensemble.norm.seen.items():
            sums[layer] = [sums[layer][0] + mu / masks, sums[layer][1] + var / masks]
    ensemble.population[:] = [tuple(pair) for pair in sums]


@torch.no_grad()
def predicted_ratio(ensemble: Ensemble, x: torch.Tensor, p: np.ndarray) -> torch.Tensor:
    """Return the mean ratio of variances of the second hidden layer, shape (R,), from weights and activations.

    The masks of unit i add p / (1 - p) W_ij^2 E[h_i^2] to the variance of z_j = sum_i W_ij h_i, and nothing else, as
    they are independent of each other and of h. No dropout precedes the first hidden layer, so its h are known.
    """
    seen = {}
    ensemble(x, tap=lambda place, layer, value: seen.update({(place, layer): value}))
    h, z = seen["h", 0], seen["z", 1]
    odds = torch.as_tensor(p / (1 - p), dtype=torch.float32).to(x.device)[:, None]
    added = odds * torch.einsum("rij,ri->rj", ensemble.weights[1].square(), h.square().mean(1))
    var = z.var(dim=1, correction=0)
    return (var / (var + added)).mean(1)


def chosen(result: Result, arm: str, way: str = "tracked", p: float | None = None, task: str = "fashion") -> dict:
    """Choose rate and p of an arm by the mean validation loss; return its test scores.

    Parameters
    ----------
    result : Result
    arm : str
        One of `ARMS`.
    way : {"tracked", "recalibrated"}
        Which statistics evaluation uses.
    p : float or None
        Only the rate is chosen if p is given.
    task : str

    Returns
    -------
    dict
        rate, p, inside (whether the best rate is neither the first nor the last, and the best p, unless given, not the
        last; p = 0 is another arm), and arrays of one entry per seed: test_loss, test_error.
    """
    rows = [row for row in result.select(task=task, arm=arm) if p is None or row["p"] == p]
    pairs = sorted({(row["rate"], row["p"]) for row in rows})

    def of(pair, name):
        return np.array([row[f"{name}_{way}"] for row in rows if (row["rate"], row["p"]) == pair], dtype=float)

    best = min(pairs, key=lambda pair: np.nan_to_num(of(pair, "validation_loss").mean(), nan=np.inf))
    rates, ps = (sorted(set(values)) for values in zip(*pairs, strict=True))
    return {
        "rate": best[0],
        "p": best[1],
        "inside": rates[0] < best[0] < rates[-1] and (len(ps) == 1 or best[1] < ps[-1]),
        "test_loss": of(best, "test_loss"),
        "test_error": of(best, "test_error"),
    }


def gain(result: Result, arm: str, way: str = "tracked", score: str = "loss", task: str = "fashion") -> Estimate:
    """Return how much lower the test score of an arm is than that of BN alone, seed by seed.

    In nats for the loss, in percentage points for the error.
    """
    factor, unit = (1, "nats") if score == "loss" else (100, "percentage points")
    alone = chosen(result, "BN", task=task)[f"test_{score}"]
    return Estimate.of(factor * (alone - chosen(result, arm, way, task=task)[f"test_{score}"]), unit)


def verdicts(result: Result) -> list[Verdict]:
    """Judge C11 by the test loss of BN with dropout against BN alone, and by the best dropout probabilities.

    "Use them together" succeeds if the loss is lower in the whole interval over seeds; "use less" succeeds if the best
    p with BN and dropout everywhere is smaller than the best p without BN. The claim *holds* if both succeed with
    dropout everywhere and the tracked statistics, on every task. It *holds with conditions* if together succeeds for
    some place and way of evaluation. It is *refuted* if dropout raises the loss of BN for every place and way, and
    otherwise *open*.
    """
    tasks = sorted({row["task"] for row in result.rows})
    plain, gains = [], []
    for task in tasks:
        less = chosen(result, "BN, dropout everywhere", task=task)["p"] < chosen(result, "dropout", task=task)["p"]
        plain.append(less and gain(result, "BN, dropout everywhere", task=task).low > 0)
        gains += [gain(result, arm, way, task=task) for arm in ARMS[3:] for way in ("tracked", "recalibrated")]
    if all(plain):
        verdict = "holds"
    elif any(estimate.low > 0 for estimate in gains):
        verdict = "conditions"
    elif all(estimate.high < 0 for estimate in gains):
        verdict = "refuted"
    else:
        verdict = "open"
    everywhere, without = (chosen(result, arm, task=tasks[0])["p"] for arm in ("BN, dropout everywhere", "dropout"))
    return [
        Verdict(
            claim="C11",
            verdict=verdict,
            number=gain(result, "BN, dropout everywhere", task=tasks[0]),
            what=f"less test loss than BN alone, with dropout of {everywhere:g} before BN ({tasks[0]})",
            because=f"The best probability is {everywhere:g} with BN and {without:g} without. Dropout before BN shifts "
            "the variance between training and evaluation.",
        )
    ]


def plot(result: Result):
    """Plot test loss and test error against the dropout probability, each point at its own best rate."""
    import matplotlib.pyplot as plt

    curves = (
        ("dropout", "tracked", "X--", "C1", "dropout, no BN"),
        ("BN, dropout everywhere", "tracked", "o-", "C0", "everywhere"),
        ("BN, dropout everywhere", "recalibrated", "o:", "C3", "everywhere, recalibrated"),
        ("BN, dropout at the end", "tracked", "s-.", "C2", "at the end"),
    )
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 7.0), sharex=True)
    for ax, name, factor in ((axes[0], "test_loss", 1), (axes[1], "test_error", 100)):
        for arm, way, style, color, label in curves:
            ps = sorted({row["p"] for row in result.select(arm=arm)})
            start = chosen(result, "BN" if arm.startswith("BN") else "neither")
            scores = [start, *(chosen(result, arm, way, p) for p in ps)]
            middle = [factor * np.median(s[name]) for s in scores]
            ax.plot([0, *ps], middle, style, color=color, label=label)
    axes[0].set(ylabel="test loss (nats)")
    axes[1].set(ylabel="test error (%)", xlabel="dropout probability p")
    axes[0].legend()
    return figure


def plot_ratio(result: Result, rate: float = 0.1):
    """Plot the ratio of variances against p for every hidden layer, with the prediction for the second as a line."""
    import matplotlib.pyplot as plt

    ps = sorted({row["p"] for row in result.select(arm="BN, dropout everywhere")})
    figure, ax = plt.subplots()
    for layer, (marker, color) in enumerate((("s", "C2"), ("o", "C0"), ("^", "C1"))):
        middle = [np.median(result.column("ratio", arm="BN, dropout everywhere", rate=rate, p=p)[:, layer]) for p in ps]
        ax.plot(ps, middle, marker, color=color, label=f"hidden layer {layer + 1}")
    middle = [np.median(result.column("predicted", arm="BN, dropout everywhere", rate=rate, p=p)) for p in ps]
    ax.plot(ps, middle, color="C0", lw=1, label="predicted, layer 2")
    ax.set(xlabel="dropout probability p", ylabel="variance, evaluation / training", ylim=(0, 1.05))
    ax.legend()
    return figure
