"""Does batch normalization keep the inputs of hidden layers from shifting? The experiment behind claim C04.

"Internal covariate shift" has been given several meanings, so it is measured by all of them, over single steps of
training. What a layer receives is taken on a fixed set of training images, before and after the step:

- ``mean``: how far the mean of a layer's input moves (Ioffe and Szegedy 2015: the distribution of a layer's inputs);
- ``spread``: how much its standard deviation changes;
- ``wasserstein``: how far its whole distribution moves, unit by unit (the Wasserstein-1 distance);
- ``angle``: by how many degrees the gradient of a layer's weights turns when the layers *before* it take their step
  (Santurkar et al. 2018, definition 2.1);
- ``length``: the norm of that change, relative to the gradient itself.

The first three are relative to the layer's standard deviation, so that a layer of large numbers isn't called restless
for that. Three arms: ``plain``, ``bn`` and ``noisy``, the control of Santurkar et al.: behind every BN layer each value
is multiplied and shifted by noise whose own mean and scale are drawn anew at every step. If shifting inputs were what
harms training, it would train badly.

Each arm is measured at its own best learning rate and, for equal steps, at the best rate of the plain arm.

What this isn't: a measurement on large networks, or an account of why BN helps. See `bnlab.experiments.smoothness`
for the view of the loss, and `bnlab.experiments.layer_independence` for C05.

Sources: Ioffe and Szegedy (2015), section 1 and figure 1 (whose network of three sigmoid layers, of 100 units there,
is one of the two here); Santurkar, Tsipras, Ilyas and Mądry (2018), How does batch normalization help optimization?,
section 2.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch
from torch.nn import functional as F

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, kaiming, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

ARMS = ("plain", "bn", "noisy")
MODES = ("own", "equal")
DEFINITIONS = ("mean", "spread", "wasserstein", "angle", "length")
NETS = {"sigmoid": [64] * 3, "relu": [64] * 4}
RATES = {"sigmoid": rates(0.1, 31.6, 2), "relu": rates(0.0316, 3.16, 2)}
TARGET = 0.1  # test error, for the number of steps to it
BATCH_SIZE = 32
QUANTILES = (0.15, 0.5, 0.85)  # those of Ioffe and Szegedy's figure 1
BUDGETS = {"small": {"steps": 200, "watched": 12, "probe": 256}, "full": {"steps": 2000, "watched": 40, "probe": 1024}}

EXPERIMENT = Experiment(
    name="internal_shift",
    title="Internal covariate shift by five definitions, with BN, without, and with noisy BN",
    claims=("C04",),
    section="sec-ics-measured",
    fair="Centered inputs; He's initialization for ReLU, Glorot's times 4 for sigmoid (whose slope at 0 is 1/4), in "
    "all arms; plain SGD at a constant rate: each arm at the best of a grid, and all at that of the plain arm.",
)


class Noise:
    """The noise of the noisy arm: y becomes scale * y + shift, behind every BN layer, in training only.

    At each step, every unit draws a center for its shifts, uniform within -0.5 to 0.5, and a center for its scales,
    uniform within 1 to 1.25. Each example draws its shift within 0.1 of the one center, and its scale from a normal
    distribution with standard deviation 0.1 around the other. So mean and variance of what the next layer receives jump
    from step to step, differently for every unit.

    An instance is a tap of `bnlab.ensemble.Ensemble.forward`. Attribute `step` says which step's noise is meant; all
    networks of an ensemble receive the same noise.
    """

    def __init__(self):
        self.step = 0

    def __call__(self, place: str, layer: int, value: torch.Tensor) -> torch.Tensor | None:
        if place != "y":
            return None
        generator = torch.Generator().manual_seed(1_000_000 + 1_000 * self.step + layer)  # no network's seed
        units = value.shape[-1]
        center = torch.rand(units, generator=generator) - 0.5
        size = 1 + 0.25 * torch.rand(units, generator=generator)
        shift = center + 0.2 * torch.rand(value.shape[1:], generator=generator) - 0.1
        scale = size + 0.1 * torch.randn(value.shape[1:], generator=generator)
        return value * scale.to(value.device) + shift.to(value.device)


def both(*taps: Callable | None) -> Callable:
    """Join taps: each sees what the one before made of a value; None is left out."""

    def tap(place, layer, value):
        for one in taps:
            changed = None if one is None else one(place, layer, value)
            value = value if changed is None else changed
        return value

    return tap


@torch.no_grad()
def layer_inputs(networks: Ensemble, x: torch.Tensor, tap: Callable | None = None, place: str = "h") -> list:
    """Return what each hidden layer passes on, shape (R, m, C) each, with the statistics of x itself.

    Place "h" is the input of the next layer; "y" is the input of this layer's activation function.
    """
    seen = []
    networks.forward(x, tap=both(tap, lambda at, layer, value: seen.append(value) if at == place else None))
    return seen


def shift(before: torch.Tensor, after: torch.Tensor) -> dict[str, torch.Tensor]:
    """Measure how the distribution of a layer's values changed.

    Parameters
    ----------
    before, after : torch.Tensor, shape (R, m, C)
        Values of the same m examples.

    Returns
    -------
    dict of torch.Tensor, shape (R,)
        "mean", "spread", "wasserstein": root mean square over the units, divided by the root mean square over the units
        of the standard deviation before. A unit that is constant adds nothing, and does no harm.
    """
    scale = before.var(dim=1, correction=0).mean(dim=1).sqrt()
    moved = {
        "mean": after.mean(dim=1) - before.mean(dim=1),
        "spread": after.std(dim=1, correction=0) - before.std(dim=1, correction=0),
        "wasserstein": (after.sort(dim=1).values - before.sort(dim=1).values).abs().mean(dim=1),
    }
    return {name: values.square().mean(dim=1).sqrt() / scale for name, values in moved.items()}


def layers_of(networks: Ensemble) -> list[list[torch.Tensor]]:
    """Return the parameters of each layer, from the first to the last."""
    hidden = [*zip(networks.weights, networks.biases, [*networks.gamma, None], [*networks.beta, None], strict=True)]
    return [[p for p in layer if p is not None] for layer in hidden]


def losses(networks: Ensemble, x: torch.Tensor, y: torch.Tensor, tap: Callable | None = None) -> torch.Tensor:
    """Return the mean cross-entropy of each network on one batch, with its own statistics: shape (R,)."""
    logits = networks.forward(x, tap=tap)
    return F.cross_entropy(logits.transpose(1, 2), y.expand(len(logits), -1), reduction="none").mean(1)


@contextmanager
def kept(networks: Ensemble) -> Iterator[None]:
    """Put all parameters back in the end, whatever was done to them."""
    saved = [p.detach().clone() for p in networks.parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for p, value in zip(networks.parameters, saved, strict=True):
                p.copy_(value)


def gradient_shift(networks, steps: dict[int, torch.Tensor], x, y, before=None, after=None) -> dict[str, torch.Tensor]:
    """Let the layers take their step one after another, and see what becomes of the gradient of those that follow.

    Santurkar et al. (2018), definition 2.1: G is the gradient of layer i's weights now, G' the one after all layers
    before i took their step and layer i didn't.

    Parameters
    ----------
    networks : Ensemble
        Unchanged in the end.
    steps : dict
        id of a parameter -> what the step subtracts from it.
    x, y : torch.Tensor, shapes (m, D), (m,)
        One batch for both gradients.
    before, after : callable, optional
        Taps for the two forward passes.

    Returns
    -------
    dict of torch.Tensor, shape (layers - 1, R)
        "angle" between G and G' in degrees, "length" of G' - G relative to that of G, "absolute" length of G' - G.
    """
    first = torch.autograd.grad(losses(networks, x, y, before).sum(), networks.weights)
    found = {"angle": [], "length": [], "absolute": []}
    with kept(networks):
        for i, layer in enumerate(layers_of(networks)[:-1], start=1):
            with torch.no_grad():
                for p in layer:
                    p.sub_(steps[id(p)])
            (second,) = torch.autograd.grad(losses(networks, x, y, after).sum(), [networks.weights[i]])
            g, h = first[i].flatten(1).double(), second.flatten(1).double()
            change, size = (h - g).norm(dim=1), g.norm(dim=1)
            cosine = F.cosine_similarity(g, h, dim=1).clamp(-1, 1)
            found["angle"].append(torch.rad2deg(torch.acos(cosine)))
            found["length"].append(change / size)
            found["absolute"].append(change)
    return {name: torch.stack(values) for name, values in found.items()}


def glorot(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (fan_in, fan_out) from N(0, 16 * 2 / (fan_in + fan_out)), for sigmoid units.

    Glorot and Bengio (2010), equation 12, is made for units of slope 1 at zero; the sigmoid has 1/4, hence 4 squared.
    """
    return 4 * torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / (fan_in + fan_out))


