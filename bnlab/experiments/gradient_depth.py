"""What happens to the gradient on its way down, with and without batch normalization? The experiment behind claim C09.

Three parts, each a set of rows marked by ``part``:

- ``start``: a net of fifty layers with fresh weights, no training. How large is the gradient of a loss with respect to
  each layer's output? Linear, ReLU, tanh and sigmoid units, each with its own good initialization, with PyTorch's
  default and with weights twice too large; with BN, without, and with BN and skip connections. In float64, as some of
  these gradients are too small for float32.
- ``batch``: the factor by which the squared norm of the gradient grows per layer, with BN, against the batch size. Two
  predictions are put to the test: `linear_growth` for linear units and any batch, and `wide_growth` for any unit and a
  large batch.
- ``training``: nets of twenty layers (fifty in the full budget), trained, every arm at its own best learning rate.

What this isn't: a theory of deep networks. The predictions hold for wide nets at initialization; see Yang et al. (2019)
for the proofs. Convolutions are not covered.

Sources: Glorot and Bengio (2010) and He et al. (2015) for the initializations; Yang, Pennington, Rao, Sohl-Dickstein
and Schoenholz (2019), A mean field theory of batch normalization, for the explosion; He et al. (2016) for skip
connections.
"""

import math
from functools import partial
from itertools import product

import numpy as np
import torch

from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

