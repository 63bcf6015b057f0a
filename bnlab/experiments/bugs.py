"""Which test catches which bug of batch normalization, and what does each bug look like in training?

Thirteen buggy layers and two buggy ways of inserting one, all written for this course, are put to the battery of
`bnlab.bug_tests`, and so are five implementations that should pass it. Then each buggy layer trains a small
convolutional network on digits, with everything else as it was: what would somebody have noticed who only watches
accuracies?

Every buggy layer differs from the right one, `BatchNorm`, in a single method. What this isn't: an implementation to use
(`bnlab.BatchNorm2d` is), or a comparison of learning rates.
"""

import numpy as np
import torch
from torch import nn

import bnlab
from bnlab.bug_tests import TESTS, examine, graph_size, undo_normalization
from bnlab.experiments import Experiment, Result, Verdict, conduct
from bnlab.experiments.framework_parity import import_flax, import_keras, missing

EXPERIMENT = Experiment(
    name="bugs",
    title="Twelve bugs, twelve tests, and what a training run shows of them",
    claims=(),
    section="sec-bugs-matrix",
    fair="All layers train the same network from the same weights on the same batches, plain SGD, at one learning rate "
    "at which the right layer works: a bug isn't given the chance to pick a rate that hides it.",
    packages=("keras", "jax", "flax"),
    cpu_only=True,
)


# ---------------------------------------------------------------------------------------------------------------------
# The right one


