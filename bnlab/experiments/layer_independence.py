"""Does each layer learn more independently of the others with batch normalization? The experiment behind claim C05.

Two ways to look at it. Part ``perturb``: change the weights of the first layer and see what the others notice. The
changes are

- ``scale``: each unit's weights are multiplied by a factor of its own, between 1/2 and 2;
- ``shift``: a constant is added to each unit, up to one standard deviation of what it computes;
- ``mixing``: the units are rotated among each other by a random orthogonal matrix, their weights changing by a tenth;
- ``random``: random numbers are added to the weights, a tenth of them in norm;
- ``downhill``: the same size once more, in the direction against the gradient;
- ``step``: one step of gradient descent on the first layer alone, at the learning rate that was best for the arm.

Noticed is the change of the input of every later layer (relative to its standard deviation), and of the gradient of its
weights (relative to itself, and as an angle).

Part ``together``: let every layer take its step alone, and then all at once. If layers were independent, the changes
of the loss would add up. The difference, relative to their sum, is what the layers do to each other: Goodfellow, Bengio
and Courville (2016), section 8.7.1, name these interactions as what BN is good against.

What this isn't: a test of independence in the sense of statistics. "Independent" is the articles' word.

Sources: as above; Ioffe and Szegedy (2015), section 1.
"""

import math
from itertools import product

import numpy as np
import torch
from torch.nn import functional as F

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.internal_shift import kept, layer_inputs, layers_of, losses

ARMS = ("plain", "bn")
KINDS = ("scale", "shift", "mixing", "random", "downhill", "step")
MEASURES = ("input", "gradient", "angle")
HIDDEN = [64] * 5
RATES = rates(0.0316, 3.16, 2)
SIZE = 0.1  # relative change of the first layer's weights, for mixing, random and downhill
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the best learning rate, for steps of all layers
BATCH_SIZE = 32
BUDGETS = {"small": {"steps": 100, "watched": 8, "probe": 256}, "full": {"steps": 1500, "watched": 30, "probe": 1024}}

EXPERIMENT = Experiment(
    name="layer_independence",
    title="What later layers notice of a change in the first, with and without BN",
    claims=("C05",),
    section="sec-ics-independence",
    fair="Centered inputs, ReLU, He's initialization in both arms; plain SGD, each arm at its own best of five rates; "
    "changes of the same relative size in both, and besides each arm's own step.",
)


def disturb(networks: Ensemble, kind: str, x: torch.Tensor, step: torch.Tensor, seed: int) -> torch.Tensor | None:
    """Change the first layer's weights, in place; or, for a shift, say what to add to what it computes.

    Parameters
    ----------
    networks : Ensemble
    kind : str
        One of `KINDS`.
    x : torch.Tensor, shape (m, D)
        Sets the size of a shift.
    step : torch.Tensor, shape (R, D, C)
        What a step of gradient descent subtracts from the first layer's weights.
    seed : int
        Of the random numbers, which are the same for all networks, and in both arms.

    Returns
    -------
    torch.Tensor, shape (R, 1, C), or None
        What a shift adds after the linear layer: with BN that layer has no bias which could take it.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind of change is {kind!r}: give one of {', '.join(KINDS)}")
    # far from the networks' own seeds: noise drawn with one of those would be parallel to its first weights
    generator = torch.Generator().manual_seed(1_000_000 + seed)
    weight = networks.weights[0]
    units = weight.shape[-1]
    with torch.no_grad():
        if kind == "shift":
            spread = (x @ weight).std(dim=1, keepdim=True)
            return spread * (2 * torch.rand(units, generator=generator).to(spread.device) - 1)
        if kind == "scale":
            weight.mul_((2 ** (2 * torch.rand(units, generator=generator) - 1)).to(weight.device))
        elif kind == "mixing":
            weight.copy_(weight @ _rotation(units, generator).to(weight.device))
        elif kind == "step":
            weight.sub_(step)
        else:
            noise = torch.randn(weight.shape[1:], generator=generator).to(weight.device)
            direction = noise.expand_as(weight) if kind == "random" else -step
            weight.add_(SIZE * direction * _size(weight) / _size(direction))
    return None


def notice(networks: Ensemble, kind: str, x, y, step: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Disturb the first layer and measure what every later layer notices.

    Parameters
    ----------
    networks, kind, step, seed
        As for `disturb`. The networks are unchanged in the end.
    x, y : torch.Tensor, shapes (m, D), (m,)
        One batch.

    Returns
    -------
    dict of torch.Tensor, shape (later layers, R)
        "input": root mean square change of the layer's input, relative to the standard deviation of it. "gradient":
        norm of the change of its weights' gradient, relative to that gradient. "angle": between the two, in degrees.
    """

    def now(tap=None):
        later = networks.weights[1:]
        return layer_inputs(networks, x, tap), torch.autograd.grad(losses(networks, x, y, tap).sum(), later)

    inputs, gradients = now()
    with kept(networks):
        amount = disturb(networks, kind, x, step, seed)

        def tap(place, layer, value):
            return value + amount if amount is not None and (place, layer) == ("z", 0) else None

        new_inputs, new_gradients = now(tap)
    found = {name: [] for name in MEASURES}
    for old, new in zip(inputs, new_inputs, strict=True):
        spread = old.var(dim=1, correction=0).mean(dim=1).sqrt()
        found["input"].append((new - old).square().mean(dim=(1, 2)).sqrt() / spread)
    for old, new in zip(gradients, new_gradients, strict=True):
        old, new = old.flatten(1).double(), new.flatten(1).double()
        found["gradient"].append((new - old).norm(dim=1) / old.norm(dim=1))
        found["angle"].append(torch.rad2deg(torch.acos(F.cosine_similarity(old, new, dim=1).clamp(-1, 1))))
    return {name: torch.stack(values) for name, values in found.items()}