def make(activation: str, arm: str, data, seeds, device: str = "cpu") -> Ensemble:
    """Make the network of `NETS` for an activation and an arm, once for every entry of `seeds`."""
    return Ensemble(
        [data.x_train.shape[1], *NETS[activation], len(data.classes)],
        seeds,
        norm=None if arm == "plain" else BatchNorm(),
        activation={"sigmoid": torch.sigmoid, "relu": torch.relu}[activation],
        init=kaiming if activation == "relu" else glorot,
        device=device,
    )


def tuned(activation: str, arm: str, data, seeds, steps: int, device: str = "cpu") -> tuple[float, bool]:
    """Return the rate with the smallest median training loss after `steps` steps, and whether it is inside the grid."""
    cases = list(product(RATES[activation], seeds))
    networks, noise = make(activation, arm, data, [seed for _, seed in cases], device), Noise()

    def on_step(step, gradients):
        noise.step = step + 1

    history = fit(
        networks,
        data,
        [rate for rate, _ in cases],
        steps=steps,
        batch_size=BATCH_SIZE,
        every=steps,
        tap=noise if arm == "noisy" else None,
        on_step=on_step,
    )
    return best_rate(RATES[activation], history.train_loss[-1].reshape(len(RATES[activation]), -1))


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train the three arms of both networks and measure the shift of single steps.

    Rows of activation, arm, mode ("own" or "equal" rate), seed: learning_rate, inside, steps_to_target (infinite for
    never), test_error, train_loss; watched (the steps measured) and for each of them, averaged over layers: mean,
    spread, wasserstein, angle, length, absolute. Besides quantiles: the 15th, 50th and 85th percentile of the input of
    a unit's activation function, in the last hidden layer, before each watched step (3, watched).
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    data, seeds_ = centered_digits(), list(seeds)
    best: dict[tuple, tuple[float, bool]] = {}

    def rate_of(activation, arm):
        if (activation, arm) not in best:
            best[activation, arm] = tuned(activation, arm, data, seeds_, plan["steps"], device)
        return best[activation, arm]

    def measure(unit):
        activation, arm = unit["activation"], unit["arm"]
        rate, inside = rate_of(activation, arm if unit["mode"] == "own" else "plain")
        return _watch(activation, arm, rate, inside, data, seeds_, device, **plan)

    units = [
        {"activation": activation, "arm": arm, "mode": mode}
        for activation, arm, mode in product(NETS, ARMS, MODES)
        if (arm, mode) != ("plain", "equal")
    ]
    settings = {**plan, "nets": NETS, "rates": RATES, "batch_size": BATCH_SIZE, "target": TARGET}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _watch(activation, arm, rate, inside, data, seeds, device, steps, watched, probe):
    networks, noise = make(activation, arm, data, seeds, device), Noise()
    tap = noise if arm == "noisy" else None
    x, y = (torch.as_tensor(a[:probe]).to(device) for a in (data.x_train, data.y_train))
    watched = sorted({int(s) for s in np.geomspace(1, steps, watched)} | {0})[:-1]
    record = {name: [] for name in (*DEFINITIONS, "absolute", "quantiles")}

    def on_step(step, gradients):
        if step in watched:
            moves = {id(p): rate * g for p, g in zip(networks.parameters, gradients, strict=True)}
            values = layer_inputs(networks, x, tap, place="y")[-1][..., 0]
            record["quantiles"].append(values.quantile(torch.tensor(QUANTILES, device=device), dim=1))
            # The noise of a step is part of what a layer receives: "after" a step, the next noise applies.
            now, then = (tap and _frozen(step)), (tap and _frozen(step + 1))
            for name, found in gradient_shift(networks, moves, x, y, now, then).items():
                record[name].append(found.mean(dim=0))
            before = layer_inputs(networks, x, now)
            with kept(networks), torch.no_grad():
                for p in networks.parameters:
                    p.sub_(moves[id(p)])
                pairs = zip(before, layer_inputs(networks, x, then), strict=True)
                shifts = [shift(old, new) for old, new in pairs]
            for name in shifts[0]:
                record[name].append(torch.stack([found[name] for found in shifts]).mean(dim=0))
        noise.step = step + 1

    history = fit(
        networks, data, [rate] * len(seeds), steps=steps, batch_size=BATCH_SIZE, every=5, tap=tap, on_step=on_step
    )
    table = {name: torch.stack(values).cpu().numpy() for name, values in record.items()}
    return [
        {"seed": seed, "learning_rate": rate, "inside": inside}
        | {"steps_to_target": history.steps_to(TARGET)[i], "test_error": history.test_error[-1, i]}
        | {"train_loss": history.train_loss[-1, i], "watched": watched}
        | {name: table[name][:, i] for name in (*DEFINITIONS, "absolute")}
        | {"quantiles": table["quantiles"][:, :, i].T}
        for i, seed in enumerate(seeds)
    ]


