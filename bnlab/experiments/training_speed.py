"""How much faster does a network learn with batch normalization, in steps and in seconds? Claims C06 and C16.

"Ten times faster" depends on what it is compared with. So every comparison here is a pair of arms, without and with
batch normalization, that differ in nothing else, and each arm gets what suits it:

- its own best learning rate, and its own best of two scales of the initial weights, from a sweep over both;
- initial weights made for its activation: He et al. (2015) for ReLU, Glorot & Bengio (2010) for the sigmoid;
- centered inputs, the same optimizer, the same batches, a constant learning rate.

The straw men are run, too: a comparison with an initialization that leaves the network without normalization helpless,
and one at the learning rate that suits only one of the arms. They show where large factors come from.

Steps are counted in ensembles (`bnlab.ensemble`), which make the sweeps affordable. Seconds can't be measured there:
a step is timed in ordinary torch networks, in turns, and the time to a target is steps times the time of a step. A full
run also trains a convolutional network of ordinary layers.

What this isn't: a benchmark of layers (that is `bnlab.benchmark`), or of what normalization costs in use.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bnlab.datasets import centered_digits, fashion
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, kaiming, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.models import MLP, SmallConv

EXPERIMENT = Experiment(
    name="training_speed",
    title="Steps and seconds to a target error, with and without batch normalization",
    claims=("C06", "C16"),
    section="sec-speed-steps",
    fair="He initialization for ReLU, Glorot for the sigmoid; centered inputs; both arms with the same optimizer at a "
    "constant rate; learning rate and scale of the initial weights swept for every arm, the best inside the grid.",
)

ARMS = ("plain", "bn")
TARGETS = (0.2, 0.1, 0.05)  # test errors
MAIN_TARGET = 0.1
FAIR, STRAW = "fair", "straw man"
WIDTH, BATCH = 32, 32
CALIBRATION = 256  # training examples that the statistics of evaluation come from
CONV_PLAN = (8, 8, "M", 16, 16, "M", 32, 32)

# Ioffe & Szegedy (2015), figure 3: steps, in millions, to 72.2 % top-1 accuracy on ImageNet, and the best accuracy.
PUBLISHED = {
    "Inception": (31.0, 72.2),
    "BN-Baseline": (13.3, 72.7),
    "BN-x5": (2.1, 73.0),
    "BN-x30": (2.7, 74.8),
}


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron for the digits: hidden layers, their activation, and the steps it is given (small).

    With bad initial weights (`straw_steps`) a network may need more than from a fair start.
    """

    depth: int
    activation: str
    steps: int
    straw_steps: int

    def given(self, kind: str) -> int:
        """Return the steps of a `FAIR` or a `STRAW` comparison, the same for both arms."""
        return self.steps if kind == FAIR else self.straw_steps


NETWORKS = {
    "ReLU, 3 layers": Network(3, "relu", 150, 150),
    "ReLU, 10 layers": Network(10, "relu", 300, 200),
    "sigmoid, 3 layers": Network(3, "sigmoid", 250, 400),
}
LAYERS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
# lowest and highest learning rate tried, the same for both arms
GRIDS = {
    ("relu", "sgd"): (0.0215, 2.15),
    ("sigmoid", "sgd"): (0.1, 10.0),
    ("relu", "momentum"): (0.00215, 2.15),
    ("sigmoid", "momentum"): (0.01, 10.0),
    ("relu", "adam"): (0.00215, 0.1),
    ("sigmoid", "adam"): (0.00215, 1.0),
}
GAINS = {"relu": (1.0,), "sigmoid": (1.0, 4.0)}  # factors on the weights; 4: the slope of the sigmoid is at most 1/4