def interaction(networks: Ensemble, x, y, rate: float) -> torch.Tensor:
    """Return |change of the loss by all steps at once - sum of the changes by each layer's step alone| / |that sum|.

    Steps follow the gradient on (x, y) itself, so they all lower the loss if they are small. Shape (R,).
    """
    start = losses(networks, x, y)
    gradient = dict(
        zip(map(id, networks.parameters), torch.autograd.grad(start.sum(), networks.parameters), strict=True)
    )

    def after(layers):
        with kept(networks), torch.no_grad():
            for p in (p for layer in layers for p in layer):
                p.sub_(rate * gradient[id(p)])
            return losses(networks, x, y) - start

    with torch.no_grad():
        layers = layers_of(networks)
        alone = torch.stack([after([layer]) for layer in layers]).sum(dim=0)
        return (after(layers) - alone).abs() / alone.abs()


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train both arms; at several steps disturb the first layer, and let the layers step alone and together.

    Rows of part "perturb": arm, kind, seed, learning_rate, inside; input, gradient and angle (lists over the later
    layers: medians over the watched steps). Part "together": arm, seed, multiple (of the best learning rate),
    interaction (median over the watched steps).
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    data, seeds_ = centered_digits(), list(seeds)
    sizes = [data.x_train.shape[1], *HIDDEN, len(data.classes)]
    x, y = (torch.as_tensor(a[: plan["probe"]]).to(device) for a in (data.x_train, data.y_train))
    watched = sorted({int(s) for s in np.geomspace(1, plan["steps"], plan["watched"])} | {0})[:-1]

    def make(arm, seeds):
        return Ensemble(sizes, seeds, norm=BatchNorm() if arm == "bn" else None, device=device)

    def train(networks, learning_rates, on_step=None):
        return fit(
            networks,
            data,
            learning_rates,
            steps=plan["steps"],
            batch_size=BATCH_SIZE,
            every=plan["steps"],
            on_step=on_step,
        )

    def measure(unit):
        cases = list(product(RATES, seeds_))
        history = train(make(unit["arm"], [seed for _, seed in cases]), [rate for rate, _ in cases])
        rate, inside = best_rate(RATES, history.train_loss[-1].reshape(len(RATES), -1))
        networks = make(unit["arm"], seeds_)
        noticed = {kind: {name: [] for name in MEASURES} for kind in KINDS}
        together = {multiple: [] for multiple in MULTIPLES}

        def on_step(step, gradients):
            if step in watched:
                for kind in KINDS:
                    for name, found in notice(networks, kind, x, y, rate * gradients[0], seed=step).items():
                        noticed[kind][name].append(found)
                for multiple in MULTIPLES:
                    together[multiple].append(interaction(networks, x, y, multiple * rate))

        train(networks, [rate] * len(seeds_), on_step)
        rows = []
        for kind, i in product(KINDS, range(len(seeds_))):
            medians = {
                name: torch.stack(values)[:, :, i].double().quantile(0.5, dim=0)
                for name, values in noticed[kind].items()
            }
            rows.append(
                {"part": "perturb", "kind": kind, "seed": seeds_[i], "learning_rate": rate, "inside": inside} | medians
            )
        for multiple, i in product(MULTIPLES, range(len(seeds_))):
            value = torch.stack(together[multiple])[:, i].double().nan_to_num(nan=math.inf).quantile(0.5)
            rows.append(
                {"part": "together", "multiple": multiple, "seed": seeds_[i], "learning_rate": rate}
                | {"interaction": float(value)}
            )
        return rows

    units = [{"arm": arm} for arm in ARMS]
    settings = {**plan, "hidden": HIDDEN, "rates": RATES, "size": SIZE, "batch_size": BATCH_SIZE}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _size(tensor):
    return tensor.norm(dim=(1, 2), keepdim=True)