class BatchNorm(nn.Module):
    """Batch normalization of (N, C) or (N, C, ...), written as plainly as it can be. Each bug changes one method of it.

    Parameters
    ----------
    channels : int
    eps : float
    momentum : float
        The weight of the newest batch.
    """

    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))  # gamma
        self.bias = nn.Parameter(torch.zeros(channels))  # beta
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        """Normalize with the batch in training, with the running statistics in evaluation."""
        if self.training:
            mu, var = self.moments(x)
            self.track(mu, var, m=x.numel() // x.shape[1])
        else:
            mu, var = self.running_mean, self.running_var
        return self.transform(x, mu, var)

    def moments(self, x):
        """Mean and biased variance of each channel."""
        axes = [0, *range(2, x.ndim)]
        mu = x.mean(axes)
        var = ((x - along(x, mu)) ** 2).mean(axes)
        return mu, var

    @torch.no_grad()
    def track(self, mu, var, m):
        """Take the statistics of a batch of m values per channel into the running ones."""
        keep, new = 1 - self.momentum, self.momentum
        self.running_mean = keep * self.running_mean + new * mu
        self.running_var = keep * self.running_var + new * var * m / (m - 1)

    def transform(self, x, mu, var):
        """Ioffe & Szegedy (2015), Algorithm 1, lines 3 and 4."""
        x_hat = (x - along(x, mu)) / torch.sqrt(along(x, var) + self.eps)
        return along(x, self.weight) * x_hat + along(x, self.bias)


def along(x, values):
    """Give (C,) values the shape (1, C, 1, 1) that broadcasts along the channels of x."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2)) if values.ndim == 1 else values


# ---------------------------------------------------------------------------------------------------------------------
# The buggy ones. Forward.


class UnbiasedNormalization(BatchNorm):
    def moments(self, x):
        axes = [0, *range(2, x.ndim)]
        return x.mean(axes), x.var(axes)

    @torch.no_grad()
    def track(self, mu, var, m):
        keep, new = 1 - self.momentum, self.momentum
        self.running_mean = keep * self.running_mean + new * mu
        self.running_var = keep * self.running_var + new * var


class BiasedRunningVariance(BatchNorm):
    @torch.no_grad()
    def track(self, mu, var, m):
        keep, new = 1 - self.momentum, self.momentum
        self.running_mean = keep * self.running_mean + new * mu
        self.running_var = keep * self.running_var + new * var


class OnePassVariance(BatchNorm):
    def moments(self, x):
        axes = [0, *range(2, x.ndim)]
        mu = x.mean(axes)
        return mu, (x**2).mean(axes) - mu**2


class EpsOutside(BatchNorm):
    def transform(self, x, mu, var):
        std = torch.sqrt(along(x, var)) + self.eps
        x_hat = (x - along(x, mu)) / std
        return along(x, self.weight) * x_hat + along(x, self.bias)


class EpsForgotten(BatchNorm):
    def transform(self, x, mu, var):
        x_hat = (x - along(x, mu)) / torch.sqrt(along(x, var))
        return along(x, self.weight) * x_hat + along(x, self.bias)


class PerPixel(BatchNorm):
    def moments(self, x):
        return x.mean(0, keepdim=True), x.var(0, correction=0, keepdim=True)

    def track(self, mu, var, m):
        axes = [0, *range(2, mu.ndim)]
        super().track(mu.mean(axes), var.mean(axes), m)


class InPlace(BatchNorm):
    def transform(self, x, mu, var):
        x -= along(x, mu)
        x_hat = x / torch.sqrt(along(x, var) + self.eps)
        return along(x, self.weight) * x_hat + along(x, self.bias)


# ---------------------------------------------------------------------------------------------------------------------
# Backward.


class DetachedStatistics(BatchNorm):
    @torch.no_grad()
    def moments(self, x):
        return super().moments(x)


class NothingLearned(BatchNorm):
    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__(channels, eps, momentum)
        del self.weight, self.bias
        self.weight = torch.ones(channels, requires_grad=True)
        self.bias = torch.zeros(channels, requires_grad=True)


# ---------------------------------------------------------------------------------------------------------------------
# State and mode.


class MomentumReversed(BatchNorm):
    @torch.no_grad()
    def track(self, mu, var, m):
        keep, new = self.momentum, 1 - self.momentum
        self.running_mean = keep * self.running_mean + new * mu
        self.running_var = keep * self.running_var + new * var * m / (m - 1)


class ModeFromGradients(BatchNorm):
    def forward(self, x):
        if torch.is_grad_enabled():
            mu, var = self.moments(x)
            self.track(mu, var, m=x.numel() // x.shape[1])
        else:
            mu, var = self.running_mean, self.running_var
        return self.transform(x, mu, var)


class BuffersWithGraph(BatchNorm):
    def track(self, mu, var, m):
        keep, new = 1 - self.momentum, self.momentum
        self.running_mean = keep * self.running_mean + new * mu
        self.running_var = keep * self.running_var + new * var * m / (m - 1)


class BatchInEvaluation(BatchNorm):
    def forward(self, x):
        mu, var = self.moments(x)
        if self.training:
            self.track(mu, var, m=x.numel() // x.shape[1])
        return self.transform(x, mu, var)


# ---------------------------------------------------------------------------------------------------------------------
# Retrofit: the layer is right, what is written into it isn't.


def undo_with_variance(layer, x):
    """The insertion of a well-known notebook: gamma = var."""
    undo_normalization(layer, x)
    with torch.no_grad():
        layer.weight.copy_(layer.running_var)


def undo_without_eps(layer, x):
    """gamma = sqrt(var), without eps."""
    undo_normalization(layer, x)
    with torch.no_grad():
        layer.weight.copy_(layer.running_var.sqrt())


# ---------------------------------------------------------------------------------------------------------------------
# Other frameworks, as torch modules


class KerasBatchNorm(nn.Module):
    """keras.layers.BatchNormalization (torch backend) in the shape that `bnlab.bug_tests` expects."""

    def __init__(self, channels, eps=1e-5, momentum=0.1):
        super().__init__()
        self.layer = import_keras().layers.BatchNormalization(axis=1, epsilon=eps, momentum=1 - momentum)
        self.layer.build((None, channels, None, None))
        self.eps = eps

    weight = property(lambda self: self.layer.gamma.value)
    bias = property(lambda self: self.layer.beta.value)
    running_mean = property(lambda self: self.layer.moving_mean.value)
    running_var = property(lambda self: self.layer.moving_variance.value)

    def forward(self, x):
        """Pass the mode on: Keras takes it as an argument."""
        return self.layer(x, training=self.training)


class FlaxBatchNorm(BatchNorm):
    """flax.linen.BatchNorm in the shape that `bnlab.bug_tests` expects: JAX computes, torch hands the gradients on."""

    def forward(self, x):
        """Give JAX everything there is, and take the new statistics back."""
        y, mean, var = _ThroughFlax.apply(x, self.weight, self.bias, self)
        if self.training:
            self.running_mean, self.running_var = mean, var
        return y


class _ThroughFlax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, layer):
        jax, _, linen = import_flax()
        norm = linen.BatchNorm(
            use_running_average=not layer.training, momentum=1 - layer.momentum, epsilon=layer.eps, axis=1
        )
        stats = {"mean": layer.running_mean, "var": layer.running_var}
        stats = {name: jax.numpy.asarray(value.numpy()) for name, value in stats.items()}

        def apply(x, gamma, beta):
            variables = {"params": {"scale": gamma, "bias": beta}, "batch_stats": stats}
            y, changed = norm.apply(variables, x, mutable=["batch_stats"])
            return y, changed["batch_stats"]

        arrays = [jax.numpy.asarray(tensor.detach().numpy()) for tensor in (x, gamma, beta)]
        y, ctx.pullback, changed = jax.vjp(apply, *arrays, has_aux=True)
        new = [torch.tensor(np.asarray(value)) for value in (y, changed["mean"], changed["var"])]
        ctx.mark_non_differentiable(*new[1:])
        return tuple(new)

    @staticmethod
    def backward(ctx, dy, *_):
        jax, _, _ = import_flax()
        return *(torch.tensor(np.asarray(g)) for g in ctx.pullback(jax.numpy.asarray(dy.numpy()))), None


# ---------------------------------------------------------------------------------------------------------------------
# What is examined, by the name that tables use

# name: (layer, insertion, the test that is aimed at it)
BUGS = {
    "unbiased variance normalizes": (UnbiasedNormalization, None, "four values"),
    "biased running variance": (BiasedRunningVariance, None, "four values"),
    "E[x²] - E[x]²": (OnePassVariance, None, "mean of 10,000"),
    "eps outside the root": (EpsOutside, None, "constant feature"),
    "eps forgotten": (EpsForgotten, None, "constant feature"),
    "per pixel": (PerPixel, None, "structured channel"),
    "input changed in place": (InPlace, None, "input intact"),
    "statistics detached": (DetachedStatistics, None, "gradient check"),
    "gamma, beta never learn": (NothingLearned, None, "one step"),
    "momentum reversed": (MomentumReversed, None, "two updates by hand"),
    "mode from grad mode": (ModeFromGradients, None, "gradients in evaluation"),
    "buffers keep the graph": (BuffersWithGraph, None, "buffers without graph"),
    "batch statistics in evaluation": (BatchInEvaluation, None, "batch mates"),
    "gamma = var on insertion": (BatchNorm, undo_with_variance, "insertion"),
    "gamma = sqrt(var) on insertion": (BatchNorm, undo_without_eps, "insertion"),
}
# name: (layer, what it takes, whether it keeps the unbiased variance)
RIGHT = {
    "the plain one": (BatchNorm, "torch", True),
    "torch.nn": (nn.BatchNorm2d, "torch", True),
    "bnlab": (bnlab.BatchNorm2d, "torch", True),
    "Keras": (KerasBatchNorm, "keras", False),
    "Flax": (FlaxBatchNorm, "flax linen", False),
}
LEARNING_RATE, BATCH = 0.1, 32
STEPS = {"small": 40, "full": 400}


def network(layer=BatchNorm, seed: int = 0) -> nn.Sequential:
    """A small convolutional network for 8x8 digits, with this normalization layer. The seed fixes the weights."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        layer(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        layer(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 64, 10),
    )


