"""Train one network and keep its history: the loop that the experiments with convolutional networks share.

Small dense networks are better trained many at once: see `bnlab.ensemble`. This isn't a training framework: one loop,
one loss (cross-entropy), any torch optimizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

__all__ = ["History", "evaluate", "seeded", "sgd", "train"]


@dataclass
class History:
    """What happened while a network was trained. E evaluations.

    Attributes
    ----------
    steps : ndarray, shape (E,)
        After how many steps each evaluation took place.
    train_loss : ndarray, shape (steps,)
        Mean cross-entropy, in nats, of every batch before its step.
    test_loss, test_error : ndarray, shape (E,)
        In evaluation mode: mean cross-entropy, and fraction of wrong predictions.
    seconds : ndarray, shape (E,)
        Wall-clock time spent on training steps until then, evaluations apart.
    diverged : bool
        Whether training was ended because a batch's loss was no longer finite. The last test loss is infinite then, and
        the last test error 1.
    """

    steps: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    test_error: np.ndarray
    seconds: np.ndarray
    diverged: bool

    def steps_to(self, error: float) -> float:
        """Return the first evaluated step with a test error of at most `error`; infinite for never."""
        return self._first(self.steps, error)

    def seconds_to(self, error: float) -> float:
        """Return the training time, in seconds, until a test error of at most `error`; infinite for never."""
        return self._first(self.seconds, error)

    def _first(self, values, error):
        reached = np.flatnonzero(self.test_error <= error)
        return float(values[reached[0]]) if len(reached) else float("inf")


def seeded(seed: int, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """Build a model with initial weights that depend on the seed alone; torch's own random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def sgd(model: torch.nn.Module, rate: float, momentum: float = 0.9, weight_decay: float = 0.0) -> torch.optim.SGD:
    """Return SGD that decays weights of linear and convolutional layers, but not biases, gamma and beta."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=rate, momentum=momentum)


def train(
    model: torch.nn.Module,
    data,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    every: int | None = None,
    schedule: Callable[[float], float] = lambda progress: 1.0,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> History:
    """Train a network in place on the mean cross-entropy.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (N, ...) to logits (N, classes). It is left in evaluation mode.
    data : bnlab.datasets.Dataset
    optimizer : torch.optim.Optimizer
        Of the model's parameters; its learning rates are the ones that `schedule` multiplies.
    steps, batch_size : int
        Batches are drawn without replacement, epoch by epoch; an incomplete last batch is left out.
    seed : int
        Of the order of the examples.
    every : int or None
        Steps between evaluations on the test data; None evaluates at the end only.
    schedule : callable
        Maps progress in [0, 1) to a factor on the learning rates.
    transform : callable, optional
        Applied to every training batch, such as an augmentation.
    on_step : callable, optional
        ``on_step(step, loss)`` after each backward pass, before the update.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If there are fewer examples than the batch wants, or no steps.
    """
    if not 0 < batch_size <= len(data.x_train) or steps < 1:
        raise ValueError(
            f"batch_size is {batch_size} and steps {steps}, with {len(data.x_train)} training examples: "
            "give at least one step, and a batch no larger than the training set"
        )
    device = next(model.parameters()).device
    x, y = torch.as_tensor(data.x_train).to(device), torch.as_tensor(data.y_train).to(device)
    base = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    losses, evaluations, seconds, diverged = [], [], 0.0, False
    model.train()
    for step in range(steps):
        start = perf_counter()
        if len(order) < batch_size:
            order = torch.randperm(len(x), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * schedule(step / steps)
        inputs = x[batch] if transform is None else transform(x[batch])
        loss = F.cross_entropy(model(inputs), y[batch])
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            diverged = True
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if on_step is not None:
            on_step(step, losses[-1])
        optimizer.step()
        seconds += perf_counter() - start
        if every and (step + 1) % every == 0 and step + 1 < steps:
            evaluations.append((step + 1, *evaluate(model, data.x_test, data.y_test), seconds))
            model.train()
    # weights from the last finite step may still put out numbers, but nobody would use that network
    last = (float("inf"), 1.0) if diverged else evaluate(model, data.x_test, data.y_test)
    evaluations.append((len(losses), *last, seconds))
    model.eval()
    at, test_loss, test_error, times = (np.array(column) for column in zip(*evaluations, strict=True))
    return History(at, np.array(losses), test_loss, test_error, times, diverged)


@torch.no_grad()
def evaluate(model: torch.nn.Module, x, y, batch_size: int = 500) -> tuple[float, float]:
    """Return mean cross-entropy in nats and the fraction of wrong predictions, in evaluation mode.

    The model's mode is put back. A network whose outputs aren't finite has an infinite loss and gets everything wrong.
    """
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    loss = wrong = 0.0
    for inputs, labels in zip(torch.as_tensor(x).split(batch_size), torch.as_tensor(y).split(batch_size), strict=True):
        logits = model(inputs.to(device))
        labels = labels.to(device)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        wrong += ((logits.argmax(1) != labels) | ~logits.isfinite().all(1)).sum().item()
    for module, mode in modes.items():
        module.training = mode
    return (loss / len(x) if np.isfinite(loss) else float("inf")), wrong / len(x)
