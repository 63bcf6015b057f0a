"""Train many small multilayer perceptrons at once: arms, seeds and learning rates as one batched matrix product.

A tiny network spends its time in the calls, not in the arithmetic. An `Ensemble` stacks R networks of the same shape
along a leading axis, so a sweep over seeds and learning rates costs little more than one network. That is what makes it
affordable to give every arm its own best learning rate, at least five times over.

What this isn't: fast for large networks, or a layer to use elsewhere (those are in `bnlab.modules`). The normalization
here is plain tensor code, so that experiments can change it: pass an object with the methods of `BatchNorm`.

Shapes: R networks, m examples in a batch, D inputs, C units of a layer. Activations are (R, m, C).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["BatchNorm", "Ensemble", "History", "best_rate", "fit", "kaiming", "rates"]


def kaiming(fan_in: int, fan_out: int, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (fan_in, fan_out) from N(0, 2 / fan_in): He et al. (2015), equation 10, fair to ReLU networks."""
    return torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / fan_in)


class BatchNorm:
    """Batch normalization of an ensemble: each network by the statistics of its own batch.

    In evaluation it uses the statistics of the last `Ensemble.calibrate` (Ioffe & Szegedy 2015, Algorithm 2). There
    are no running averages, so an experiment that isn't about them can't be disturbed by them.

    To change it, subclass it and override `statistics` (where mu and var come from) or `normalize`.

    Parameters
    ----------
    eps : float
        Added to the variance, inside the square root.
    affine : bool
        Whether gamma and beta are learned.
    """

    def __init__(self, eps: float = 1e-5, affine: bool = True):
        self.eps, self.affine = eps, affine

    def statistics(self, z: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mu and var, shape (R, 1, C), of a batch z, shape (R, m, C)."""
        mu = z.mean(dim=1, keepdim=True)
        return mu, (z - mu).square().mean(dim=1, keepdim=True)  # several times faster than torch.var_mean here

    def normalize(self, z: torch.Tensor, mu: torch.Tensor, var: torch.Tensor, layer: int) -> torch.Tensor:
        """Return x_hat, shape (R, m, C)."""
        return (z - mu) * torch.rsqrt(var + self.eps)


class Ensemble:
    """R multilayer perceptrons of one shape: linear, [normalization], activation, ..., linear.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, outputs: ``[64, 100, 100, 10]``.
    seeds : sequence of int, length R
        Seed of each network's initial weights. Networks with the same seed start from the same weights.
    norm : BatchNorm or None
        The normalization of every hidden layer. With it, the hidden linear layers have no bias: beta takes its place.
    activation : callable
        Applied to every hidden layer, such as `torch.relu`.
    init : callable
        ``init(fan_in, fan_out, generator)`` draws the weights of a layer, shape (fan_in, fan_out).
    gain : float or sequence of R floats
        Factor on every initial hidden weight, one for each network.
    order : {"norm-activation", "activation-norm"}
        What comes first after the linear layer.
    device : str

    Attributes
    ----------
    weights, biases, gamma, beta : list of torch.Tensor
        One entry for each layer: weights (R, C_in, C_out), the others (R, 1, C). Those that are not learned are None.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seeds: Sequence[int],
        *,
        norm: BatchNorm | None = None,
        activation: Callable = torch.relu,
        init: Callable = kaiming,
        gain=1.0,
        order: str = "norm-activation",
        device: str = "cpu",
    ):
        if order not in ("norm-activation", "activation-norm"):
            raise ValueError(f"order is {order!r}: give 'norm-activation' or 'activation-norm'")
        self.sizes, self.seeds, self.norm = list(sizes), list(seeds), norm
        self.activation, self.order, self.device = activation, order, device
        drawn = {seed: _draw(sizes, seed, init) for seed in set(seeds)}
        scale = torch.as_tensor(gain, dtype=torch.float32).reshape(-1, 1, 1)
        self.weights = [torch.stack(layer) for layer in zip(*(drawn[seed] for seed in seeds), strict=True)]
        self.weights = [*(scale * weight for weight in self.weights[:-1]), self.weights[-1]]
        runs, hidden, outputs = len(self.seeds), sizes[1:-1], sizes[-1]
        affine = norm is not None and norm.affine
        self.gamma = [torch.ones(runs, 1, width) if affine else None for width in hidden]
        self.beta = [torch.zeros(runs, 1, width) if affine else None for width in hidden]
        self.biases = [torch.zeros(runs, 1, width) if norm is None else None for width in hidden]
        self.biases.append(torch.zeros(runs, 1, outputs))
        self.population = [None] * len(hidden)
        for tensors in (self.weights, self.gamma, self.beta, self.biases):
            tensors[:] = [t if t is None else t.to(device).requires_grad_() for t in tensors]

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Everything that is learned."""
        return [t for group in (self.weights, self.biases, self.gamma, self.beta) for t in group if t is not None]

    def forward(
        self,
        x: torch.Tensor,
        *,
        training: bool = True,
        tap: Callable[[str, int, torch.Tensor], torch.Tensor | None] | None = None,
    ) -> torch.Tensor:
        """Map inputs to logits.

        Parameters
        ----------
        x : torch.Tensor, shape (m, D) or (R, m, D)
            One batch for all networks, or one for each.
        training : bool
            Whether to normalize by the statistics of this batch; else by those of the last `calibrate`.
        tap : callable, optional
            ``tap(place, layer, value)`` sees what passes: place "z" (after the linear layer), "y" (after the
            normalization) and "h" (after the activation), value of shape (R, m, C). What it returns, unless None,
            takes the place of the value: for dropout, noise or perturbations.

        Returns
        -------
        torch.Tensor, shape (R, m, outputs)
        """
        see = (lambda place, layer, value: value) if tap is None else _seen(tap)
        h = x if x.dim() == 3 else x.expand(len(self.seeds), -1, -1)
        for layer in range(len(self.weights) - 1):
            h = see("z", layer, self._linear(h, layer))
            if self.order == "norm-activation":
                h = see("h", layer, self.activation(see("y", layer, self._normalized(h, layer, training))))
            else:
                h = see("y", layer, self._normalized(see("h", layer, self.activation(h)), layer, training))
        return self._linear(h, len(self.weights) - 1)

    def __call__(self, *args, **options):
        """Call `forward`, also that of a subclass."""
        return self.forward(*args, **options)

    @torch.no_grad()
    def calibrate(self, x: torch.Tensor) -> None:
        """Take the statistics of evaluation from x, shape (m, D): normally the whole training set.

        Layer after layer, each normalized by the statistics of all of x.
        """
        if self.norm is not None:
            self._calibrating = True
            try:
                self.forward(x)
            finally:
                self._calibrating = False

    _calibrating = False

    def _linear(self, h, layer):
        z = torch.bmm(h, self.weights[layer])
        return z if self.biases[layer] is None else z + self.biases[layer]

    def _normalized(self, z, layer, training):
        if self.norm is None:
            return z
        if training:
            mu, var = BatchNorm.statistics(self.norm, z, layer) if self._calibrating else self.norm.statistics(z, layer)
            if self._calibrating:
                self.population[layer] = (mu, var)
        else:
            mu, var = self.population[layer]
        if self._calibrating or not training:
            y = BatchNorm.normalize(self.norm, z, mu, var, layer)
        else:
            y = self.norm.normalize(z, mu, var, layer)
        return y if self.gamma[layer] is None else y * self.gamma[layer] + self.beta[layer]


@dataclass
class History:
    """What happened while an ensemble was trained. E evaluations of R networks.

    Attributes
    ----------
    steps : ndarray, shape (E,)
        After how many steps each evaluation took place; the first is 0.
    train_loss, test_loss, train_error, test_error : ndarray, shape (E, R)
        Mean cross-entropy in nats, and fraction of wrong predictions; NaN once a network has diverged.
    seconds_per_step : float
        Wall-clock time of a training step of the whole ensemble, evaluations apart.
    """

    steps: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    train_error: np.ndarray
    test_error: np.ndarray
    seconds_per_step: float

    def steps_to(self, error: float) -> np.ndarray:
        """Return the first evaluated step with a test error of at most `error`, shape (R,); infinite for never."""
        reached = self.test_error <= error
        return np.where(reached.any(axis=0), self.steps[reached.argmax(axis=0)], np.inf)


def fit(
    ensemble: Ensemble,
    data,
    learning_rates,
    *,
    steps: int,
    batch_size: int | None = None,
    every: int = 50,
    momentum: float = 0.0,
    weight_decay=0.0,
    schedule: Callable[[float], float] = lambda progress: 1.0,
    tap: Callable | None = None,
    on_step: Callable[[int, list[torch.Tensor]], None] | None = None,
) -> History:
    """Train every network of an ensemble by gradient descent on the mean cross-entropy.

    Networks with the same seed see the same batches. A network that diverges stays diverged and disturbs no other.

    Parameters
    ----------
    ensemble : Ensemble
    data : bnlab.datasets.Dataset
        x (m, D) and integer labels y (m,), for training and testing.
    learning_rates : sequence of R floats
    steps : int
    batch_size : int or None
        Examples in a batch, drawn without replacement epoch by epoch; None takes the whole training set each step.
    every : int
        Steps between two evaluations.
    momentum : float
        Of the gradient: v = momentum * v + gradient; parameter -= learning rate * v.
    weight_decay : float or sequence of R floats
        Added to the gradient as weight_decay * parameter; on weights only, not on biases, gamma and beta.
    schedule : callable
        Maps progress in [0, 1) to a factor on the learning rates.
    tap : callable, optional
        See `Ensemble.forward`; in training steps only.
    on_step : callable, optional
        ``on_step(step, gradients)`` after each gradient, before the update; gradients in the order of
        ``ensemble.parameters``.

    Returns
    -------
    History
    """
    device, runs = ensemble.device, len(ensemble.seeds)
    x, y = (torch.as_tensor(a).to(device) for a in (data.x_train, data.y_train))
    test = [torch.as_tensor(a).to(device) for a in (data.x_test, data.y_test)]
    rate = torch.as_tensor(np.array(learning_rates), dtype=torch.float32, device=device).reshape(-1, 1, 1)
    decay = torch.as_tensor(np.array(weight_decay), dtype=torch.float32, device=device).reshape(-1, 1, 1)
    if len(rate) != runs:
        raise ValueError(f"there are {len(rate)} learning rates for {runs} networks: give one for each")
    batches = _Batches(ensemble.seeds, len(x), batch_size)
    velocity = [torch.zeros_like(p) for p in ensemble.parameters]
    decayed = {id(w) for w in ensemble.weights}
    records, seconds = [], 0.0

    def evaluate(step):
        with torch.no_grad():
            ensemble.calibrate(x)
            scores = []
            for inputs, labels in ((x, y), test):
                logits = ensemble(inputs, training=False)
                loss = _loss(logits, labels.expand(runs, -1))
                wrong = (logits.argmax(-1) != labels).float().mean(1)
                scores += [loss, torch.where(loss.isfinite(), wrong, torch.nan)]
        records.append((step, *(score.cpu().numpy() for score in scores)))

    for step in range(steps):
        if step % every == 0:
            evaluate(step)
        start = perf_counter()
        index = batches.draw()
        inputs, labels = (x, y.expand(runs, -1)) if index is None else (x[index], y[index])
        # The networks share no parameter, so the gradient of the sum of losses is each network's own gradient.
        loss = _loss(ensemble(inputs, tap=tap), labels).sum()
        gradients = torch.autograd.grad(loss, ensemble.parameters)
        if on_step is not None:
            on_step(step, gradients)
        with torch.no_grad():
            now = rate * schedule(step / steps)
            for p, v, g in zip(ensemble.parameters, velocity, gradients, strict=True):
                if id(p) in decayed:
                    g = g + decay * p
                v.mul_(momentum).add_(g)
                p.sub_(now * v)
        seconds += perf_counter() - start
    evaluate(steps)
    columns = [np.array(column) for column in zip(*records, strict=True)]
    order = ("steps", "train_loss", "train_error", "test_loss", "test_error")
    return History(**dict(zip(order, columns, strict=True)), seconds_per_step=seconds / max(steps, 1))


def rates(low: float, high: float, per_decade: int = 4) -> list[float]:
    """Return learning rates from `low` to `high`, evenly spaced in their logarithm, with two or three digits each."""
    count = round(math.log10(high / low) * per_decade) + 1
    return [float(f"{rate:.3g}") for rate in np.geomspace(low, high, count)]


def best_rate(learning_rates: Sequence[float], scores) -> tuple[float, bool]:
    """Choose the learning rate with the smallest median score.

    Parameters
    ----------
    learning_rates : sequence of floats, length K
        In ascending order.
    scores : array, shape (K, seeds)
        A loss, an error or a number of steps: smaller is better; NaN counts as infinite.

    Returns
    -------
    rate : float
    inside : bool
        False if the best one is the first or the last of those tried, so that a better one may lie outside. (A tie
        with an inner rate counts as inside.)
    """
    scores = np.nan_to_num(np.asarray(scores, dtype=float), nan=np.inf, posinf=np.inf)
    if len(scores) != len(learning_rates):
        raise ValueError(
            f"scores have {len(scores)} rows for {len(learning_rates)} learning rates: give one row for each"
        )
    middle = np.sort(scores, axis=1)[:, scores.shape[1] // 2]  # of an even number, the worse of the two in the middle
    candidates = np.flatnonzero(middle == middle.min())
    best = candidates[len(candidates) // 2]
    return float(learning_rates[best]), bool(0 < best < len(scores) - 1)


@dataclass
class _Batches:
    """The order of the examples: every seed has its own, the same in every arm."""

    seeds: Sequence[int]
    examples: int
    size: int | None
    queue: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.size is not None and not 0 < self.size <= self.examples:
            raise ValueError(f"batch_size is {self.size}: give 1 to {self.examples} examples, or None for all")
        self.generators = {seed: torch.Generator().manual_seed(10_000 + seed) for seed in set(self.seeds)}

    def draw(self) -> torch.Tensor | None:
        """Return indices of the examples of the next batch, shape (R, size)."""
        if self.size is None:
            return None
        for seed, generator in self.generators.items():
            left = self.queue.get(seed, ())
            if len(left) < self.size:  # an incomplete last batch is left out
                left = torch.randperm(self.examples, generator=generator)
            self.queue[seed] = left[self.size :]
            self.batch = {**getattr(self, "batch", {}), seed: left[: self.size]}
        return torch.stack([self.batch[seed] for seed in self.seeds])


def _draw(sizes, seed, init):
    generator = torch.Generator().manual_seed(seed)
    return [init(fan_in, fan_out, generator) for fan_in, fan_out in pairwise(sizes)]


def _loss(logits, labels):
    """Mean cross-entropy of each network, shape (R,)."""
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)


def _seen(tap):
    def see(place, layer, value):
        changed = tap(place, layer, value)
        return value if changed is None else changed

    return see
