"""Twelve tests for an implementation of batch normalization, each aimed at a bug that is easy to make.

`examine` takes whatever builds a layer, `torch.nn.BatchNorm2d` or your own class, runs the tests and returns a report
that says, for each, whether it passed and, if not, what was seen, what was expected and which mistake that looks like.
A layer in another framework passes through a small torch module that wraps it.

What it isn't: a complete specification. `bnlab.reference` is that, and the tests of `bnlab.functional` compare with it
over many shapes and dtypes. These twelve are those that one should not be without.

The layer
---------
``make(channels, eps=1e-5, momentum=0.1)`` returns a `torch.nn.Module` that normalizes (N, C, H, W). It has parameters
`weight` (gamma) and `bias` (beta) and buffers `running_mean` and `running_var`, all of shape (C,) and float32, and the
modes ``train()`` and ``eval()``. Conventions are torch's: momentum is the weight of the newest batch, and the running
variance takes the unbiased one. A framework that keeps the biased one says so: ``examine(make, unbiased=False)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from bnlab.reference import batch_norm_backward, batch_norm_forward

__all__ = ["TESTS", "Examination", "Finding", "examine", "undo_normalization"]

EPS, MOMENTUM = 1e-5, 0.1
CHANNELS = 3


@dataclass(frozen=True)
class Finding:
    """What one test found.

    Attributes
    ----------
    test : str
        A key of `TESTS`.
    message : str
        Empty where the test passed; else what was seen, what was expected and what mistake that looks like.
    """

    test: str
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the test found nothing wrong."""
        return not self.message

    def __str__(self) -> str:
        lines = [f"passed  {self.test}"] if self.passed else [f"FAILED  {self.test}"]
        return "\n".join(lines + [f"        {line}" for line in self.message.splitlines()])


@dataclass(frozen=True)
class Examination:
    """The findings of several tests. ``print`` shows them, one line for each that passed.

    Attributes
    ----------
    findings : list of Finding
    """

    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """The names of the tests that failed."""
        return [finding.test for finding in self.findings if not finding.passed]

    def __str__(self) -> str:
        count = f"{len(self.findings) - len(self.failed)} of {len(self.findings)} passed"
        return "\n".join([*map(str, self.findings), count] if len(self.findings) > 1 else map(str, self.findings))


class _Caught(Exception):
    """A test found a bug; the message says what it saw."""