def _frozen(step):
    noise = Noise()
    noise.step = step
    return noise


# --- what it means ---------------------------------------------------------------------------------------------------


def typical(result: Result, definition: str, **where) -> np.ndarray:
    """Return for each seed the geometric mean of a shift over the watched steps, shape (seeds,)."""
    values = result.column(definition, **where).astype(float)
    with np.errstate(divide="ignore"):
        return np.exp(np.log(values).mean(axis=1))


def ratio(result: Result, definition: str, activation: str, mode: str, arm: str = "bn") -> Estimate:
    """Return the shift of an arm divided by that of the plain arm at its best rate, seed by seed."""
    with_it = typical(result, definition, activation=activation, arm=arm, mode=mode)
    without = typical(result, definition, activation=activation, arm="plain", mode="own")
    return Estimate.of(with_it / without)


def cases(result: Result) -> dict[tuple[str, str, str], Estimate]:
    """Return the `ratio` of every case: a definition, a network and a way to choose BN's learning rate.

    Where both ways choose the same rate they are one case, listed as "own".
    """
    found = {}
    for definition, activation, mode in product(DEFINITIONS, NETS, MODES):
        chosen = {m: result.column("learning_rate", activation=activation, arm="bn", mode=m)[0] for m in MODES}
        if mode == "own" or chosen["equal"] != chosen["own"]:
            found[definition, activation, mode] = ratio(result, definition, activation, mode)
    return found


