"""How far can one trust a gradient, with and without batch normalization? The view of the loss in the dispute on C04.

Santurkar et al. (2018) explain the success of BN by a smoother loss: along the direction of the gradient, loss and
gradient change less. This experiment walks along that direction at several moments of training, to distances that are
the same in all arms, and records at each distance

- ``loss``: the loss there, divided by the loss at the start of the walk;
- ``change``: how much the gradient has changed, ||g(eta) - g|| / ||g|| (the less, the more "predictive" the gradient);
- ``beta``: that change per distance walked, ||g(eta) - g|| / (eta ||g||), "effective beta-smoothness".

Part ``rescaled`` asks what such a number means in a network with BN. There the weights before a BN layer can be
multiplied by any factor without changing the function; the curvature with respect to them changes all the same.

What this isn't: a study of large convolutional networks, as in the paper, or a proof. One function, one batch: loss and
gradient are those of a fixed set of training images, with its own batch statistics.

Sources: Santurkar, Tsipras, Ilyas and Mądry (2018), section 3.1 and figure 4; Bjorck et al. (2018), section 3; van
Laarhoven (2017) for the rescaling.
"""

from itertools import product

import numpy as np
import torch

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.experiments.internal_shift import kept, losses

ARMS = ("plain", "bn")
NETS = {"4 layers": [64] * 4, "12 layers": [40] * 12}  # ReLU
DISTANCES = rates(0.01, 10, 4)  # factors on the gradient: learning rates of a single step
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
RATES = rates(0.01, 3.16, 2)
BATCH_SIZE = 32
BUDGETS = {"small": {"steps": 120, "watched": 8, "probe": 256}, "full": {"steps": 1500, "watched": 30, "probe": 1024}}

EXPERIMENT = Experiment(
    name="smoothness",
    title="Loss and gradient along the gradient, with and without BN",
    claims=(),
    section="sec-ics-smooth",
    fair="Centered inputs, ReLU, He's initialization in both arms; plain SGD, each arm at its own best of six rates; "
    "the walk goes to the same distances in both.",
)