def _rotation(units: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random orthogonal matrix Q with ||Q - 1|| = SIZE * ||1||, in the Frobenius norm.

    exp of an antisymmetric matrix whose eigenvalues are +-i * t has ||Q - 1||^2 = sum of 4 sin^2(t / 2).
    """
    skew = torch.randn(units, units, generator=generator, dtype=torch.float64)
    skew = skew - skew.T
    one = torch.eye(units, dtype=torch.float64)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        distance = (torch.matrix_exp(middle * skew) - one).norm() / one.norm()
        low, high = (middle, high) if distance < SIZE else (low, middle)
    return torch.matrix_exp(low * skew).float()


# --- what it means ---------------------------------------------------------------------------------------------------


def felt(result: Result, arm: str, kind: str, measure: str) -> np.ndarray:
    """Return for each seed the mean over the later layers of what they notice, shape (seeds,)."""
    return result.column(measure, part="perturb", arm=arm, kind=kind).astype(float).mean(axis=1)


def ratio(result: Result, kind: str, measure: str) -> Estimate:
    """Return what is noticed with BN divided by what is noticed without, seed by seed."""
    return Estimate.of(felt(result, "bn", kind, measure) / felt(result, "plain", kind, measure))


def interactions(result: Result, multiple: float = 1.0) -> Estimate:
    """Return the interaction of the layers' steps with BN divided by that without, each arm at its own rate."""
    with_it, without = (
        result.column("interaction", part="together", arm=a, multiple=multiple) for a in ("bn", "plain")
    )
    return Estimate.of(with_it.astype(float) / without.astype(float))


def verdicts(result: Result) -> list[Verdict]:
    """Judge C05 by what later layers notice of each kind of change, and by the interaction of steps.

    A kind counts as softened if the whole interval of `ratio` lies below 1, for the layers' inputs as well as for their
    gradients (relative change). The interaction of all layers' steps at the best rates counts as one more kind.

    - *holds* if every kind is softened;
    - *refuted* if none is;
    - *holds with conditions* otherwise.

    The number is the ratio for the gradients after a random change of the first layer's weights.
    """
    pairs = {kind: [ratio(result, kind, m) for m in ("input", "gradient")] for kind in KINDS}
    softened = [kind for kind, estimates in pairs.items() if all(e.high < 1 for e in estimates)]
    together = interactions(result)
    count = len(softened) + (together.high < 1)
    verdict = "holds" if count == len(KINDS) + 1 else "conditions" if count else "refuted"
    return [
        Verdict(
            "C05",
            verdict,
            pairs["random"][1],
            "times the change of later layers' gradients with BN, after a random change of the first layer's weights",
            f"Softened in inputs and gradients: {', '.join(softened) or 'nothing'}. The layers' steps interact "
            f"{together} times as strongly with BN, each arm at its best rate.",
        )
    ]


def plot(result: Result):
    """Draw what later layers notice of each kind of change in the first one: their inputs, and their gradients.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 1, figsize=(6.4, 6.2), sharex=True)
    titles = {"input": "change of later layers' inputs", "gradient": "change of their gradients"}
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        for j, (arm, color, marker) in enumerate((("plain", "C1", "s"), ("bn", "C0", "o"))):
            for k, kind in enumerate(KINDS):
                e = Estimate.of(felt(result, arm, kind, measure))
                ax.errorbar(
                    k + 0.2 * (j - 0.5),
                    e.median,
                    [[e.median - e.low], [e.high - e.median]],
                    fmt=marker,
                    color=color,
                    capsize=4,
                    label={"bn": "BN"}.get(arm, arm) if k == 0 else None,
                )
        ax.set(title=title, yscale="log", ylabel="relative")
        ax.grid(False, axis="x")
    axes[1].set_xticks(range(len(KINDS)), KINDS)
    axes[0].legend(fontsize=10)
    return fig


def plot_together(result: Result):
    """Draw the interaction of the layers' steps against the size of the steps.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    for arm, color, style in (("plain", "C1", "s--"), ("bn", "C0", "o-")):
        rate = result.select(part="together", arm=arm)[0]["learning_rate"]
        values = [result.column("interaction", part="together", arm=arm, multiple=m).astype(float) for m in MULTIPLES]
        steps = rate * np.array(MULTIPLES)
        ax.plot(steps, [np.median(v) for v in values], style, color=color, label={"bn": "BN"}.get(arm, arm))
        ax.fill_between(steps, [v.min() for v in values], [v.max() for v in values], color=color, alpha=0.2, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="learning rate of the step", ylabel="interaction of the layers")
    ax.legend()
    return fig
