"""`fold_batch_norm`: batch normalization multiplied into the layer beside it, for inference."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.nn.utils import parametrize

from bnlab import modules, relatives
from bnlab.retrofit.structure import (
    NORMS,
    TRANSPOSED,
    Normalized,
    Wiring,
    check_model,
    clone,
    kind,
    name_of,
    places,
    renumbered,
    runs_as_a_whole,
    value,
)

# What computes scale * x + shift in evaluation, and nothing else.
FORWARDS = [
    cls.forward
    for cls in (
        _BatchNorm,
        SyncBatchNorm,
        modules.BatchNorm1d,
        relatives.BatchRenorm1d,
        relatives.GhostBatchNorm1d,
        relatives.SyncBatchNorm,
    )
]


def fold_batch_norm(model, *, partial=False):
    """Multiply every BN layer into the convolution or linear layer before it, or behind it, and remove it.

    In evaluation, BN is ``scale * x + shift`` per channel, with ``scale = gamma / sqrt(var + eps)`` and
    ``shift = beta - mean * scale``. Behind a layer with weights W and bias b that makes

        W' = scale * W,    b' = scale * b + shift     (scale per output channel)

    and in front of one, W' = W * scale (per input channel) and b' = b + the response of W to a constant input of
    shift. All of it is computed in float64 and rounded once.

    Parameters
    ----------
    model : torch.nn.Module
        A model whose BN layers are in evaluation mode. It is not changed.
    partial : bool, default False
        Whether to leave in place the BN layers that can't be folded, instead of refusing.

    Returns
    -------
    torch.nn.Module
        A copy of the model, of the same class and in the same mode. A removed BN leaves a `torch.nn.Identity` behind,
        except in a plain Sequential that runs as a whole, which closes up and renumbers (so a folded torchvision
        VGG-16-BN has the keys of VGG-16), and in a `Normalized` without hooks, which becomes its layer again. A layer
        without bias gets one.

    Raises
    ------
    ValueError
        A BN layer is in training mode or has no running statistics. Or, unless `partial`, one can't be folded; the
        message names each such layer and why. Or there is no BN layer at all, or a layer waits for its first input.
    TypeError
        The model is none, was made by torch.jit, or can't be copied.

    Notes
    -----
    BN behind a layer always folds, if nothing else sees the layer's output. It must normalize the axis that the
    layer's channels are on: a linear layer is taken to work on (N, features), as is the BN1d beside it.

    BN in front of a layer folds into a linear layer, and into a convolution whose padding repeats values of the input
    (circular, reflect, replicate) or is absent. Zero padding comes behind the BN: at the border the layer sees zeros
    where a folded layer would stand for shift. So zero padding, and a transposed convolution, whose border outputs
    have fewer terms, are refused unless shift is 0 in all channels.

    Who feeds whom is read from a `torch.fx` graph of a call in evaluation mode, in which the forward's optional
    arguments have their defaults: a model that takes another path for other arguments is folded for this one. A
    module that doesn't trace is a black box in it, and its children are looked at each by itself, on the assumption
    that what is inside them is called by them alone. A BN that an untraceable forward calls directly can't be folded.

    Fold for inference, not for training on: the folded network computes the same but learns differently.

    References
    ----------
    Jacob et al. (2018), section 3.2 and equation 14. https://arxiv.org/abs/1712.05877

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    >>> fold_batch_norm(model.eval())
    Sequential(
      (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
      (1): ReLU()
    )
    """
    check_model(model)
    norms = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if not norms:
        raise ValueError(f"this {type(model).__name__} has no batch normalization to fold")
    for name, norm in norms.items():
        if norm.running_mean is None:
            raise ValueError(
                f"{name or 'the model'!r} has no running statistics: in evaluation, too, it normalizes by the batch, "
                "which no fixed weights can do"
            )
        if norm.training:
            raise ValueError(f"{name or 'the model'!r} is in training mode: call model.eval() first")
    new = clone(model)
    folding = _Folding(new)
    waiting = sorted(norms, key=lambda name: folding.order(new.get_submodule(name)))
    reasons, before = {}, None
    while len(waiting) != before:  # again as long as something folds: of two BN layers in a row, the second waits
        before = len(waiting)
        reasons = {name: folding.fold(new.get_submodule(name)) for name in waiting}
        waiting = [name for name in waiting if reasons[name]]
    reasons = {name: reasons[name] for name in waiting}
    if reasons and not partial:
        raise ValueError(
            "can't fold "
            + "; ".join(f"{name or 'the model'!r}: {reason}" for name, reason in reasons.items())
            + ". Give partial=True to fold the others"
        )
    return folding.without_folded()


class _Folding:
    """Folds the BN layers of a model, in place, as long as it is exact."""

    def __init__(self, model):
        self.model = model
        self.wiring = Wiring(model)
        self.rank = {node: i for i, node in enumerate(self.wiring.module_at)}
        self.gone = []
        self.owners = {}
        for module in model.modules():
            for parameter in module._parameters.values():
                self.owners.setdefault(id(parameter), []).append(module)

    def order(self, module):
        """BN layers are folded in the order in which they run; those of unknown place last."""
        return min((self.rank[node] for node in self.wiring.nodes.get(module, ())), default=len(self.rank))

    def fold(self, norm):
        """Fold one BN layer. Returns None, or why it can't be done."""
        nodes = self.wiring.nodes.get(norm)
        if not nodes:
            boxes = ", ".join(sorted({type(box).__name__ for box in self.wiring.opaque}))
            return (
                f"its neighbors are unknown, since torch.fx can't trace the forward of {boxes}"
                if boxes
                else "the model's forward never calls it"
            )
        if _hooked(norm):
            return "it has hooks, which would be lost"
        if getattr(norm.forward, "__func__", None) not in FORWARDS:
            return f"it is {type(norm).__name__}, whose forward isn't that of a batch normalization"
        layers, why_not_after = self._layers_before(norm, nodes)
        if why_not_after is None:
            why_not_after = self._unfit(layers, norm) or self._fold_into_output(layers[0], norm)
        if why_not_after is None:
            self.gone.append(norm)
            return None
        layers, why_not_before = self._layers_behind(norm, nodes)
        if why_not_before is None:
            why_not_before = self._unfit(layers, norm) or self._inexact(layers, norm)
        if why_not_before is None:
            why_not_before = self._fold_into_input(layers, norm)
        if why_not_before is None:
            self.gone.append(norm)
            return None
        return f"backward, {why_not_after}; forward, {why_not_before}"

    # Neighbors

    def _skips(self, node):
        module = self.wiring.module_at.get(node)
        return (type(module) is nn.Identity and not _hooked(module)) or any(module is norm for norm in self.gone)

    def _layers_before(self, norm, nodes):
        """The one layer whose outputs `norm` normalizes, all of them and nothing else."""
        feeders = []
        for node in nodes:
            feeder = _first_argument(node)
            while self._skips(feeder) and len(feeder.users) == 1:
                feeder = _first_argument(feeder)
            layer = self.wiring.module_at.get(feeder)
            if kind(layer) is None:
                return [], f"its input comes from {self._describe(feeder)}, not from a convolution or linear layer"
            if len(feeder.users) > 1:
                return [], f"{self._describe(feeder)} also feeds {self._others(feeder, nodes)}"
            feeders.append(feeder)
        layers = list(dict.fromkeys(self.wiring.module_at[feeder] for feeder in feeders))
        if len(layers) > 1:
            return [], "several layers feed it"
        if set(self.wiring.nodes[layers[0]]) != set(feeders):
            return [], f"{self._describe(feeders[0])} is also called without it"
        return layers, None

    def _layers_behind(self, norm, nodes):
        """The layers that `norm` feeds, if they take nothing else and it feeds nothing else."""
        fed, waiting = [], list(nodes)
        while waiting:
            for user in waiting.pop().users:
                if self._skips(user):
                    waiting.append(user)
                elif kind(self.wiring.module_at.get(user)) is None:
                    return [], f"its output goes to {self._describe(user)}, not to a convolution or linear layer"
                else:
                    fed.append(user)
        layers = list(dict.fromkeys(self.wiring.module_at[node] for node in fed))
        if not layers:
            return [], "nothing uses its output"
        for layer in layers:
            if not set(self.wiring.nodes[layer]) <= set(fed):
                return [], f"{name_of(self.model, layer)!r} is also called without it"
        return layers, None

    def _describe(self, node):
        module = self.wiring.module_at.get(node)
        if module is not None:
            return f"{name_of(self.model, module)!r} ({type(module).__name__})"
        if node.op == "placeholder":
            return "the input"
        if node.op == "output":
            return "the output"
        return getattr(node.target, "__name__", str(node.target))

    def _others(self, feeder, nodes):
        return ", ".join(self._describe(user) for user in feeder.users if user not in nodes) or "it twice"

    # What can't be treated

    def _unfit(self, layers, norm):
        for layer in layers:
            name = f"{name_of(self.model, layer)!r}"
            cls = kind(layer)
            for method in ("forward", "_conv_forward"):  # a subclass or the layer itself may have another one
                if getattr(getattr(layer, method, None), "__func__", None) is not getattr(cls, method, None):
                    return f"{name} is {type(layer).__name__}, whose {method} isn't that of torch.nn.{cls.__name__}"
            if parametrize.is_parametrized(layer):
                return f"{name} is parametrized: remove_parametrizations first"
            if _hooked(layer):
                return f"{name} has hooks, which may change its weights or its output"
            for parameter in layer._parameters.values():
                if parameter is not None and len(self.owners[id(parameter)]) > 1:
                    return f"{name} shares a parameter with another layer"
                if parameter is not None and id(parameter) in self.wiring.read:
                    return f"a parameter of {name} is also used outside it"
            if not isinstance(norm, NORMS[cls] | SyncBatchNorm | relatives.SyncBatchNorm):
                return f"{type(norm).__name__} normalizes another axis than the channels of {name}, a {cls.__name__}"
        return None

    def _inexact(self, layers, norm):
        """Why folding `norm` into the input of these layers would change border values, or None."""
        if not _scale_and_shift(norm)[1].any():
            return None
        for layer in layers:
            name = f"{name_of(self.model, layer)!r}"
            if isinstance(layer, TRANSPOSED):
                return (
                    f"{name} is {type(layer).__name__}: fewer of its weights take part in the outputs at the border, "
                    "so beta - mean * gamma / sqrt(var + eps) can't become a bias"
                )
            if kind(layer) is not nn.Linear and layer.padding_mode == "zeros" and _pads(layer):
                return (
                    f"{name} pads with zeros, which the BN doesn't see, so beta - mean * gamma / sqrt(var + eps) "
                    "can't become a bias that is right at the border, too"
                )
        return None

    # The arithmetic

    def _fold_into_output(self, layer, norm):
        scale, shift = _scale_and_shift(norm)
        if len(scale) != _channels(layer):
            return f"it has {len(scale)} channels, but {name_of(self.model, layer)!r} gives {_channels(layer)}"
        weight, bias = value(layer.weight), _bias(layer)
        if isinstance(
            layer, TRANSPOSED
        ):  # weight: (inputs, outputs / groups, ...), the outputs of a group side by side
            grouped = weight.unflatten(0, (layer.groups, -1))
            weight = (grouped * _beside(scale.view(layer.groups, 1, -1), grouped)).flatten(0, 1)
        else:
            weight = weight * _beside(scale, weight)
        return self._store([(layer, weight, scale * bias + shift)])

    def _fold_into_input(self, layers, norm):
        scale, shift = _scale_and_shift(norm)
        stored = []
        for layer in layers:
            weight, bias = value(layer.weight), _bias(layer)
            groups = getattr(layer, "groups", 1)
            inputs = weight.shape[0] if isinstance(layer, TRANSPOSED) else weight.shape[1] * groups
            if len(scale) != inputs:
                return f"it has {len(scale)} channels, but {name_of(self.model, layer)!r} takes {inputs}"
            if isinstance(layer, TRANSPOSED):
                weight = weight * _beside(scale, weight)  # shift is 0, see _inexact
            else:  # weight: (outputs, inputs / groups, ...), the outputs of a group one below the other
                grouped = weight.unflatten(0, (groups, -1))
                response = grouped * _beside(shift.view(groups, 1, -1), grouped)
                bias = bias + response.flatten(2).sum(2).flatten()
                weight = (grouped * _beside(scale.view(groups, 1, -1), grouped)).flatten(0, 1)
            stored.append((layer, weight, bias))
        return self._store(stored)

    def _store(self, layers):
        """Give each layer its weight and bias, unless one of the numbers is beyond its dtype."""
        rounded = [
            (layer, weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)) for layer, weight, bias in layers
        ]
        for layer, weight, bias in rounded:
            if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
                return f"the weights of {name_of(self.model, layer)!r} would be NaN or too large for {weight.dtype}"
        with torch.no_grad():
            for layer, weight, bias in rounded:
                layer.weight.copy_(weight)
                if layer.bias is None:
                    layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
                    self.owners[id(layer.bias)] = [layer]
                else:
                    layer.bias.copy_(bias)
        return None

    # Removal

    def without_folded(self):
        """The model with the folded BN layers taken out."""
        close_up = {norm: runs_as_a_whole(self.model, norm, self.wiring.calls) for norm in self.gone}
        for norm in self.gone:
            for parent, key in places(self.model, norm):
                if isinstance(parent, Normalized) and not _hooked(parent):
                    layer = parent._modules["0"]
                    if parent is self.model:
                        self.model = layer
                    for grandparent, name in places(self.model, parent):
                        grandparent._modules[name] = layer
                elif close_up[norm]:
                    renumbered(parent, [(k, m) for k, m in parent._modules.items() if m is not norm])
                else:
                    parent._modules[key] = nn.Identity().train(norm.training)
        return self.model


def _hooked(module):
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _first_argument(node):
    return node.args[0] if node.args else node.kwargs.get("input")


def _scale_and_shift(norm):
    """What the layer multiplies by and adds in evaluation, float64."""
    scale = torch.rsqrt(value(norm.running_var) + norm.eps)
    if norm.weight is not None:
        scale = scale * value(norm.weight)
    shift = -value(norm.running_mean) * scale
    return scale, shift if norm.bias is None else shift + value(norm.bias)


def _beside(factors, weight):
    """`factors` with axes of length 1 added at the end, to multiply the first axes of `weight`."""
    return factors.view(*factors.shape, *[1] * (weight.dim() - factors.dim()))


def _channels(layer):
    return layer.out_features if kind(layer) is nn.Linear else layer.out_channels


def _bias(layer):
    """The bias in float64; zeros if there is none."""
    if layer.bias is None:
        return layer.weight.new_zeros(_channels(layer), dtype=torch.float64)
    return value(layer.bias)


def _pads(layer):
    """Whether a convolution pads its input at all."""
    if layer.padding == "same":
        return any(dilation * (k - 1) for dilation, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return layer.padding != "valid" and any(layer.padding)
