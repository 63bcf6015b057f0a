"""Watch a network at work: context managers that record what passes through its layers, step by step.

::

    with record_activations(model) as seen:
        train(model, ...)
    seen["features.0", "mean"]      # (steps, C): the mean of each channel, in every training step

Each one hooks into the layers on entry and leaves no trace on exit, even after an error. What is recorded are moments
and norms, not the activations themselves, so a long run fits in memory. Of a layer that returns a tuple, such as an
LSTM, the first tensor counts. A step is one forward pass of the whole model
in training mode; passes in evaluation mode aren't recorded. A layer that a step calls several times has several entries
for it.

What this isn't: a profiler, or a place for training (`bnlab.training`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["Record", "record_activations", "record_gradients", "record_running_statistics"]

WITH_WEIGHTS = (nn.Linear, nn.modules.conv._ConvNd)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Record:
    """What was seen: for each layer and quantity, one entry per step.

    ``record[layer, quantity]`` is an ndarray whose first axis counts the steps.

    Attributes
    ----------
    layers : list of str
        Names of the layers, as `Module.named_modules` has them, in the model's order.
    steps : int
        Training steps seen.
    """

    def __init__(self, layers: Iterable[str]):
        self.layers, self.steps = list(layers), 0
        self._values = defaultdict(list)

    def __getitem__(self, key: tuple[str, str]) -> np.ndarray:
        if key not in self._values:
            seen = sorted({quantity for _, quantity in self._values})
            raise KeyError(f"nothing was recorded for {key}: the layers are {self.layers}, the quantities {seen}")
        return np.stack(self._values[key])

    def add(self, layer: str, **quantities: torch.Tensor) -> None:
        """Append one step's values of a layer."""
        for name, value in quantities.items():
            self._values[layer, name].append(value.detach().cpu().double().numpy())


@contextmanager
def record_activations(model: nn.Module, layers: Iterable[str] | None = None) -> Iterator[Record]:
    """Record the moments of what layers put out in training.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, optional
        Names of modules. Default: every linear and convolutional layer.

    Yields
    ------
    Record
        Quantities "mean" and "var" (biased): one value per channel, shape (steps, C), over the batch and all positions.

    Raises
    ------
    ValueError
        If the model has no such layer.
    """
    record, modules = _choose(model, layers, WITH_WEIGHTS)

    def watch(name):
        def hook(module, inputs, output):
            if model.training:
                mean, var = _moments(_first(output).detach())
                record.add(name, mean=mean, var=var)

        return hook

    with _hooks([*_counted(model, record), *(m.register_forward_hook(watch(name)) for name, m in modules)]):
        yield record


@contextmanager
def record_gradients(model: nn.Module, layers: Iterable[str] | None = None) -> Iterator[Record]:
    """Record the size of the gradients of layers in training.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, optional
        Names of modules. Default: every linear and convolutional layer.

    Yields
    ------
    Record
        Quantities "output" (Euclidean norm of the gradient of the loss with respect to the layer's output) and, for
        layers with a weight, "weight" (that with respect to the weight), shape (steps,).

    Raises
    ------
    ValueError
        If the model has no such layer.
    """
    record, modules = _choose(model, layers, WITH_WEIGHTS)

    def watch_output(name):
        # A hook on the tensor, not on the module: those fail where an in-place activation follows.
        def hook(module, inputs, output):
            output = _first(output)
            if model.training and output.requires_grad:
                output.register_hook(lambda gradient: record.add(name, output=gradient.norm()))

        return hook

    handles = [*_counted(model, record), *(m.register_forward_hook(watch_output(name)) for name, m in modules)]
    for name, module in modules:
        weight = getattr(module, "weight", None)
        # a parametrized weight is computed anew in every step: it isn't a leaf, and has no gradient to record
        if isinstance(weight, torch.Tensor) and weight.requires_grad and weight.is_leaf:

            def after(parameter, name=name):
                if model.training:
                    record.add(name, weight=parameter.grad.norm())

            handles.append(weight.register_post_accumulate_grad_hook(after))
    with _hooks(handles):
        yield record


@contextmanager
def record_running_statistics(model: nn.Module, layers: Iterable[str] | None = None) -> Iterator[Record]:
    """Record the running statistics of batch normalization layers, and how they lag behind the batches.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, optional
        Names of modules. Default: every batch normalization layer that tracks running statistics.

    Yields
    ------
    Record
        After each step, shape (steps, C): "running_mean", "running_var"; "batch_mean", "batch_var" (biased) of what
        entered the layer; "drift", the change of the running mean in this step, in running standard deviations.

    Raises
    ------
    ValueError
        If the model has no such layer.
    """
    record, modules = _choose(model, layers, BATCH_NORMS)
    others = [name for name, module in modules if not isinstance(module, BATCH_NORMS)]
    if others:
        raise ValueError(f"{others} have no running statistics: name batch normalization layers only")
    modules = [(name, module) for name, module in modules if module.running_mean is not None]
    if not modules:
        raise ValueError("no layer tracks running statistics: build them with track_running_stats=True")

    def watch(name):
        before = None

        def enter(module, inputs, named):
            nonlocal before
            before = module.running_mean.detach().clone()

        def leave(module, inputs, named, output):
            if not module.training:
                return
            mean, var = _moments(_first((*inputs, *named.values())).detach())  # called as bn(x) or as bn(input=x)
            drift = (module.running_mean - before) / (module.running_var + module.eps).sqrt()
            record.add(
                name,
                running_mean=module.running_mean,
                running_var=module.running_var,
                batch_mean=mean,
                batch_var=var,
                drift=drift,
            )

        return enter, leave

    handles = _counted(model, record)
    for name, module in modules:
        enter, leave = watch(name)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    with _hooks(handles):
        yield record


def _choose(model, layers, kinds):
    modules = dict(model.named_modules())
    if layers is None:
        chosen = [(name, module) for name, module in modules.items() if isinstance(module, kinds)]
        if not chosen:
            raise ValueError(
                f"{type(model).__name__} has no layer of the kinds {[k.__name__ for k in kinds]}: name layers"
            )
    else:
        layers = list(layers)
        unknown = [name for name in layers if name not in modules]
        if unknown or not layers:
            known = ", ".join(name for name in modules if name)
            given = f"the layers {unknown} don't exist" if unknown else "no layers were given"
            raise ValueError(f"{given}: give some of {known}")
        chosen = [(name, modules[name]) for name in layers]
    return Record(name for name, _ in chosen), chosen


def _counted(model, record):
    def count(module, inputs):
        record.steps += module.training

    return [model.register_forward_pre_hook(count)]


def _first(value) -> torch.Tensor:
    """Return a tensor itself, or the first one in a tuple or list."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, tuple | list):
        for item in value:
            if isinstance(item, torch.Tensor):
                return item
    raise TypeError(f"a layer passed {type(value).__name__}, in which there is no tensor to record: name other layers")


@contextmanager
def _hooks(handles):
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel, shape (C,), in float64: the means may be large."""
    values = x.double().transpose(0, 1).flatten(1)
    return values.mean(1), values.var(1, correction=0)