def glorot(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (fan_in, fan_out) from N(0, 2 / (fan_in + fan_out)): Glorot & Bengio (2010), equation 12."""
    return torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / (fan_in + fan_out))


def torch_default(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (fan_in, fan_out) as `torch.nn.Linear` does: uniform in ± 1 / sqrt(fan_in).

    Their variance, 1 / (3 fan_in), is a sixth of He's: each ReLU layer shrinks its signal by a factor of about 2.4.
    """
    return (2 * torch.rand(fan_in, fan_out, generator=generator) - 1) / math.sqrt(fan_in)


class Adam:
    """Adam (Kingma & Ba 2015, Algorithm 1) for an ensemble: give it to `train` or `bnlab.ensemble.fit` as ``on_step``.

    It turns the gradients, in place, into Adam's directions; these then take their step, without momentum.
    """

    def __init__(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        self.beta1, self.beta2, self.eps, self.moments = beta1, beta2, eps, None

    def __call__(self, step: int, gradients) -> None:
        if self.moments is None:
            self.moments = [(torch.zeros_like(g), torch.zeros_like(g)) for g in gradients]
        for g, (first, second) in zip(gradients, self.moments, strict=True):
            first.lerp_(g, 1 - self.beta1)
            second.lerp_(g.square(), 1 - self.beta2)
            scale = (second / (1 - self.beta2 ** (step + 1))).sqrt().add_(self.eps)
            g.copy_(first / (1 - self.beta1 ** (step + 1)) / scale)


def checkpoints(steps: int) -> list[int]:
    """Return after how many steps to look at the test error: every step at first, then every 12 % of them."""
    found = [0]
    while found[-1] < steps:
        found.append(min(steps, max(found[-1] + 1, round(found[-1] * 1.12))))
    return found


def batches(seed: int, examples: int, steps: int) -> torch.Tensor:
    """Return which examples each step uses, shape (steps, BATCH): those that `bnlab.ensemble.fit` would draw."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    whole = examples // BATCH  # batches in an epoch; an incomplete last one is left out
    epochs = [torch.randperm(examples, generator=generator)[: whole * BATCH] for _ in range(math.ceil(steps / whole))]
    return torch.cat(epochs).reshape(-1, BATCH)[:steps]


def train(ensemble: Ensemble, x, y, learning_rates, steps: int, momentum=0.0, on_step=None, look=None) -> None:
    """Train as `bnlab.ensemble.fit` does, to the last digit, but without its weight decay and its own evaluations.

    Without these, which this experiment doesn't use, it takes a fifth less time.

    Parameters
    ----------
    ensemble : Ensemble
    x, y : torch.Tensor
        All training examples (m, D), and their labels.
    learning_rates : sequence of R floats
    steps : int
    momentum : float
    on_step : callable, optional
        ``on_step(step, gradients)`` before each update.
    look : callable, optional
        ``look(step)`` before each step and after the last.
    """
    drawn = {seed: batches(seed, len(x), steps) for seed in set(ensemble.seeds)}
    index = torch.stack([drawn[seed] for seed in ensemble.seeds], dim=1).to(x.device)
    rate = torch.tensor(learning_rates, dtype=torch.float32, device=x.device).reshape(-1, 1, 1)
    parameters = ensemble.parameters
    velocity = [torch.zeros_like(p) if momentum else None for p in parameters]
    look = look or (lambda step: None)
    for step in range(steps):
        look(step)
        logits = ensemble(x[index[step]])
        loss = F.cross_entropy(logits.transpose(1, 2), y[index[step]], reduction="none").mean(1)
        gradients = torch.autograd.grad(loss.sum(), parameters)
        with torch.no_grad():
            if on_step is not None:
                on_step(step, gradients)
            for p, v, g in zip(parameters, velocity, gradients, strict=True):
                p.sub_(rate * (v.mul_(momentum).add_(g) if momentum else g))
    look(steps)


@torch.no_grad()
def test_logits(ensemble: Ensemble, x: torch.Tensor, x_test: torch.Tensor, together: int = 10) -> torch.Tensor:
    """Return what ``ensemble(x_test, training=False)`` gives after ``ensemble.calibrate(x)``, in less time.

    Both sets pass through at once, few networks at a time, and are normalized in place: that spares the memory.
    """
    norm, m = ensemble.norm, 0 if ensemble.norm is None else len(x)
    inputs, logits = torch.cat([x[:m], x_test]), []
    for first in range(0, len(ensemble.seeds), together):
        own = slice(first, first + together)
        h = inputs.expand(len(ensemble.seeds[own]), -1, -1)
        for layer, weight in enumerate(ensemble.weights):
            z = torch.bmm(h, weight[own])
            if ensemble.biases[layer] is not None:
                z += ensemble.biases[layer][own]
            if layer == len(ensemble.weights) - 1:
                logits.append(z[:, m:])
                break
            if norm is not None:
                mu, var = norm.statistics(z[:, :m], layer)
                z.sub_(mu).mul_(torch.rsqrt(var + norm.eps)).mul_(ensemble.gamma[layer][own])
                z += ensemble.beta[layer][own]
            h = ensemble.activation(z)
    return torch.cat(logits)


def curves(unit: dict, seeds, device: str, per_decade: int, steps: int) -> list[dict]:
    """Train one arm of one comparison at every learning rate, gain and seed, and return their test errors.

    Parameters
    ----------
    unit : dict
        "network" (key of `NETWORKS`), "optimizer" ("sgd", "momentum" or "adam"), "kind" (`FAIR` or `STRAW`: the initial
        weights of `torch.nn.Linear`), "arm" ("plain" or "bn").
    seeds : sequence of int
    device : str
    per_decade : int
        Learning rates per factor of ten.
    steps : int

    Returns
    -------
    list of dict
        A row per learning rate, gain and seed: "at" (steps) and "errors" (test errors then; NaN once diverged).
    """
    network = NETWORKS[unit["network"]]
    fair = unit["kind"] == FAIR
    init = {"relu": kaiming, "sigmoid": glorot}[network.activation] if fair else torch_default
    cases = [
        {"rate": rate, "gain": gain, "seed": seed}
        for gain in (GAINS[network.activation] if fair else (1.0,))
        for rate in rates(*GRIDS[network.activation, unit["optimizer"]], per_decade)
        for seed in seeds
    ]
    ensemble = Ensemble(
        [64, *[WIDTH] * network.depth, 10],
        [case["seed"] for case in cases],
        norm=BatchNorm() if unit["arm"] == "bn" else None,
        activation=getattr(torch, network.activation),
        init=init,
        gain=[case["gain"] for case in cases],
        device=device,
    )
    data = centered_digits()
    x, y, x_test, y_test = (
        torch.as_tensor(a).to(device) for a in (data.x_train, data.y_train, data.x_test, data.y_test)
    )
    at, errors = checkpoints(steps), []

    def look(step):
        if step in at:
            logits = test_logits(ensemble, x[:CALIBRATION], x_test)
            wrong = (logits.argmax(-1) != y_test).float().mean(1)
            errors.append(torch.where(logits.isfinite().all(-1).all(-1), wrong, torch.nan).cpu().numpy())

    train(
        ensemble,
        x,
        y,
        [case["rate"] for case in cases],
        steps,
        momentum=0.9 if unit["optimizer"] == "momentum" else 0.0,
        on_step=Adam() if unit["optimizer"] == "adam" else None,
        look=look,
    )
    return [
        {**case, "at": at, "errors": [round(float(e), 4) for e in column]}
        for case, column in zip(cases, np.array(errors).T, strict=True)
    ]


CONV_STEPS = 300
CONV_GRID = (0.01, 1.0)


@lru_cache
def small_images() -> tuple[torch.Tensor, ...]:
    """Return garments of 14x14 pixels, centered, as x_train, y_train, x_test, y_test: 5,000 and 1,000."""
    data = fashion()
    x, x_test = (F.avg_pool2d(torch.as_tensor(a), 2) for a in (data.x_train, data.x_test))
    center = x.mean(dim=0)
    scale = (x - center).square().mean().sqrt()
    return (x - center) / scale, torch.as_tensor(data.y_train), (x_test - center) / scale, torch.as_tensor(data.y_test)


def conv_net(arm: str) -> nn.Module:
    """Make the convolutional network of 6 layers for images of 14x14, without or with batch normalization.

    Its running statistics are those of the last forward pass in training mode (momentum 1): see `conv_curves`.
    """
    return SmallConv(partial(nn.BatchNorm2d, momentum=1.0) if arm == "bn" else None, CONV_PLAN, size=14)


def conv_curves(unit: dict, device: str, steps: int = CONV_STEPS) -> dict:
    """Train one ordinary convolutional network (unit: "arm", "rate", "seed", "optimizer") on garments: one row."""
    x, y, x_test, y_test = (a.to(device) for a in small_images())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(unit["seed"])
        model = conv_net(unit["arm"]).to(device)
    generator = torch.Generator().manual_seed(10_000 + unit["seed"])
    momentum = 0.9 if unit["optimizer"] == "momentum" else 0.0
    optimizer = torch.optim.SGD(model.parameters(), unit["rate"], momentum=momentum)
    at, errors = checkpoints(steps), []
    for step in range(steps + 1):
        if step in at:
            with torch.no_grad():
                model.train()(x[:CALIBRATION])  # for its statistics
                logits = model.eval()(x_test)
            wrong = (logits.argmax(1) != y_test).float().mean().item()
            errors.append(round(wrong, 4) if logits.isfinite().all() else math.nan)
        if step < steps:
            chosen = torch.randint(len(x), (BATCH,), generator=generator).to(device)
            optimizer.zero_grad()
            F.cross_entropy(model.train()(x[chosen]), y[chosen]).backward()
            optimizer.step()
    return {"gain": 1.0, "at": at, "errors": errors}


@dataclass(frozen=True)
class Best:
    """One arm of one comparison at what suits it best.

    Attributes
    ----------
    rate, gain : float
        The learning rate and the factor on the initial weights that need the fewest steps (median over the seeds).
    inside : bool
        Whether the learning rate is none of the grid's ends.
    steps : ndarray, shape (seeds,)
        To the target; infinite for never.
    errors : ndarray, shape (seeds, evaluations)
        Test errors after `at` steps.
    at : list of int
    """

    rate: float
    gain: float
    inside: bool
    steps: np.ndarray
    errors: np.ndarray
    at: list


def steps_to(row: dict, target: float) -> float:
    """Return the first number of steps in `row["at"]` with a test error of at most `target`, or infinity."""
    return next((float(at) for at, error in zip(row["at"], row["errors"], strict=True) if error <= target), math.inf)


def best(result: Result, target: float, rate: float | None = None, **where) -> Best:
    """Choose learning rate and gain of an arm for a target.

    Parameters
    ----------
    result : Result
    target : float
        Test error.
    rate : float, optional
        A learning rate to keep to, instead of choosing: for straw men.
    **where
        The arm: ``network="ReLU, 3 layers", optimizer="sgd", kind="fair", arm="bn"``.
    """
    rows = [row for row in result.select(**where) if "errors" in row]
    if not rows:
        raise KeyError(f"no row of {result.experiment} has {where}")
    grid = sorted({row["rate"] for row in rows})
    found = []
    for gain in sorted({row["gain"] for row in rows}):
        table = {(row["rate"], row["seed"]): row for row in rows if row["gain"] == gain}
        chosen = {r: [table[r, seed] for seed in result.seeds] for r in grid}
        steps = np.array([[steps_to(row, target) for row in chosen[r]] for r in grid])
        choice, inside = (rate, True) if rate is not None else best_rate(grid, steps)
        own = chosen[choice]
        found.append(
            Best(
                choice,
                gain,
                inside,
                steps[grid.index(choice)],
                np.array([row["errors"] for row in own], dtype=float),
                own[0]["at"],
            )
        )
    return min(found, key=lambda b: (np.median(b.steps), b.steps.sum()))


@dataclass(frozen=True)
class Comparison:
    """Without and with batch normalization, each at its best, to one target."""

    network: str
    optimizer: str
    kind: str
    target: float
    plain: Best
    bn: Best

    @property
    def ratio(self) -> np.ndarray:
        """How many times fewer steps with batch normalization, shape (seeds,).

        A run that never arrived counts with the steps it was given: then the ratio is only a bound.
        """
        given = max(self.plain.at)
        return np.minimum(self.plain.steps, given) / np.minimum(self.bn.steps, given)

    @property
    def arrived(self) -> dict[str, bool]:
        """Whether most seeds of each arm reached the target."""
        return {
            "plain": bool(np.isfinite(np.median(self.plain.steps))),
            "bn": bool(np.isfinite(np.median(self.bn.steps))),
        }

    @property
    def inside(self) -> bool:
        """Whether both learning rates lie inside their grids."""
        return self.plain.inside and self.bn.inside


def comparisons(result: Result, kind: str = FAIR, targets=TARGETS) -> list[Comparison]:
    """Return all comparisons of a kind, but those in which neither arm reached the target with most seeds."""
    pairs = list(dict.fromkeys((r["network"], r["optimizer"]) for r in result.select(kind=kind) if "errors" in r))
    found = []
    for network, optimizer in pairs:
        for target in targets:
            where = {"network": network, "optimizer": optimizer, "kind": kind}
            found.append(Comparison(*where.values(), target, *(best(result, target, arm=arm, **where) for arm in ARMS)))
    return [comparison for comparison in found if any(comparison.arrived.values())]


def same_rate(result: Result, network: str, whose: str, target: float = MAIN_TARGET) -> Comparison:
    """Return the straw man that gives both arms the learning rate that is best for one of them (`whose`), with SGD."""
    where = {"network": network, "optimizer": "sgd", "kind": FAIR}
    rate = best(result, target, arm=whose, **where).rate
    return Comparison(network, "sgd", STRAW, target, *(best(result, target, rate, arm=arm, **where) for arm in ARMS))


def timed_networks(budget: str) -> dict[str, tuple]:
    """Return what is timed: name -> (a function that makes the network of an arm, shape of an example, batch size)."""

    def mlp(sizes, activation=nn.ReLU):
        return lambda arm: MLP(sizes, nn.BatchNorm1d if arm == "bn" else None, activation, bias=arm == "plain")

    found = {
        name: (mlp([64, *[WIDTH] * net.depth, 10], LAYERS[net.activation]), (64,), BATCH)
        for name, net in NETWORKS.items()
    }
    found["ReLU, 3 layers of 512"] = (mlp([64, 512, 512, 512, 10]), (64,), 256)
    found["convolutions, 6 layers"] = (conv_net, (1, 14, 14), BATCH)
    if budget == "full":
        wide = (32, 32, "M", 64, 64, "M", 128, 128, "M")
        found["convolutions, wide"] = (
            lambda arm: SmallConv(nn.BatchNorm2d if arm == "bn" else None, wide),
            (1, 28, 28),
            64,
        )
    return found


def clock(unit: dict, device: str, budget: str) -> list[dict]:
    """Time training steps of ordinary networks without and with batch normalization, in turns.

    Parameters
    ----------
    unit : dict
        "network": key of `timed_networks`; "seed": the round.
    device : str
    budget : str

    Returns
    -------
    list of dict
        A row for each arm: "seconds", the time of the fastest of 20 steps (forward, backward, SGD): whatever else runs
        on the machine can only add to it.
    """
    make, shape, batch = timed_networks(budget)[unit["network"]]
    generator = torch.Generator().manual_seed(unit["seed"])
    x = torch.randn(batch, *shape, generator=generator).to(device)
    y = torch.randint(10, (batch,), generator=generator).to(device)
    wait = torch.cuda.synchronize if str(device).startswith("cuda") else lambda: None
    models = {arm: make(arm).to(device).train() for arm in ARMS}
    optimizers = {arm: torch.optim.SGD(model.parameters(), 0.01) for arm, model in models.items()}
    seconds = {arm: [] for arm in ARMS}
    for _ in range(20):
        for arm, model in models.items():  # in turns: a busy moment of the machine hits both arms
            wait()
            start = perf_counter()
            optimizers[arm].zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizers[arm].step()
            wait()
            seconds[arm].append(perf_counter() - start)
    return [{"arm": arm, "seconds": min(taken)} for arm, taken in seconds.items()]


def time_ratio(result: Result, network: str) -> np.ndarray:
    """Return how many times longer a step takes with batch normalization, round by round, shape (seeds,)."""
    return np.divide(*(result.column("seconds", network=network, arm=arm, kind="clock") for arm in ("bn", "plain")))


def total_ratio(result: Result, comparison: Comparison) -> np.ndarray:
    """Return how many times less time batch normalization takes to the target, shape (seeds,)."""
    return comparison.ratio / np.median(time_ratio(result, comparison.network))


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Run the comparisons, the straw men and the clock.

    A small run has plain SGD and Adam; a full one SGD with momentum, too, a finer grid, and the convolutional network.
    """
    full = budget == "full"
    per_decade, longer = (4, 2) if full else (3, 1)
    optimizers = ("sgd", "momentum", "adam") if full else ("sgd", "adam")
    units = [
        {"network": network, "optimizer": optimizer, "kind": FAIR, "arm": arm}
        for network in NETWORKS
        for optimizer in optimizers
        if full or (network, optimizer) != ("sigmoid, 3 layers", "adam")
        for arm in ARMS
    ]
    units += [
        {"network": network, "optimizer": "sgd", "kind": STRAW, "arm": arm}
        for network in ("ReLU, 10 layers", "sigmoid, 3 layers")
        for arm in ARMS
    ]
    if full:
        units += [
            {
                "network": "convolutions, 6 layers",
                "optimizer": optimizer,
                "kind": FAIR,
                "arm": arm,
                "rate": rate,
                "seed": seed,
            }
            for optimizer, scale in (("sgd", 1.0), ("momentum", 0.1))
            for arm in ARMS
            for rate in rates(scale * CONV_GRID[0], scale * CONV_GRID[1], 3)
            for seed in seeds
        ]
    units += [{"network": name, "kind": "clock", "seed": seed} for name in timed_networks(budget) for seed in seeds]

    def measure(unit):
        if unit["kind"] == "clock":
            return clock(unit, device, budget)
        if "rate" in unit:
            return conv_curves(unit, device)
        return curves(unit, seeds, device, per_decade, longer * NETWORKS[unit["network"]].given(unit["kind"]))

    settings = {
        "width": WIDTH,
        "batch": BATCH,
        "targets": TARGETS,
        "steps": {
            f"{name}, {kind}": longer * network.given(kind)
            for name, network in NETWORKS.items()
            for kind in (FAIR, STRAW)
        },
        "grids": {" ".join(key): rates(*grid, per_decade) for key, grid in GRIDS.items()},
        "gains": GAINS,
        "threads": torch.get_num_threads(),
    }
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def verdicts(result: Result) -> list[Verdict]:
    """Judge C06 by steps, C16 by steps and seconds, over all fair comparisons (network x optimizer x target).

    C06, "ten times or more": *holds* if the median ratio of steps is at least 10 in every fair comparison, *holds with
    conditions* if in some, *refuted* if in none.

    C16, "more computation, but less time in total": *holds* if a step takes longer with batch normalization in every
    network timed (by the median), and the time to the target is shorter in every fair comparison (the whole interval
    above 1); *refuted* if it is shorter in none (by the median); *holds with conditions* otherwise.

    Both are *open* if a best learning rate lies at the end of its grid. The numbers are, seed by seed, the median over
    the comparisons to `MAIN_TARGET`.
    """
    fair = comparisons(result)
    main = [c for c in fair if c.target == MAIN_TARGET]
    ratios = [Estimate.of(c.ratio) for c in fair]
    totals = [Estimate.of(total_ratio(result, c)) for c in fair]
    if not main:
        because = "No network reached the target."
        return [Verdict(claim, "open", None, "", because) for claim in EXPERIMENT.claims]
    decided = all(c.inside for c in fair)

    tenfold = sum(r.median >= 10 for r in ratios)
    largest = max(ratios, key=lambda r: r.median)
    straw = max((np.median(c.ratio) for c in comparisons(result, STRAW)), default=math.nan)
    speed = Verdict(
        "C06",
        _word(decided, holds=tenfold == len(fair), refuted=tenfold == 0),
        Estimate.of(np.median([c.ratio for c in main], axis=0)),
        f"times fewer steps to {100 * MAIN_TARGET:.0f} % error with BN, each arm tuned",
        f"Of {len(fair)} fair comparisons {tenfold} show ten times; the largest median is {largest.median:.2g}. An "
        f"unfair initialization makes it {straw:.2g}.",
    )

    timed = sorted({row["network"] for row in result.select(kind="clock")})
    slower = {name: Estimate.of(time_ratio(result, name)) for name in timed}
    dearer = all(e.median > 1 for e in slower.values())
    quicker = sum(t.low > 1 for t in totals)
    total = Verdict(
        "C16",
        _word(decided, holds=dearer and quicker == len(fair), refuted=all(t.median <= 1 for t in totals)),
        Estimate.of(np.median([total_ratio(result, c) for c in main], axis=0)),
        f"times less time to {100 * MAIN_TARGET:.0f} % error with BN, each arm tuned",
        f"A step takes {min(e.median for e in slower.values()):.2f} to {max(e.median for e in slower.values()):.2f} "
        f"times as long. The time to the target is surely shorter in {quicker} of {len(fair)} fair comparisons.",
    )
    return [speed, total]


def _word(decided: bool, holds: bool, refuted: bool) -> str:
    return "open" if not decided else "holds" if holds else "refuted" if refuted else "conditions"


def plot(result: Result):
    """Draw how many times fewer steps batch normalization needs: every fair comparison, then the straw men."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6.4, 0.62 * len(comparisons(result, targets=(MAIN_TARGET,))) + 3.4))
    looks = {0.2: ("o", "C2"), 0.1: ("s", "C0"), 0.05: ("^", "C3")}
    fair, straw = comparisons(result), comparisons(result, STRAW)
    places = list(dict.fromkeys((c.kind, c.network, c.optimizer) for c in [*fair, *straw]))
    for c in [*fair, *straw]:
        marker, color = looks[c.target]
        y = places.index((c.kind, c.network, c.optimizer)) + (TARGETS.index(c.target) - 1) * 0.22
        ratio = Estimate.of(c.ratio)
        bars = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        ax.errorbar(ratio.median, y, xerr=bars, fmt=marker, color=color, capsize=2, ms=6)
        if not c.arrived["plain"]:  # a lower bound
            ax.annotate("", (ratio.high * 1.5, y), (ratio.high * 1.05, y), arrowprops={"arrowstyle": "->"})
    ax.axvline(1, color="black", lw=1)
    ax.axvline(10, color="black", lw=1, ls="--")
    ax.axhspan(len({(c.network, c.optimizer) for c in fair}) - 0.5, len(places) - 0.5, color="C4", alpha=0.2, lw=0)
    names = {"sgd": "SGD", "momentum": "SGD, momentum", "adam": "Adam"}
    labels = [
        f"{network}\n{names[optimizer]}{', bad start' if kind == STRAW else ''}" for kind, network, optimizer in places
    ]
    ax.set(xscale="log", xlabel="times fewer steps with BN", yticks=range(len(places)), yticklabels=labels)
    ax.set(
        ylim=(len(places) - 0.5, -0.5), xticks=[0.5, 1, 2, 5, 10, 20], xticklabels=["0.5", "1", "2", "5", "10", "20"]
    )
    ax.minorticks_off()
    for target, (marker, color) in looks.items():
        ax.plot([], [], marker, color=color, label=f"{100 * target:.0f} %")
    figure.legend(title="to a test error of", loc="outside lower center", ncols=len(looks))
    return figure


def plot_curves(result: Result, target: float = MAIN_TARGET, optimizer: str = "sgd"):
    """Draw the test error over the steps for every network, each arm at its best for the target."""
    import matplotlib.pyplot as plt

    names = [name for name in NETWORKS if result.select(network=name, optimizer=optimizer, kind=FAIR)]
    figure, axes = plt.subplots(len(names), 1, figsize=(6.4, 2.4 * len(names)), sharex=True, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        for arm, color, style, label in (("plain", "C1", "--", "no BN"), ("bn", "C0", "-", "BN")):
            found = best(result, target, network=name, optimizer=optimizer, kind=FAIR, arm=arm)
            errors = np.nan_to_num(found.errors, nan=0.9)
            ax.plot(found.at, np.median(errors, axis=0), style, color=color, label=label)
            ax.fill_between(found.at, errors.min(axis=0), errors.max(axis=0), color=color, alpha=0.2, lw=0)
        ax.axhline(target, color="black", lw=1)
        ax.set(xscale="symlog", yscale="log", title=name, ylabel="test error")
        ax.set(yticks=[0.05, 0.1, 0.2, 0.5, 0.9], yticklabels=["5 %", "10 %", "20 %", "50 %", "90 %"])
        ax.minorticks_off()
    axes[0].legend(loc="lower left")
    axes[-1].set(xlabel="step", xticks=[0, 1, 10, 100], xticklabels=["0", "1", "10", "100"])
    return figure


def plot_clock(result: Result):
    """Draw how many times longer a step takes with batch normalization: a mark for each round, a bar for the median."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["network"] for row in result.select(kind="clock")))
    figure, ax = plt.subplots(figsize=(6.4, 0.6 * len(names) + 1))
    for place, name in enumerate(names):
        ratio = time_ratio(result, name)
        ax.plot(ratio, np.full(len(ratio), place), "o", color="C0", alpha=0.7, ms=6)
        ax.plot([np.median(ratio)] * 2, [place - 0.25, place + 0.25], color="black", lw=2.5)
    ax.axvline(1, color="black", lw=1)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    ax.set_xlabel("time of a step with BN / without")
    return figure