def walk(networks: Ensemble, x: torch.Tensor, y: torch.Tensor, distances, parameters=None) -> dict[str, torch.Tensor]:
    """Walk from the current parameters against their gradient and measure the loss at each distance.

    Parameters
    ----------
    networks : Ensemble
        Unchanged in the end.
    x, y : torch.Tensor, shapes (m, D), (m,)
        The batch that defines the loss.
    distances : sequence of K floats
        Factors eta on the gradient.
    parameters : list of torch.Tensor or None
        Which parameters move, and whose gradient is meant; None takes all.

    Returns
    -------
    dict of torch.Tensor, shape (K, R)
        "loss", "change" and "beta", see the module; and "start", shape (R,), the loss where the walk begins.
    """
    moving = networks.parameters if parameters is None else parameters
    start = losses(networks, x, y)
    gradient = torch.autograd.grad(start.sum(), moving)
    size = _norm(gradient)
    found = {"loss": [], "change": [], "beta": []}
    for eta in distances:
        with kept(networks):
            with torch.no_grad():
                for p, g in zip(moving, gradient, strict=True):
                    p.sub_(eta * g)
            loss = losses(networks, x, y)
            there = torch.autograd.grad(loss.sum(), moving)
        change = _norm([a - b for a, b in zip(there, gradient, strict=True)]) / size
        found["loss"].append((loss / start).detach())
        found["change"].append(change)
        found["beta"].append(change / eta)
    return {name: torch.stack(values) for name, values in found.items()} | {"start": start.detach()}


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Walk along the gradient at several steps of training.

    Rows of part "walk": net, arm, seed, learning_rate, inside, watched (steps), and lists of lists (watched,
    distances): loss, change, beta. Part "rescaled": net, arm "bn", seed, factor, start (the loss), curvature (beta of a
    very short walk of the hidden weights alone), in the middle of training.
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    data, seeds_ = centered_digits(), list(seeds)
    x, y = (torch.as_tensor(a[: plan["probe"]]).to(device) for a in (data.x_train, data.y_train))
    watched = sorted({int(s) for s in np.geomspace(1, plan["steps"], plan["watched"])} | {0})[:-1]
    middle = watched[len(watched) // 2]

    def make(unit, seeds):
        sizes = [data.x_train.shape[1], *NETS[unit["net"]], len(data.classes)]
        return Ensemble(sizes, seeds, norm=BatchNorm() if unit["arm"] == "bn" else None, device=device)

    def measure(unit):
        cases = list(product(RATES, seeds_))
        history = fit(
            make(unit, [seed for _, seed in cases]),
            data,
            [rate for rate, _ in cases],
            steps=plan["steps"],
            batch_size=BATCH_SIZE,
            every=plan["steps"],
        )
        rate, inside = best_rate(RATES, history.train_loss[-1].reshape(len(RATES), -1))
        networks, found, rescaled = make(unit, seeds_), [], []

        def on_step(step, gradients):
            if step in watched:
                found.append(walk(networks, x, y, DISTANCES))
            if step == middle and unit["arm"] == "bn":
                rescaled.extend(_rescaled(networks, x, y))

        fit(
            networks,
            data,
            [rate] * len(seeds_),
            steps=plan["steps"],
            batch_size=BATCH_SIZE,
            every=plan["steps"],
            on_step=on_step,
        )
        table = {name: torch.stack([f[name] for f in found]).cpu().numpy() for name in ("loss", "change", "beta")}
        rows = [
            {"part": "walk", "seed": seed, "learning_rate": rate, "inside": inside, "watched": watched}
            | {name: values[:, :, i] for name, values in table.items()}
            for i, seed in enumerate(seeds_)
        ]
        for factor, start, curvature in rescaled:
            for i, seed in enumerate(seeds_):
                rows.append(
                    {"part": "rescaled", "seed": seed, "factor": factor, "start": start[i], "curvature": curvature[i]}
                )
        return rows

    units = [{"net": net, "arm": arm} for net, arm in product(NETS, ARMS)]
    settings = {**plan, "nets": NETS, "rates": RATES, "distances": DISTANCES, "batch_size": BATCH_SIZE}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def _rescaled(networks, x, y):
    """Multiply all hidden weights by each factor and measure the curvature along the gradient of these weights."""
    hidden = networks.weights[:-1]
    for factor in FACTORS:
        with kept(networks):
            with torch.no_grad():
                for weight in hidden:
                    weight.mul_(factor)
            # The same short walk in proportion to the weights: their gradient is 1/factor of what it was.
            found = walk(networks, x, y, [1e-3 * factor**2], hidden)
        yield factor, found["start"], found["beta"][0]


def _norm(tensors):
    return torch.stack([t.flatten(1).double().square().sum(dim=1) for t in tensors]).sum(dim=0).sqrt()


def reach(result: Result, net: str, arm: str) -> np.ndarray:
    """Return for each seed the largest distance at which the loss is still below that of the start, shape (seeds,).

    The median over the watched steps; at each, the last distance before the loss first exceeds that of the start.
    """
    distances = np.array(result.settings["distances"])
    reached = []
    for row in result.select(part="walk", net=net, arm=arm):
        worse = ~(np.array(row["loss"], dtype=float) < 1)
        first = np.where(worse.any(axis=1), worse.argmax(axis=1), len(distances))
        reached.append(np.median(distances[np.maximum(first - 1, 0)]))
    return np.array(reached)


def at_distance(result: Result, name: str, net: str, arm: str, distance: float) -> np.ndarray:
    """Return for each seed the median over the watched steps of "loss", "change" or "beta" at one distance."""
    k = int(np.argmin(np.abs(np.log(np.array(result.settings["distances"]) / distance))))
    values = result.column(name, part="walk", net=net, arm=arm).astype(float)[:, :, k]
    return np.median(np.nan_to_num(values, nan=np.inf), axis=1)


def verdicts(result: Result) -> list[Verdict]:
    """No claim is judged here: see `bnlab.experiments.internal_shift`. `ratios` has the numbers."""
    return []


def ratios(result: Result, name: str, net: str, distance: float) -> Estimate:
    """Return "change" or "beta" with BN divided by that without, at one distance, seed by seed."""
    return Estimate.of(
        at_distance(result, name, net, "bn", distance) / at_distance(result, name, net, "plain", distance)
    )


def plot(result: Result):
    """Draw loss and change of the gradient against the distance walked, for both networks.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(6.4, 6.2), sharex=True, sharey="row")
    distances = np.array(result.settings["distances"])
    for column, net in zip(axes.T, NETS, strict=True):
        for arm, color, style in (("plain", "C1", "s--"), ("bn", "C0", "o-")):
            for ax, name in zip(column, ("loss", "change"), strict=True):
                values = np.array([at_distance(result, name, net, arm, d) for d in distances])
                ax.plot(
                    distances, np.median(values, axis=1), style, ms=4, color=color, label={"bn": "BN"}.get(arm, arm)
                )
                ax.fill_between(distances, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2, lw=0)
        column[0].axhline(1, color="black", lw=1)
        column[0].set(title=net, xscale="log", yscale="log", ylim=(0.3, 30))
        column[1].set(xlabel="distance (learning rate)", yscale="log", ylim=(0.03, 100))
    axes[0, 0].set_ylabel("loss / loss at the start")
    axes[1, 0].set_ylabel("change of the gradient")
    axes[0, 0].legend(fontsize=10)
    return fig


def plot_rescaled(result: Result):
    """Draw curvature and loss against the factor on the hidden weights of networks with BN.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    for net, color, marker in (("4 layers", "C0", "o"), ("12 layers", "C2", "s")):
        one = result.column("curvature", part="rescaled", net=net, factor=1.0)
        values = [np.median(result.column("curvature", part="rescaled", net=net, factor=f) / one) for f in FACTORS]
        ax.plot(FACTORS, values, marker, color=color, label=f"curvature, {net}")
        one = result.column("start", part="rescaled", net=net, factor=1.0)
        values = [np.median(result.column("start", part="rescaled", net=net, factor=f) / one) for f in FACTORS]
        ax.plot(FACTORS, values, marker, color=color, mfc="none", label=f"loss, {net}")
    ax.plot(FACTORS, np.array(FACTORS) ** -2.0, color="black", lw=1, label="1 / factor²")
    ax.set(xscale="log", yscale="log", xlabel="factor on the hidden weights", ylabel="relative to factor 1")
    ax.legend(fontsize=10)
    return fig
