"""Does it matter how large the first weights are, with and without batch normalization? The experiment behind C08.

Every hidden weight of an MLP starts as a He-normal number times a gain, from a thousandth to a thousand. Four arms:

- ``plain``: no normalization;
- ``bn``: batch normalization with the usual eps, 1e-5;
- ``bn, eps 0``: the same with a negligible eps, as the algebra of scale invariance has it;
- ``bn, last layer``: the gain goes to the last layer instead, behind which nothing normalizes.

Two questions are asked of each. *Own rate*: is there any learning rate at which this gain trains? It is searched for
every gain, first over fourteen decades, then around the best of them. *One rate*: does it train at the learning rate
that was best for gain 1, the rate of somebody who doesn't know that the weights are off? Both are needed: a network
that depends on the scale may still be rescued by a search, and one that doesn't may still learn at another speed.

At the one rate, the experiment also records how the weights move: the norm of a hidden layer's weights, and the angle
by which they turn. `invariance` measures the exact part, in float64, without any training.

What this isn't: a comparison of initialization schemes, or of optimizers. Adam, whose steps don't depend on the
gradient's size, is another story.

Sources: Ioffe and Szegedy (2015), section 3.3, for BN(aWu) = BN(Wu); van Laarhoven (2017) and Arora, Li and Lyu (2019)
for what follows for the learning rate; He et al. (2015), equation 10, for gain 1.
"""

import math
from itertools import product

import numpy as np
import torch

from bnlab import reference
from bnlab.datasets import centered_digits
from bnlab.ensemble import BatchNorm, Ensemble, best_rate, fit, rates
from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct

ARMS = ("plain", "bn", "bn, eps 0", "bn, last layer")
TARGET = 0.1  # test error; chance is 0.9
COARSE = rates(1e-11, 1e3, per_decade=1)
BUDGETS = {
    "small": {"hidden": [32] * 3, "steps": 150, "gains_per_decade": 1},
    "full": {"hidden": [100] * 3, "steps": 1000, "gains_per_decade": 2},
}
BATCH_SIZE = 32
MOST_ROUNDS = 5  # of widening a grid of learning rates whose best one lies at its edge
TRACKED = 1  # the hidden layer whose weights are watched: the second one, which sees other hidden units
NEGLIGIBLE = 1e-20  # an eps that float32 can hold, far below any variance that occurs here

EXPERIMENT = Experiment(
    name="initialization_scale",
    title="Scale of the initial weights, with and without BN",
    claims=("C08",),
    section="sec-init-sweep",
    fair="Gain 1 is He's initialization in every arm; plain SGD at a constant rate; for each arm and gain the best of "
    "15 rates over 14 decades, refined to half a decade with all seeds and widened until the best lies inside; and all "
    "gains at the rate tuned at gain 1.",
)