def digits(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """scikit-learn's digits as images in [0, 1], split at random: x_train, y_train, x_test, y_test (360 examples)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x = torch.tensor(data.images[order] / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(data.target[order])
    return x[360:], y[360:], x[:360], y[:360]


def train_with(layer, seed: int, steps: int) -> dict:
    """Train the network with a layer and look at it from several sides.

    Returns
    -------
    dict
        "train": accuracy in training mode on the last ten batches; "test": accuracy in evaluation, all 360 examples in
        one batch; "alone": the same 360 one at a time; "sorted": the same with gradients on, in ten batches of one
        class each; "gamma moved": largest change of a gamma from 1; "graph": nodes of autograd's graph that the
        running mean of the first layer keeps.
    """
    x, y, x_test, y_test = digits(seed)
    model = network(layer, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    batches = np.random.default_rng(seed).integers(len(x), size=(steps, BATCH))
    right = []
    for index in batches:
        index = torch.tensor(index)
        answer = model.train()(x[index])
        optimizer.zero_grad()
        nn.functional.cross_entropy(answer, y[index]).backward()
        optimizer.step()
        right.append((answer.argmax(1) == y[index]).float().mean().item())
    model.eval()
    row = {"train": np.mean(right[-10:]), "graph": graph_size(model[1].running_mean)}
    row["gamma moved"] = (model[1].weight - 1).abs().max().item()

    def correct(model, parts):
        return sum((model(x_test[part]).argmax(1) == y_test[part]).sum().item() for part in parts) / len(y_test)

    with torch.no_grad():
        row["test"] = correct(model, [slice(None)])
        row["alone"] = correct(model, [slice(k, k + 1) for k in range(len(y_test))])
    row["sorted"] = correct(model, [y_test == digit for digit in range(10)])
    return row


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Put the bugs to the tests, then train with them.

    A full run trains for more steps.

    Rows of two kinds, both with "layer" and "seed": "matrix" (test, passed, message; installed), "training" (what
    `train_with` returns).
    """
    seeds = list(seeds)
    steps = STEPS.get(budget, 0)
    units = [{"kind": "matrix", "layer": name} for name in [*BUGS, *RIGHT]]
    layers = {"right": BatchNorm} | {name: layer for name, (layer, undo, _) in BUGS.items() if undo is None}
    units += [{"kind": "training", "layer": name, "seed": seed, "steps": steps} for name in layers for seed in seeds]

    def measure(unit):
        if unit["kind"] == "training":
            return train_with(layers[unit["layer"]], unit["seed"], unit["steps"])
        if unit["layer"] in RIGHT:
            make, needs, unbiased = RIGHT[unit["layer"]]
            undo = None
            if missing(needs):
                return {"installed": False, "missing": missing(needs)}
        else:
            make, undo, _ = BUGS[unit["layer"]]
            unbiased = True
        return [
            {
                "installed": True,
                "seed": seed,
                "test": finding.test,
                "passed": finding.passed,
                "message": finding.message,
            }
            for seed in seeds
            for finding in examine(make, undo=undo, unbiased=unbiased, seed=seed).findings
        ]

    settings = {"learning rate": LEARNING_RATE, "batch": BATCH, "steps": steps}
    return conduct(
        EXPERIMENT, units, measure, seeds=seeds, device=device, budget=budget, settings=settings, journal=journal
    )


def failures(result: Result, name: str, test: str) -> float:
    """Return the fraction of seeds for which an implementation failed a test; NaN if it isn't installed."""
    rows = result.select(kind="matrix", layer=name, test=test)
    return float(np.mean([not row["passed"] for row in rows])) if rows else float("nan")


def plot(result: Result):
    """Bugs and right implementations down, tests across: a square where the test fails, a ring where it should."""
    import matplotlib.pyplot as plt

    names, tests = [*BUGS, *RIGHT], list(TESTS)
    figure, ax = plt.subplots(figsize=(6.4, 7.2))
    for row, name in enumerate(names):
        for column, test in enumerate(tests):
            share = failures(result, name, test)
            aimed = name in BUGS and BUGS[name][2] == test
            if np.isnan(share):
                ax.text(column, row, "?", ha="center", va="center")
            elif share > 0:
                ax.plot(column, row, "s", ms=13, color="C1" if aimed else "C5" if name in BUGS else "C3")
            else:
                ax.plot(column, row, ".", ms=3, color="black")
            if aimed:
                ax.plot(column, row, "s", ms=17, mfc="none", mec="black", mew=1.2)
    ax.axhline(len(BUGS) - 0.5, color="black", lw=1)
    ax.set_xticks(range(len(tests)), tests, rotation=60, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(-0.7, len(tests) - 0.3), ylim=(len(names) - 0.4, -0.6))
    ax.grid(False)
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Return none: this experiment judges tests, not claims."""
    return []