@dataclass(frozen=True)
class _Subject:
    """What a test gets: a way to build the layer, a source of random numbers, and the conventions."""

    make: Callable[..., nn.Module]
    undo: Callable[[nn.Module, torch.Tensor], None]
    unbiased: bool
    rng: np.random.Generator

    def layer(self, momentum: float = MOMENTUM, trivial: bool = False) -> nn.Module:
        """Build a layer, with random gamma and beta unless `trivial`: ones and zeros would hide mistakes."""
        layer = self.make(CHANNELS, eps=EPS, momentum=momentum)
        if not trivial:
            with torch.no_grad():
                layer.weight.copy_(torch.tensor(self.rng.uniform(0.5, 2, CHANNELS)))
                layer.bias.copy_(torch.tensor(self.rng.normal(size=CHANNELS)))
        return layer

    def batch(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Draw a float32 batch, (N, C, H, W)."""
        return torch.tensor(self.rng.normal(mean, std, shape), dtype=torch.float32)


def examine(
    make: Callable[..., nn.Module],
    *,
    only: str | None = None,
    undo: Callable[[nn.Module, torch.Tensor], None] | None = None,
    unbiased: bool = True,
    seed: int = 0,
) -> Examination:
    """Put an implementation of batch normalization to the twelve tests.

    Parameters
    ----------
    make : callable
        ``make(channels, eps=..., momentum=...)`` returns the layer: see the head of this module. A class will do.
    only : str, optional
        One of `TESTS`, to run that one alone.
    undo : callable, optional
        ``undo(layer, x)`` sets the layer so that in evaluation it is the identity on data like x: what insertion
        into a trained network needs. By default `undo_normalization`; give your own to have it tested.
    unbiased : bool
        Whether running_var averages the unbiased variance, as in torch and in Ioffe & Szegedy (2015), Algorithm 2.
        False for Keras, Flax and ONNX, which average the biased one.
    seed : int
        For the random inputs.

    Returns
    -------
    Examination

    Raises
    ------
    ValueError
        If there is no such test.

    Notes
    -----
    An exception inside the layer counts as a failed test, and its message is in the report.

    Examples
    --------
    >>> print(examine(torch.nn.BatchNorm2d, only="two updates by hand"))
    passed  two updates by hand
    """
    if only is not None and only not in TESTS:
        raise ValueError(f"there is no test {only!r}: give one of {', '.join(map(repr, TESTS))}")
    findings = []
    for name, test in TESTS.items():
        if only not in (None, name):
            continue
        rng = np.random.default_rng((seed, list(TESTS).index(name)))
        subject = _Subject(make, undo or undo_normalization, unbiased, rng)
        try:
            test(subject)
        except _Caught as caught:
            findings.append(Finding(name, str(caught)))
        except Exception as error:
            findings.append(Finding(name, f"{type(error).__name__}: {str(error).splitlines()[0]}"))
        else:
            findings.append(Finding(name))
    return Examination(findings)


def undo_normalization(layer: nn.Module, x: torch.Tensor) -> None:
    """Set running statistics, gamma and beta so that in evaluation the layer returns what it is given.

    gamma = sqrt(var + eps) and beta = mean: Ioffe & Szegedy (2015), section 3, with the statistics of x.

    Parameters
    ----------
    layer : torch.nn.Module
        As described at the head of this module, with an attribute `eps`.
    x : torch.Tensor, (N, C, H, W)
        Data like those that will pass.
    """
    axes = [0, *range(2, x.ndim)]
    var, mean = torch.var_mean(x, axes, correction=0)
    with torch.no_grad():
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        layer.weight.copy_((var + layer.eps).sqrt())
        layer.bias.copy_(mean)


# ---------------------------------------------------------------------------------------------------------------------
# How a test looks at a layer


def _train(layer, x):
    return layer.train()(x)


def _evaluate(layer, x):
    with torch.no_grad():
        return layer.eval()(x)


def _array(tensor):
    return tensor.detach().double().numpy()


def _far(given, expected):
    """Largest difference, relative to the largest expected value; infinite where something is not a number."""
    given, expected = np.asarray(given, dtype=float), np.asarray(expected, dtype=float)
    if given.shape != expected.shape:
        raise _Caught(f"a result has the shape {given.shape}, expected {expected.shape}")
    difference = np.abs(given - expected).max() / max(np.abs(expected).max(), 1e-30)
    return difference if np.isfinite(difference) else np.inf


def _show(values):
    return " ".join(f"{value:.4g}" for value in np.asarray(values, dtype=float).ravel()[:4])


def _agree(what, given, expected, tolerance=1e-4, mistakes=()):
    """Raise `_Caught` unless two arrays agree; `mistakes` are pairs of (what it looks like, what that would give)."""
    given = _array(given) if isinstance(given, torch.Tensor) else given
    if _far(given, expected) <= tolerance:
        return
    message = f"{what}: {_show(given)}\nexpected: {_show(expected)}"
    named = [name for name, wrong in mistakes if _far(given, wrong) <= tolerance]
    raise _Caught("\n".join([message, *(f"looks like: {name}" for name in named[:1])]))


# ---------------------------------------------------------------------------------------------------------------------
# The tests


def _four_values(s):
    """m = 4: here dividing by m and by m - 1 differ by a third."""
    layer, x = s.layer(), s.batch(4, CHANNELS, 1, 1, std=2)
    y = _train(layer, x)
    expected, cache = batch_norm_forward(_array(x), _array(layer.weight), _array(layer.bias))
    inflated = _array(layer.bias)[:, None, None] + (
        (expected - _array(layer.bias)[:, None, None]) * np.sqrt(3 / 4)
    )  # but for eps
    _agree("output", y, expected, mistakes=[("normalizing with the unbiased variance", inflated)])
    memory, batch = 1 - MOMENTUM, MOMENTUM * cache.var
    unbiased, biased = memory + batch * 4 / 3, memory + batch
    right, wrong = (unbiased, biased) if s.unbiased else (biased, unbiased)
    name = "the biased variance in running_var" if s.unbiased else "the unbiased variance in running_var"
    _agree("running_var", layer.running_var, right, mistakes=[(name, wrong)])


def _mean_of_10000(s):
    """Mean 10,000, standard deviation 1: the square of the mean takes all digits of float32 and leaves none."""
    layer, x = s.layer(trivial=True), s.batch(64, CHANNELS, 4, 4, mean=1e4)
    y = _array(_train(layer, x))
    expected, _ = batch_norm_forward(_array(x))
    wrong = _far(y, expected)
    if wrong > 0.01:
        raise _Caught(
            f"standard deviation of the output: {_show(y.std(axis=(0, 2, 3)))}\nexpected: {_show(np.ones(CHANNELS))}\n"
            "looks like: a variance computed as E[x²] - E[x]²"
        )


def _constant_feature(s):
    """A variance of nothing, and one far below eps: what remains is decided by eps and by where it stands."""
    layer = s.layer(trivial=True)
    x = s.batch(32, CHANNELS, 1, 1, std=1e-6)
    x[:, 0] = 0.0
    expected, cache = batch_norm_forward(_array(x))
    centered = _array(x) - cache.mu[:, None, None]
    std = np.sqrt(cache.var)[:, None, None]
    outside = centered / (std + EPS)
    with np.errstate(invalid="ignore"):
        forgotten = centered / std
    y = _array(_train(layer, x))
    if not np.isfinite(y).all():
        raise _Caught("a constant feature comes out as NaN, expected 0\nlooks like: eps forgotten, 0 / 0")
    mistakes = [("eps outside the square root", outside), ("eps forgotten", np.nan_to_num(forgotten))]
    _agree("features of spread 0.000001 (first value)", y[0], expected[0], 1e-2, [(n, w[0]) for n, w in mistakes])


def _structured_channel(s):
    """An image whose left half is dark in every example. Per channel, that structure stays."""
    layer, x = s.layer(trivial=True), s.batch(16, CHANNELS, 6, 6)
    x[..., :3] -= 5
    expected, _ = batch_norm_forward(_array(x))
    y = _array(_train(layer, x))
    pixels = (_array(x) - _array(x).mean(axis=0)) / np.sqrt(_array(x).var(axis=0) + EPS)
    images = _array(x).transpose(1, 0, 2, 3)
    examples = batch_norm_forward(images)[0].transpose(1, 0, 2, 3)
    gap, right = (float(z[..., 3:].mean() - z[..., :3].mean()) for z in (y, expected))
    mistakes = [("statistics per pixel instead of per channel", pixels), ("statistics per example", examples)]
    if _far(y, expected) > 1e-4:
        named = [name for name, wrong in mistakes if _far(y, wrong) <= 1e-4]
        raise _Caught(
            "\n".join(
                [f"bright half minus dark half: {gap:.3g}\nexpected: {right:.3g}", *(f"looks like: {n}" for n in named)]
            )
        )


def _input_intact(s):
    """Whoever passes a batch may need it again: a residual branch does."""
    layer, x = s.layer(), s.batch(8, CHANNELS, 4, 4, mean=3)
    before = x.clone()
    _train(layer, x)
    middle = x.clone()
    _evaluate(layer, x)
    for mode, earlier, later in (("training", before, middle), ("evaluation", middle, x)):
        if not torch.equal(earlier, later):
            raise _Caught(
                f"in {mode} the caller's input changed: its mean was {earlier.mean():.3g} and is {later.mean():.3g}\n"
                "looks like: an operation in place, such as x -= mu"
            )


def _gradient_check(s):
    """Against `bnlab.reference` in float64. gamma isn't 1 and beta isn't 0: that would hide what is missing."""
    layer, x = s.layer(), s.batch(6, CHANNELS, 3, 3, mean=1, std=2)
    dy = s.batch(6, CHANNELS, 3, 3)
    leaf = x.clone().requires_grad_()
    y = _train(layer, leaf * 1)  # not a leaf, as in a network
    if not y.requires_grad:
        raise _Caught("the output doesn't depend on the input, says autograd\nlooks like: computed without a graph")
    (dx,) = torch.autograd.grad(y, leaf, dy)
    _, cache = batch_norm_forward(_array(x), _array(layer.weight), _array(layer.bias))
    expected = batch_norm_backward(_array(dy), cache).dx
    constant = _array(dy) * (cache.gamma * cache.inv_std)[:, None, None]
    dbeta = _array(dy).mean(axis=(0, 2, 3))[:, None, None]
    centered = constant - dbeta * (cache.gamma * cache.inv_std)[:, None, None]
    mistakes = [
        ("mean and variance treated as constants", constant),
        ("the variance treated as a constant", centered),
    ]
    named = [name for name, wrong in mistakes if _far(_array(dx), wrong) <= 1e-4]
    wrong = _far(_array(dx), expected)
    if wrong > 1e-4:
        total = np.abs(_array(dx).sum(axis=(0, 2, 3))).max()
        raise _Caught(
            "\n".join(
                [
                    f"dx is off by {wrong:.0%} of its largest value, and sums to {total:.3g} in a channel\n"
                    "expected: 0%, and sums of 0",
                    *(f"looks like: {name}" for name in named),
                ]
            )
        )


def _one_step(s):
    """One step of gradient descent must move gamma and beta, by the gradient that they should have."""
    layer, x = s.layer(), s.batch(16, CHANNELS, 2, 2)
    dy = s.batch(16, CHANNELS, 2, 2)
    parameters = list(layer.parameters())
    learned = [p for p in (layer.weight, layer.bias) if any(p is q for q in parameters) and p.requires_grad]
    if len(learned) < 2:
        raise _Caught(
            f"of gamma and beta, layer.parameters() has {len(learned)}\nexpected: 2, or no optimizer ever sees them\n"
            "looks like: tensors that are no nn.Parameter, or that need no gradient"
        )
    before = [_array(p).copy() for p in learned]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    optimizer.zero_grad()
    y = _train(layer, x)
    if y.requires_grad:
        y.backward(dy)
    optimizer.step()
    _, cache = batch_norm_forward(_array(x), *before)
    grads = batch_norm_backward(_array(dy), cache)
    for name, p, start, grad in zip(("gamma", "beta"), learned, before, (grads.dgamma, grads.dbeta), strict=True):
        _agree(
            f"{name} moved by",
            _array(p) - start,
            -0.1 * grad,
            1e-3,
            [(f"no gradient reaches {name}", np.zeros(CHANNELS))],
        )


def _two_updates(s):
    """Two batches, and the running mean worked out by hand."""
    layer = s.layer()
    first, second = (s.batch(32, CHANNELS, 2, 2, mean=mean) for mean in (1, 5))
    means = []
    for x in (first, second):
        _train(layer, x)
        means.append(_array(x).mean(axis=(0, 2, 3)))
    a, b = means
    by_hand = (1 - MOMENTUM) * (MOMENTUM * a) + MOMENTUM * b
    reversed_ = MOMENTUM * ((1 - MOMENTUM) * a) + (1 - MOMENTUM) * b
    mistakes = [
        ("momentum the other way round", reversed_),
        ("no updates", np.zeros(CHANNELS)),
        ("a plain average", (a + b) / 2),
        ("the last batch alone", b),
    ]
    _agree("running_mean", layer.running_mean, by_hand, mistakes=mistakes)


def _gradients_in_evaluation(s):
    """The mode is the layer's affair. Gradients may be on in evaluation, as saliency maps need, or off in training."""
    layer = s.layer()
    for _ in range(3):
        _train(layer, s.batch(16, CHANNELS, 2, 2, mean=2))
    kept = _array(layer.running_mean).copy()
    x = s.batch(16, CHANNELS, 2, 2, mean=-3)
    expected = _array(_evaluate(layer, x))
    y = layer.eval()(x)  # gradients on
    moved = np.abs(_array(layer.running_mean) - kept).max()
    if moved > 1e-6:
        raise _Caught(
            f"an evaluation with gradients on moved running_mean by {moved:.3g}\nexpected: 0\n"
            "looks like: the mode read off the gradient switch, not off train() and eval()"
        )
    _agree("output of eval() with gradients on", y, expected)
    with torch.no_grad():
        y = layer.train()(x)
    expected, _ = batch_norm_forward(_array(x), _array(layer.weight), _array(layer.bias))
    _agree("output of train() under no_grad()", y, expected)


def _buffers_without_graph(s):
    """Running statistics are numbers, not functions of every batch since the start."""
    layer = s.layer()
    weight = nn.Parameter(torch.ones(()))
    for _ in range(5):
        _train(layer, weight * s.batch(8, CHANNELS, 2, 2))
    for name in ("running_mean", "running_var"):
        buffer = getattr(layer, name)
        if buffer.requires_grad:
            raise _Caught(
                f"after 5 steps {name} requires a gradient and hangs on to {graph_size(buffer)} nodes of the graph\n"
                "expected: none\nlooks like: updated without no_grad() or detach(), so memory grows with every step"
            )


def graph_size(tensor: torch.Tensor) -> int:
    """Count the nodes of the autograd graph that a tensor keeps alive."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [function for function, _ in node.next_functions]
    return len(seen)


def _batch_mates(s):
    """In evaluation an example's output depends on nothing but the example."""
    layer = s.layer()
    for _ in range(3):
        _train(layer, s.batch(16, CHANNELS, 2, 2, mean=1))
    x = s.batch(16, CHANNELS, 2, 2, mean=1)
    together = _array(_evaluate(layer, x))
    alone = np.concatenate([_array(_evaluate(layer, x[k : k + 1])) for k in range(len(x))])
    worst = np.abs(together - alone).max()
    if worst > 1e-5:
        raise _Caught(
            f"an example's output changes by up to {worst:.3g} when it is evaluated alone\nexpected: 0\n"
            "looks like: batch statistics in evaluation"
        )


def _undone(s):
    """Insertion into a trained network must not change what it computes, neither on the data it saw nor on others."""
    layer = s.layer()
    spread = torch.tensor([0.01, 1.0, 30.0])[:, None, None]
    x, other = (spread * s.batch(64, CHANNELS, 4, 4, mean=2) for _ in range(2))
    s.undo(layer, x)
    scale = _array(spread).ravel()
    for values in (x, other):
        change = np.abs(_array(_evaluate(layer, values)) - _array(values)).max(axis=(0, 2, 3)) / scale
        if change.max() > 1e-3:
            raise _Caught(
                f"largest change at spread 0.01, 1 and 30, in units of it: {_show(change)}\nexpected: 0\n"
                "looks like: gamma isn't sqrt(var + eps), or evaluation doesn't use what is stored"
            )


TESTS: dict[str, Callable[[_Subject], None]] = {
    "four values": _four_values,
    "mean of 10,000": _mean_of_10000,
    "constant feature": _constant_feature,
    "structured channel": _structured_channel,
    "input intact": _input_intact,
    "gradient check": _gradient_check,
    "one step": _one_step,
    "two updates by hand": _two_updates,
    "gradients in evaluation": _gradients_in_evaluation,
    "buffers without graph": _buffers_without_graph,
    "batch mates": _batch_mates,
    "insertion": _undone,
}