def verdicts(result: Result) -> list[Verdict]:
    """Judge C04 by all `cases`.

    A case is reduced if the whole interval of `ratio` lies below 1, increased if it lies above.

    - *holds* if every case is reduced;
    - *refuted* if no more cases are reduced than increased;
    - *holds with conditions* otherwise.

    The number is the ratio for the original definition, the drift of the mean, in the ReLU network, each arm at its own
    best learning rate.
    """
    ratios = cases(result)
    reduced = [key for key, e in ratios.items() if e.high < 1]
    increased = [key for key, e in ratios.items() if e.low > 1]
    if len(reduced) == len(ratios):
        verdict = "holds"
    else:
        verdict = "conditions" if len(reduced) > len(increased) else "refuted"
    noisy = ratio(result, "mean", "relu", "own", arm="noisy")
    return [
        Verdict(
            "C04",
            verdict,
            ratios["mean", "relu", "own"],
            "times the drift of a layer's mean input per step, with BN, each at its best rate (ReLU)",
            f"Of {len(ratios)} cases (definition, network, rate) BN reduces the shift in {len(reduced)} and increases "
            f"it in {len(increased)}; noisy BN shifts {noisy} times as much as no BN.",
        )
    ]


COLORS = {"plain": "C1", "bn": "C0", "noisy": "C3"}
STYLES = {"plain": "s--", "bn": "o-", "noisy": "^:"}
LABELS = {"plain": "plain", "bn": "BN", "noisy": "noisy BN"}
TITLES = {
    "mean": "mean of the input",
    "spread": "its standard deviation",
    "wasserstein": "its distribution (Wasserstein)",
    "angle": "gradient: angle in degrees",
    "length": "gradient: relative change",
}


def plot(result: Result):
    """Draw the shift per step of every arm, by all definitions, networks and ways to choose the rate.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(5, 1, figsize=(6.4, 10), sharex=True)
    columns = list(product(NETS, MODES))
    for ax, definition in zip(axes, DEFINITIONS, strict=True):
        for k, (activation, mode) in enumerate(columns):
            for j, arm in enumerate(ARMS):
                where = {"activation": activation, "arm": arm, "mode": "own" if arm == "plain" else mode}
                e = Estimate.of(typical(result, definition, **where))
                ax.errorbar(
                    k + 0.22 * (j - 1),
                    e.median,
                    [[e.median - e.low], [e.high - e.median]],
                    fmt=STYLES[arm][0],
                    color=COLORS[arm],
                    capsize=4,
                    label=LABELS[arm] if k == 0 else None,
                )
        ax.set(title=TITLES[definition], yscale="log")
        low, high = ax.get_ylim()
        ticks = [tick for tick in (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low <= tick <= high]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.grid(False, axis="x")
    axes[-1].set_xticks(range(len(columns)), [f"{a.replace('relu', 'ReLU')}\n{m} rate" for a, m in columns])
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return fig


def plot_quantiles(result: Result, seed: int = 0):
    """Draw the 15th, 50th and 85th percentile of one unit's input to its sigmoid over training, with and without BN.

    The picture of Ioffe and Szegedy (2015), figure 1 b and c. Every arm at its own best rate.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 1, figsize=(6.4, 5.6), sharex=True)
    for ax, arm in zip(axes, ("plain", "bn"), strict=True):
        (row,) = result.select(activation="sigmoid", arm=arm, mode="own", seed=seed)
        low, middle, high = np.array(row["quantiles"])
        steps = np.array(row["watched"]) + 1
        ax.fill_between(steps, low, high, color=COLORS[arm], alpha=0.25, lw=0)
        ax.plot(steps, middle, "o-", color=COLORS[arm], ms=4)
        ax.set(title={"plain": "without BN", "bn": "with BN"}[arm], xscale="log", ylabel="input of the sigmoid")
    axes[1].set_xlabel("step")
    return fig