ACTIVATIONS = {"linear": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
GOOD = {"linear": 1.0, "relu": math.sqrt(2), "tanh": 1.0, "sigmoid": 1.0}  # He for ReLU, Glorot for equal widths else
INITS = ("good", "default", "double")
DEFAULT = 1 / math.sqrt(3)  # torch.nn.Linear: uniform within 1 / sqrt(fan_in)
ARMS = ("plain", "bn", "residual")
EPS = 1e-5
BAND = 1000.0  # over the whole depth, a gradient that changes less than this many times is called stable
BUDGETS = {
    "small": {
        "start": {"depth": 50, "width": 100, "batch": 128},
        "batch": {"depth": 20, "width": 192, "batches": [8, 32, 128, 512]},
        "training": {"depth": 20, "width": 32, "steps": 100, "rates": rates(0.01, 3.16, 2)},
    },
    "full": {
        "start": {"depth": 50, "width": 400, "batch": 512},
        "batch": {"depth": 50, "width": 1024, "batches": [4, 8, 16, 32, 64, 128, 256, 512, 1024]},
        "training": {"depth": 50, "width": 64, "steps": 600, "rates": rates(1e-4, 10, 3)},
    },
}
TRAINED = (  # activation, arm, initialization
    ("relu", "plain", "good"),
    ("relu", "plain", "default"),
    ("relu", "bn", "good"),
    ("relu", "residual", "good"),
    ("tanh", "plain", "good"),
    ("tanh", "bn", "good"),
    ("sigmoid", "plain", "good"),
    ("sigmoid", "bn", "good"),
)
BATCH_SIZE = 32

EXPERIMENT = Experiment(
    name="gradient_depth",
    title="Gradients against depth, with and without BN",
    claims=("C09",),
    section="sec-init-gradients",
    fair="He's initialization for ReLU and Glorot's for the others in both arms; PyTorch's default and doubled weights "
    "are shown beside them. In training: plain SGD at a constant rate, the best of six rates for every arm.",
)


# --- predictions -----------------------------------------------------------------------------------------------------


def linear_growth(m: int) -> float:
    """Return the factor per layer on the gradient's squared norm in a wide linear net with BN: (m - 2) / (m - 3).

    Yang et al. (2019); derived in the chapter. m is the batch size, at least 4.
    """
    if m < 4:
        raise ValueError(f"m is {m}, but the expected value of 1/var is infinite below 4: give a larger batch")
    return (m - 2) / (m - 3)


def wide_growth(activation: str) -> float:
    """Return the factor per layer on the gradient's squared norm in a wide net with BN, for a large batch.

    E[phi'(u)^2] / Var[phi(u)] for a standard normal u, integrated by Gauss-Hermite quadrature (ReLU in closed form:
    pi / (pi - 1), Yang et al. 2019). It is never below 1: that is the Poincaré inequality of the normal distribution.
    """
    if activation == "relu":
        return math.pi / (math.pi - 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    u, weights = torch.tensor(nodes, requires_grad=True), torch.tensor(weights / weights.sum())
    value = ACTIVATIONS[activation](u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    value = value.detach()
    variance = (weights * value**2).sum() - (weights * value).sum() ** 2
    return float((weights * slope**2).sum() / variance)


# --- measurements ----------------------------------------------------------------------------------------------------


def gradient_profile(
    seed: int,
    activation: str,
    arm: str,
    std: float,
    *,
    depth: int,
    width: int,
    batch: int,
    eps: float = EPS,
    device="cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Send a batch of digits through fresh layers, and a random gradient back, in float64.

    Each layer is linear, [BN], activation, [+ what came in, from the second layer on]. The gradient at the top is
    a draw from N(0, 1), the same for all arms of a seed, so the labels play no role.

    Parameters
    ----------
    seed : int
    activation : str
        A key of `ACTIVATIONS`.
    arm : {"plain", "bn", "residual"}
        The last one has BN and skip connections.
    std : float
        Weights are drawn from N(0, std**2 / fan_in).
    depth, width, batch : int
    device : str

    Returns
    -------
    gradient : ndarray, shape (depth,)
        Norm of the gradient with respect to each layer's output, from the first layer to the last.
    weight_gradient : ndarray, shape (depth,)
        Norm of the gradient with respect to each layer's weights.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    images = torch.as_tensor(centered_digits().x_train)
    h = images[torch.randperm(len(images), generator=generator)[:batch]].double().to(device)
    outputs, weights = [], []
    for layer in range(depth):
        weight = (normal(h.shape[1], width) * std / math.sqrt(h.shape[1])).to(device).requires_grad_()
        z = h @ weight
        if arm != "plain":
            z = z - z.mean(dim=0)
            z = z * torch.rsqrt(z.square().mean(dim=0) + EPS)
        value = ACTIVATIONS[activation](z)
        h = value + h if arm == "residual" and layer > 0 else value
        outputs.append(h)
        weights.append(weight)
    gradients = torch.autograd.grad(outputs[-1], outputs + weights, normal(batch, width).to(device))
    norms = np.array([float(gradient.norm()) for gradient in gradients])
    return norms[:depth], norms[depth:]


def growth(gradient) -> float:
    """Return the factor per layer, towards the input, on the squared norm of a gradient profile.

    From the middle three fifths of the layers: the first ones still see the data, the last ones the random top.
    """
    depth = len(gradient)
    low, high = depth // 5, depth - depth // 5 - 1
    return float((gradient[low] / gradient[high]) ** (2 / (high - low)))


class Residual(Ensemble):
    """An ensemble with a skip connection around every hidden layer but the first: h + activation(BN(W h))."""

    def forward(self, x, *, training=True, tap=None):
        """See `Ensemble.forward`; "h" is the value after the addition."""
        stream = None

        def add(place, layer, value):
            nonlocal stream
            if place == "h":
                value = stream = value if stream is None else value + stream
            changed = None if tap is None else tap(place, layer, value)
            return value if changed is None else changed

        return super().forward(x, training=training, tap=add)

    __call__ = forward


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Measure the three parts: gradients at the start, growth against the batch size, and gradients in training.

    Rows of part "start": activation, arm, init, seed; gradient and weight_gradient (lists, one number per layer),
    change (norm at the first layer's output divided by that at the last's), growth (of the square, per layer). Part
    "batch": activation, m, seed, growth. Part "training": activation, arm, init, seed, learning_rate, inside,
    test_error, train_loss, steps, and relative (a list for each of these steps: norm of each hidden layer's weight
    gradient divided by the norm of the weights).
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    seeds_ = list(seeds)
    units = [
        {"part": "start", "activation": activation, "arm": arm, "init": init}
        for activation, arm, init in product(ACTIVATIONS, ARMS, INITS)
        if arm != "residual" or init == "good"
    ]
    units += [{"part": "batch", "activation": a, "m": m} for a in ("linear", "relu") for m in plan["batch"]["batches"]]
    units += [{"part": "training", "activation": a, "arm": arm, "init": init} for a, arm, init in TRAINED]

    def measure(unit):
        return {"start": at_start, "batch": by_batch, "training": in_training}[unit["part"]](unit)

    def at_start(unit):
        rows = []
        for seed in seeds_:
            std = _std(unit["activation"], unit["init"])
            gradient, weights = gradient_profile(
                seed, unit["activation"], unit["arm"], std, **plan["start"], device=device
            )
            rows.append(
                {"seed": seed, "gradient": gradient, "weight_gradient": weights}
                | {"change": gradient[0] / gradient[-1], "growth": growth(gradient)}
            )
        return rows

    def by_batch(unit):
        size = {key: plan["batch"][key] for key in ("depth", "width")}
        std = GOOD[unit["activation"]]
        return [
            {
                "seed": seed,
                "growth": growth(
                    gradient_profile(seed, unit["activation"], "bn", std, **size, batch=unit["m"], device=device)[0]
                ),
            }
            for seed in seeds_
        ]

    def in_training(unit):
        return _train(unit, seeds_, device, **plan["training"])

    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=plan, journal=journal
    )


def _std(activation, init):
    return {"good": GOOD[activation], "default": DEFAULT, "double": 2 * GOOD[activation]}[init]


def _train(unit, seeds, device, depth, width, steps, rates):
    data = centered_digits()
    sizes = [data.x_train.shape[1], *[width] * depth, len(data.classes)]
    std = _std(unit["activation"], unit["init"])
    cases = list(product(rates, seeds))
    networks = (Residual if unit["arm"] == "residual" else Ensemble)(
        sizes,
        [seed for _, seed in cases],
        norm=None if unit["arm"] == "plain" else BatchNorm(EPS),
        activation=ACTIVATIONS[unit["activation"]],
        init=lambda fan_in, fan_out, generator: torch.randn(fan_in, fan_out, generator=generator) * std / fan_in**0.5,
        device=device,
    )
    with torch.no_grad():  # the gain of the last layer, which no activation follows, is the same in every arm
        networks.weights[-1] /= std
    watched = sorted({0, 1, 10, steps // 3, steps - 1})
    relative = []

    def on_step(step, gradients):
        if step in watched:
            layers = zip(networks.weights[:-1], gradients[:depth], strict=True)
            relative.append(
                torch.stack([g.flatten(1).double().norm(dim=1) / w.flatten(1).double().norm(dim=1) for w, g in layers])
            )

    history = fit(
        networks, data, [rate for rate, _ in cases], steps=steps, batch_size=BATCH_SIZE, every=steps, on_step=on_step
    )
    loss = history.train_loss[-1].reshape(len(rates), len(seeds))
    rate, inside = best_rate(rates, loss)
    k = rates.index(rate)
    relative = torch.stack(relative).detach().cpu().numpy().reshape(len(watched), depth, len(rates), len(seeds))
    error = history.test_error[-1].reshape(loss.shape)
    return [
        {"seed": seed, "learning_rate": rate, "inside": inside, "test_error": error[k, i], "train_loss": loss[k, i]}
        | {"steps": watched, "relative": relative[:, :, k, i]}
        for i, seed in enumerate(seeds)
    ]


# --- what it means ---------------------------------------------------------------------------------------------------


def unstable(result: Result, arm: str, init: str | None = None) -> list[tuple[str, str]]:
    """Return the (activation, init) of an arm at which the median gradient leaves the band over the whole depth.

    Within the band the norm changes by less than `BAND`, up or down, between the last layer and the first.
    """
    found = []
    for activation, kind in product(ACTIVATIONS, INITS):
        if init in (None, kind) and result.select(part="start", activation=activation, arm=arm, init=kind):
            change = np.median(result.column("change", part="start", activation=activation, arm=arm, init=kind))
            if not 1 / BAND < change < BAND:
                found.append((activation, kind))
    return found


def verdicts(result: Result) -> list[Verdict]:
    """Judge C09 by the gradient at the start, from the last layer to the first (part "start").

    A case is an activation function with an initialization. It is unstable if the median norm changes by a factor of
    `BAND` or more.

    - *holds* if no case is unstable with BN, and some are without;
    - *refuted* if as many cases are unstable with BN as without, or more;
    - *holds with conditions* otherwise.

    The number is the factor per layer on the squared norm in a ReLU net with BN.
    """
    plain, bn = unstable(result, "plain"), unstable(result, "bn")
    verdict = "refuted" if len(bn) >= len(plain) else "conditions" if bn else "holds"
    relu = dict(part="start", activation="relu", init="good")
    change = Estimate.of(result.column("change", arm="bn", **relu))
    without = Estimate.of(result.column("change", arm="plain", **relu))
    depth = result.settings["start"]["depth"]
    cases = len(ACTIVATIONS) * len(INITS)
    return [
        Verdict(
            "C09",
            verdict,
            Estimate.of(result.column("growth", arm="bn", **relu)),
            "times the gradient's squared norm per layer, in a ReLU net with BN at the start",
            f"Of {cases} cases {len(plain)} are unstable without BN and {len(bn)} with it; a well-initialized ReLU net "
            f"of {depth} layers changes the gradient's norm {without} times without BN, {change} times with it.",
        )
    ]


LOOKS = {"plain": ("C1", "--"), "bn": ("C0", "-"), "residual": ("C2", "-.")}


def plot(result: Result):
    """Draw the gradient's norm against the layer at the start, relative to the last layer, for all initializations.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(6.4, 6.2), sharex=True)
    markers = {"good": "o", "default": "v", "double": "^"}
    for ax, activation in zip(axes.flat, ACTIVATIONS, strict=True):
        for arm, init in product(("plain", "bn"), INITS):
            profiles = result.column("gradient", part="start", activation=activation, arm=arm, init=init)
            middle = np.median(profiles / profiles[:, -1:], axis=0)
            color, style = LOOKS[arm]
            layers = np.arange(1, len(middle) + 1)
            ax.plot(layers, middle, style, color=color, marker=markers[init], markevery=(4, 9), ms=5, lw=1.6)
        ax.axhspan(1 / BAND, BAND, color="black", alpha=0.07, lw=0)
        ax.set(title=activation if activation != "relu" else "ReLU", yscale="log", ylim=(1e-20, 1e20))
        ax.set_yticks([1e-20, 1e-10, 1, 1e10, 1e20])
    for ax in axes[1]:
        ax.set_xlabel("layer")
    for ax in axes[:, 0]:
        ax.set_ylabel("norm of the gradient")
    handles = [
        plt.Line2D([], [], color=c, ls=s, label={"plain": "plain", "bn": "BN"}[a])
        for a, (c, s) in list(LOOKS.items())[:2]
    ]
    handles += [plt.Line2D([], [], color="black", ls="", marker=m, label=init) for init, m in markers.items()]
    fig.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=10, columnspacing=1, handletextpad=0.4)
    return fig


def plot_batch(result: Result):
    """Draw the growth per layer against the batch size, with the two predictions.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 4))
    batches = result.settings["batch"]["batches"]
    for activation, color, marker in (("relu", "C0", "o"), ("linear", "C2", "s")):
        values = np.array([result.column("growth", part="batch", activation=activation, m=m) for m in batches])
        middle = np.median(values, axis=1)
        ax.errorbar(
            batches,
            middle,
            [middle - values.min(axis=1), values.max(axis=1) - middle],
            fmt=marker,
            color=color,
            capsize=4,
            label={"relu": "ReLU, measured", "linear": "linear, measured"}[activation],
        )
    smooth = np.geomspace(min(batches), max(batches), 100)
    ax.plot(smooth, [(m - 2) / (m - 3) for m in smooth], color="C2", lw=1.2, label="(m − 2) / (m − 3)")
    ax.axhline(wide_growth("relu"), color="C0", lw=1.2, ls="--", label="π / (π − 1)")
    ax.set(xscale="log", xlabel="batch size m", ylabel="growth per layer, squared", ylim=(0.98, None))
    ax.set_xticks(batches, batches)
    ax.minorticks_off()
    ax.legend(fontsize=10)
    return fig


def plot_training(result: Result):
    """Draw the weights' relative gradient against the layer before the first step, after one step and at the end.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(3, 1, figsize=(6.4, 8), sharex=True, sharey=True)
    for ax, activation in zip(axes, ("relu", "tanh", "sigmoid"), strict=True):
        for arm, (color, _) in LOOKS.items():
            rows = result.select(part="training", activation=activation, arm=arm, init="good")
            if rows:
                relative = np.median([row["relative"] for row in rows], axis=0)
                layers = np.arange(1, relative.shape[1] + 1)
                label = {"plain": "plain", "bn": "BN", "residual": "BN, residual"}[arm]
                ax.plot(layers, relative[0], ":", color=color, lw=1.8)
                ax.plot(layers, relative[-1], "-", color=color, label=label)
        ax.set(title=activation if activation != "relu" else "ReLU", yscale="log", ylim=(1e-9, 3e2))
    axes[0].legend(fontsize=10, loc="lower right")
    axes[1].set_ylabel("gradient's norm / weights' norm")
    axes[2].set(xlabel="layer", xticks=np.arange(5, relative.shape[1] + 1, 5))
    return fig
