"""What a model is made of: the layers that BN can go with, where they are registered, who feeds whom.

What this isn't: a public interface. `Normalized` alone is seen from outside.
"""

import copy
import inspect
from collections import Counter

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

# Which batch normalization goes with the output of which layer.
NORMS = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
    nn.ConvTranspose3d: nn.BatchNorm3d,
    nn.Linear: nn.BatchNorm1d,
}
LAYERS = tuple(NORMS)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Normalized(nn.Sequential):
    """A layer and the batch normalization that was inserted behind it: what takes the layer's place in its parent.

    Attributes of the layer can be read as before (``model.fc.out_features``, ``model.conv.weight.dtype``).

    Parameters
    ----------
    layer : torch.nn.Module
        A convolution or a linear layer; its parameters are those of the submodule "0".
    norm : torch.nn.Module
        Its batch normalization, the submodule "1".
    """

    def __init__(self, layer, norm):
        super().__init__(layer, norm)
        self.training = layer.training

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "0" not in self.__dict__.get("_modules", ()):
                raise
            return getattr(self._modules["0"], name)


def kind(layer):
    """The torch class of a convolution or linear layer, which a subclass of it has, too; None for other modules."""
    return next((cls for cls in LAYERS if isinstance(layer, cls)), None)


def is_lazy(module):
    """Whether the module waits for its first input to know its shapes."""
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def check_model(model):
    """Refuse what isn't a model, or one whose layers can't be seen or don't know their shapes yet.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(model, nn.Module):
        given = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"the model is {given}, expected a torch.nn.Module: the network itself, not its weights")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"the model is {type(model).__name__}, made by torch.jit: give the model it was made from")
    for name, module in model.named_modules():
        if is_lazy(module):
            raise ValueError(f"{name!r} is {type(module).__name__}: run the model once, so that it knows its shapes")


def twin(model):
    """Copy a model but share its parameters: to run it with hooks, modes, buffers that the model never sees.

    Raises
    ------
    TypeError
        If the model holds something that can't be copied.
    """
    return _copy(model, {id(parameter): parameter for parameter in model.parameters()})


def clone(model):
    """Copy a model, tensors and all.

    Raises
    ------
    TypeError
        If the model holds something that can't be copied.
    """
    return _copy(model, {})


def _copy(model, memo):
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TypeError(
            f"this {type(model).__name__} can't be copied with copy.deepcopy ({error}). Remove what it can't copy: "
            "often it is torch.nn.utils.weight_norm, whose successor in torch.nn.utils.parametrizations can be copied"
        ) from error


def places(root, module):
    """Every (parent, key) under which `root` has registered `module`."""
    return [(parent, key) for parent in root.modules() for key, child in parent._modules.items() if child is module]


def is_plain_sequential(module):
    """Whether the module passes its input through its children, one after the other, and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def runs_as_a_whole(root, module, calls):
    """Whether `module` runs only as an element of plain Sequentials that are themselves called.

    Then an element can be added or removed, although that renumbers the ones behind it. If somebody calls or slices
    out elements one by one, it can't. `calls` counts the calls of every module.
    """
    parents = [parent for parent, _ in places(root, module)]
    return (
        bool(parents)
        and all(is_plain_sequential(parent) and not isinstance(parent, Normalized) for parent in parents)
        and sum(calls[parent] for parent in parents) == calls[module] > 0
    )


def renumbered(sequential, items):
    """Give `sequential` the children `items`, (key, module) pairs, and number them anew if its keys are numbers."""
    numbers = all(key.isdecimal() for key in sequential._modules)
    sequential._modules.clear()
    for i, (key, child) in enumerate(items):
        sequential._modules[str(i) if numbers else key] = child


def name_of(root, module):
    """The first name of `module` in `root`; for the root itself, its class."""
    return next(name for name, m in root.named_modules() if m is module) or type(module).__name__


class _Tracer(fx.Tracer):
    """A tracer that looks into no layer we know, nor into `opaque` modules, and counts who is called."""

    def __init__(self, opaque):
        super().__init__()
        self.opaque = opaque
        self.calls = Counter()

    def is_leaf_module(self, m, module_qualified_name):
        known = isinstance(m, (*LAYERS, _BatchNorm, nn.Identity))
        return known or m in self.opaque or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m, forward, args, kwargs):
        self.calls[m] += 1
        return super().call_module(m, forward, args, kwargs)


class Wiring:
    """Who feeds whom in a model in evaluation mode, as far as torch.fx can follow it.

    A module whose forward can't be traced is a black box in the graph of its parent. What is inside it is looked at
    by itself: one graph for each of its children that can be traced.

    Attributes
    ----------
    nodes : dict
        module -> the nodes of its calls, for every module that the graphs call without looking into it.
    module_at : dict
        node -> the module it calls.
    calls : Counter
        module -> how often it is called, for modules of either sort.
    read : set of int
        ids of the parameters that something else than their own layer reads.
    opaque : list of torch.nn.Module
        The modules that can't be traced.
    """

    def __init__(self, model):
        self.nodes, self.module_at, self.calls, self.read = {}, {}, Counter(), set()
        run = twin(model).eval()  # tracing runs its forward, which may leave something behind
        self._original = dict(zip(run.modules(), model.modules(), strict=True))
        self._opaque = set()
        graphs = {run: self._trace(run)}
        if graphs[run] is None:
            graphs = self._bottom_up(run)
        self.opaque = [self._original[box] for box in self._opaque]
        if run not in self._opaque:
            self.calls[model] = 1
        self._collect(run, graphs)

    def _trace(self, module):
        tracer = _Tracer(self._opaque)
        try:
            parameters = inspect.signature(module.forward).parameters.values()
            defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
            return tracer.trace(module, defaults or None), tracer.calls
        except Exception:  # a forward is any code, so tracing it may raise anything
            return None

    def _bottom_up(self, model):
        """Trace children before their parents, so that a parent can take those that don't trace as black boxes."""
        graphs = {}
        for module in reversed(list(model.modules())):  # modules() lists parents first
            if next(module.children(), None) is None:
                continue
            traced = self._trace(module)
            if traced is None:
                self._opaque.add(module)
            else:
                graphs[module] = traced
        return graphs

    def _collect(self, module, graphs):
        """Take up the largest graphs: that of `module`, or those of its children where it has none."""
        if graphs.get(module) is not None:
            graph, calls = graphs[module]
            self.calls.update({self._original[called]: times for called, times in calls.items()})
            for node in graph.nodes:
                if node.op == "call_module":
                    called = self._original[module.get_submodule(node.target)]
                    self.module_at[node] = called
                    self.nodes.setdefault(called, []).append(node)
                elif node.op == "get_attr":
                    owner, _, attribute = node.target.rpartition(".")
                    self.read.add(id(getattr(module.get_submodule(owner), attribute)))
            inside = [called for called in calls if called in self._opaque]
        else:
            inside = [module]
        for box in dict.fromkeys(inside):
            for child in box.children():
                self._collect(child, graphs)


def value(x):
    """Detached, in float64."""
    return x.detach().to(torch.float64)