def invariance(gain: float, eps: float = 1e-5, seed: int = 0, m: int = 64, features: int = 20, units: int = 8) -> dict:
    """Multiply the weights before a BN layer by `gain` and see what happens to output and gradient, in float64.

    The loss is a fixed random linear function of the output, so its gradient with respect to W is exact.

    Parameters
    ----------
    gain : float
        Positive factor on the weights W, shape (features, units), which are drawn from N(0, 1 / features).
    eps : float
        Of the BN layer; positive. 1e-30 is as good as none.
    seed : int
    m, features, units : int
        Examples in the batch, inputs, outputs of the linear layer.

    Returns
    -------
    dict
        output: largest absolute change of BN(gain W x) against BN(W x).
        gradient: largest absolute difference of gain * gradient at (gain W) from the gradient at W, relative to the
        largest entry of the latter.
        explained: largest absolute difference of BN(gain W x) with `eps` from BN(W x) with eps / gain**2, which is the
        same by algebra.
        radial: gradient times W, summed, relative to the product of their norms: zero if the gradient leaves the
        length of the weights alone.
    """
    rng = np.random.default_rng(seed)
    x, W = rng.normal(size=(m, features)), rng.normal(size=(features, units)) / math.sqrt(features)
    pull, gamma, beta = rng.normal(size=(m, units)), rng.normal(size=units), rng.normal(size=units)

    def at(scale, eps):
        y, cache = reference.batch_norm_forward(x @ (scale * W), gamma, beta, eps=eps)
        return y, x.T @ reference.batch_norm_backward(pull, cache).dx

    (y, gradient), (y_scaled, gradient_scaled) = at(1.0, eps), at(gain, eps)
    lengths = np.linalg.norm(gradient_scaled) * np.linalg.norm(gain * W)
    return {
        "gain": gain,
        "eps": eps,
        "output": float(np.abs(y_scaled - y).max()),
        "gradient": float(np.abs(gain * gradient_scaled - gradient).max() / np.abs(gradient).max()),
        "explained": float(np.abs(y_scaled - at(1.0, eps / gain**2)[0]).max()),
        "radial": float(abs((gradient_scaled * gain * W).sum()) / lengths),
    }


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Train every arm at every gain, with its own best learning rate and with that of gain 1.

    Rows of arm, gain, mode ("own" or "one" rate), seed: learning_rate, inside (whether the best rate lay inside those
    tried; None where nothing trained or nothing was searched), test_error, train_loss. In mode "one" also steps, norm
    (of the tracked layer's weights, before each of these steps, divided by that of gain 1 at the start), turned
    (degrees, from the first to the last of these steps) and gradient (norm of the first gradient).
    """
    plan = BUDGETS.get(budget, BUDGETS["small"])
    count = 6 * plan["gains_per_decade"] + 1
    gains = [float(f"{gain:.3g}") for gain in np.geomspace(1e-3, 1e3, count)]
    data = centered_digits()
    sizes = [data.x_train.shape[1], *plan["hidden"], len(data.classes)]

    def train(arm, gains, seeds, learning_rates, on_step=None):
        networks = _networks(arm, sizes, gains, seeds, device)
        history = fit(
            networks,
            data,
            learning_rates,
            steps=plan["steps"],
            batch_size=BATCH_SIZE,
            every=plan["steps"],
            on_step=on_step and on_step(networks),
        )
        return history.test_error[-1], history.train_loss[-1]

    def measure(unit):
        arm, seeds_ = unit["arm"], list(seeds)
        grid = list(product(gains, COARSE))
        error, _ = train(arm, [g for g, _ in grid], [seeds_[0]] * len(grid), [rate for _, rate in grid])
        center = {
            g: best_rate(COARSE, column)[0] for g, column in zip(gains, _table(error, gains, COARSE), strict=True)
        }
        scores = {g: {} for g in gains}  # learning rate -> errors and losses of all seeds
        untried = {g: rates(center[g] / 10, center[g] * 10, per_decade=2) for g in gains}
        for _ in range(MOST_ROUNDS):
            tries = [(g, rate, seed) for g in untried for rate in untried[g] for seed in seeds_]
            if not tries:
                break
            error, loss = train(arm, [g for g, *_ in tries], [s for *_, s in tries], [rate for _, rate, _ in tries])
            for k, (g, rate, _) in enumerate(tries[:: len(seeds_)]):
                runs = slice(k * len(seeds_), (k + 1) * len(seeds_))
                scores[g][rate] = error[runs], loss[runs]
            untried = {g: _beyond(scores[g]) for g in gains}
        rows, chosen = [], {}
        for g in gains:
            chosen[g], inside = _best(scores[g])
            error, loss = scores[g][chosen[g]]
            trained = np.median(np.nan_to_num(error, nan=1.0)) <= TARGET
            for i, seed in enumerate(seeds_):
                rows.append(
                    {"gain": g, "mode": "own", "seed": seed, "learning_rate": chosen[g]}
                    | {"inside": inside if trained else None}
                    | {"test_error": error[i], "train_loss": loss[i]}
                )
        cases = list(product(gains, seeds_))
        watch = _Watch(plan["steps"])
        error, loss = train(
            arm, [g for g, _ in cases], [s for _, s in cases], [chosen[1.0]] * len(cases), on_step=watch.over
        )
        for i, (g, seed) in enumerate(cases):
            rows.append(
                {"gain": g, "mode": "one", "seed": seed, "learning_rate": chosen[1.0], "inside": None}
                | {"test_error": error[i], "train_loss": loss[i]}
                | watch.row(i, reference=cases.index((1.0, seed)))
            )
        return rows

    units = [{"arm": arm} for arm in ARMS]
    settings = {**plan, "gains": gains, "coarse_rates": COARSE, "batch_size": BATCH_SIZE, "target": TARGET}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def width(result: Result, arm: str, mode: str, target: float | None = None) -> np.ndarray:
    """Return over how many decades of gain each seed trains to the target: the unbroken stretch around gain 1.

    Parameters
    ----------
    result : Result
    arm : str
        One of `ARMS`.
    mode : {"own", "one"}
    target : float or None
        Test error to reach; None takes that of the settings.

    Returns
    -------
    ndarray, shape (seeds,)
        Decades between the smallest and the largest gain of that stretch; NaN for a seed that misses the target even
        at gain 1.
    """
    gains, target = np.array(result.settings["gains"]), target or result.settings["target"]
    start = int(np.argmin(np.abs(np.log10(gains))))
    decades = []
    for seed in result.seeds:
        error = {row["gain"]: row["test_error"] for row in result.select(arm=arm, mode=mode, seed=seed)}
        good = [error[g] <= target for g in gains]
        if not good[start]:
            decades.append(math.nan)
            continue
        low = high = start
        while low > 0 and good[low - 1]:
            low -= 1
        while high < len(good) - 1 and good[high + 1]:
            high += 1
        decades.append(math.log10(gains[high] / gains[low]))
    return np.array(decades)


def verdicts(result: Result) -> list[Verdict]:
    """Judge C08 by the decades of initial scale that train.

    With BN (``bn``) against without (``plain``), seed by seed, in both modes:

    - *refuted* if, at one rate, BN doesn't widen the range in every seed;
    - *holds* if it widens it in every seed in both modes, and every gain trains in both, in every seed;
    - *holds with conditions* otherwise.
    """
    gains = result.settings["gains"]
    swept = math.log10(max(gains) / min(gains))
    bn = {mode: width(result, "bn", mode) for mode in ("one", "own")}
    plain = {mode: np.nan_to_num(width(result, "plain", mode)) for mode in ("one", "own")}
    wider = {mode: bool((bn[mode] > plain[mode]).all()) for mode in bn}
    everything = all(np.isclose(bn[mode], swept).all() for mode in bn)
    if not wider["one"]:
        verdict = "refuted"
    elif wider["own"] and everything:
        verdict = "holds"
    else:
        verdict = "conditions"
    number = Estimate.of(bn["one"], "decades")
    return [
        Verdict(
            "C08",
            verdict,
            number,
            f"of initial weight scale train at one learning rate with BN, {Estimate.of(plain['one'])} without",
            f"Of the {swept:.0f} decades tried, {Estimate.of(bn['own'])} train with BN if each gain gets its own rate, "
            f"{Estimate.of(plain['own'])} without.",
        )
    ]


def plot(result: Result):
    """Draw test error against gain, at one rate and at each gain's own best rate.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 1, figsize=(6.4, 6.6), sharex=True, sharey=True)
    looks = {"plain": ("C1", "s--"), "bn": ("C0", "o-"), "bn, eps 0": ("C2", "^:"), "bn, last layer": ("C3", "D-.")}
    titles = {"one": "All gains at the rate tuned at gain 1", "own": "Each gain at its own best rate"}
    for ax, (mode, title) in zip(axes, titles.items(), strict=True):
        for arm, (color, style) in looks.items():
            gains, middle, low, high = _curve(result, arm, mode)
            ax.plot(gains, middle, style, color=color, label=arm.replace("bn", "BN"))
            ax.fill_between(gains, low, high, color=color, alpha=0.15, lw=0)
        ax.axhline(100 * result.settings["target"], color="black", lw=1)
        ax.set(title=title, xscale="log", yscale="log", ylabel="test error in %", ylim=(1.5, 110))
        ax.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
        ax.minorticks_off()
    axes[1].set_xlabel("gain: factor on the initial weights")
    axes[0].legend(loc="lower right", fontsize=10)
    return fig


def plot_norms(result: Result, arm: str = "bn"):
    """Draw how the norm of a hidden layer's weights develops from each gain, all at the same learning rate.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 4))
    gains = [gain for gain in result.settings["gains"] if math.isclose(math.log10(gain) % 1, 0, abs_tol=1e-6)]
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(gains)))
    for gain, color in zip(gains, colors, strict=True):
        rows = result.select(arm=arm, mode="one", gain=gain)
        norm = np.median([row["norm"] for row in rows], axis=0)
        steps = np.array(rows[0]["steps"])
        ax.plot(steps + 1, norm, color=color, marker="o", ms=3)
        ax.text(0.9, norm[0], f"{gain:g}", va="center", ha="right", fontsize=10)
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="norm of the weights", xlim=(0.5, None))
    return fig


def _curve(result, arm, mode):
    """Return gains and median, smallest and largest test error in % (diverged counts as 100)."""
    gains = result.settings["gains"]
    errors = [
        100 * np.nan_to_num(result.column("test_error", arm=arm, mode=mode, gain=g).astype(float), nan=1.0)
        for g in gains
    ]
    return gains, [np.median(e) for e in errors], [e.min() for e in errors], [e.max() for e in errors]


def _networks(arm, sizes, gains, seeds, device):
    norm = None if arm == "plain" else BatchNorm(eps=NEGLIGIBLE) if arm == "bn, eps 0" else BatchNorm()
    last = arm == "bn, last layer"
    networks = Ensemble(sizes, seeds, norm=norm, gain=1.0 if last else gains, device=device)
    if last:
        with torch.no_grad():
            networks.weights[-1] *= torch.tensor(gains, dtype=torch.float32, device=device).reshape(-1, 1, 1)
    return networks


def _best(scores):
    """Return the best of the rates tried, and whether it lies inside them."""
    tried = sorted(scores)
    return best_rate(tried, [scores[rate][0] for rate in tried])


def _beyond(scores):
    """Return rates to try where the best one so far lies at the edge and trains; none where it lies inside."""
    rate, inside = _best(scores)
    if inside or np.median(np.nan_to_num(scores[rate][0], nan=1.0)) > TARGET:
        return []
    step = math.sqrt(10) if rate == max(scores) else 1 / math.sqrt(10)
    return [float(f"{rate * step**k:.3g}") for k in (1, 2)]


def _table(error, gains, learning_rates):
    """Bring the errors of one seed into the shape (gains, rates, 1) that `best_rate` takes row by row."""
    return error.reshape(len(gains), len(learning_rates), 1)


class _Watch:
    """Records norm, direction and first gradient of one layer's weights while an ensemble is trained."""

    def __init__(self, steps: int):
        self.steps = sorted({int(s) for s in np.geomspace(1, steps, 20)} | {0, 1})
        self.steps = [s for s in self.steps if s < steps]
        self.norms, self.start, self.end, self.gradient = [], None, None, None

    def over(self, networks):
        def on_step(step, gradients):
            if step in self.steps:
                weight = networks.weights[TRACKED].detach().flatten(1).double()
                self.norms.append(weight.norm(dim=1).cpu().numpy())
                self.end = weight.clone()
                if step == 0:
                    self.start, self.gradient = weight.clone(), gradients[TRACKED].flatten(1).double().norm(dim=1)

        return on_step

    def row(self, i: int, reference: int) -> dict:
        cosine = torch.nn.functional.cosine_similarity(self.start[i], self.end[i], dim=0).clamp(-1, 1)
        return {
            "steps": self.steps,
            "norm": [norm[i] / self.norms[0][reference] for norm in self.norms],
            "turned": math.degrees(math.acos(cosine)) if cosine.isfinite() else math.nan,
            "gradient": float(self.gradient[i]),
        }
