"""`insert_batch_norm`: batch normalization for a network that was trained without it."""

from collections import Counter

import torch
from torch.nn import functional as F

from bnlab.retrofit.calibration import ChannelMoments, check_finite, stream
from bnlab.retrofit.structure import (
    NORMS,
    Normalized,
    check_model,
    clone,
    is_plain_sequential,
    kind,
    places,
    renumbered,
    runs_as_a_whole,
    twin,
)


def insert_batch_norm(model, calibration_data, *, layers=None, eps=1e-5, momentum=0.1, forward=None):
    """Put a BN layer behind every convolution and linear layer, such that in evaluation nothing changes.

    One pass over the calibration data gives the mean and variance of each channel of each layer's output. They become
    the running statistics. With ``gamma = sqrt(var + eps)`` and ``beta = mean`` the layer is the identity in evaluation
    (section 3 of Ioffe & Szegedy, 2015), whatever the statistics are. In training it normalizes each batch, and gamma
    and beta learn.

    Parameters
    ----------
    model : torch.nn.Module
        Any model, in either mode. It is not changed.
    calibration_data : iterable of batches, or one batch
        Typical inputs, such as a DataLoader of training data. A batch is a tensor or NumPy array x, shape (N, ...), or
        a tuple or list (x, ...) of which only x is used. A tensor or an array by itself is one batch. It is iterated
        over once, and one batch at a time is in use.
    layers : iterable of str, or None
        Names of the layers to normalize, as in ``model.named_modules()``; the name of a container means all
        convolutions and linear layers inside it. None means all in the model.
    eps : float, default 1e-5
        Added to the variance, inside the square root. Positive.
    momentum : float or None, default 0.1
        Of the new layers, in torch's sense: the weight of the new batch.
    forward : callable or None
        ``forward(model, batch)`` for a model that isn't called as ``model(x)``.

    Returns
    -------
    torch.nn.Module
        A copy of the model, of the same class and in the same mode, with torch.nn.BatchNorm1d, 2d or 3d inserted. In a
        plain `torch.nn.Sequential` that runs as a whole, the BN is the element behind its layer, and the elements
        further on are renumbered: so VGG-16's features become those of torchvision's VGG-16-BN. (In a Sequential with
        names, it is NAME_bn.) Elsewhere, and where elements are called or sliced out one by one, the layer NAME becomes
        a `Normalized`: NAME.0 the layer, NAME.1 its BN.

    Raises
    ------
    ValueError
        No layers to treat, an unknown name, a layer that the calibration data never reach or that is called without
        being run (such as the output projection of `torch.nn.MultiheadAttention`), any layer that waits for its first
        input, a quantized layer, no data, NaN or inf in them or in a layer's output, a single value per channel, a
        linear layer whose features aren't axis 1.
    TypeError
        A name of a module that isn't a convolution or linear layer; data or batches of an unknown form; a model that
        is none, was made by torch.jit or can't be copied.

    Notes
    -----
    The calibration runs in evaluation mode and without gradients, on a copy that shares the model's parameters, so
    modes, hooks and buffers of the model stay what they are, whatever happens. The model need not be traceable: hooks
    tell which layers run. (A `torch.fx` graph would freeze ``if self.training`` and lose the model's class.)

    A layer that is called several times, or is registered under several names, gets one BN with the statistics of all
    calls together. In evaluation that is as exact; in training each call normalizes by its own batch.

    A constant channel has variance 0 and gets gamma = sqrt(eps). The running variance is the unbiased one. It and gamma
    are moved by a few units in their last place where that makes the layer's own arithmetic cancel exactly: then the
    outputs are equal to the last bit. Layers in half precision get statistics, gamma and beta in float32.

    Biases stay, although in training the BN behind them takes them out again. Freezing is not inherited: gamma and
    beta always require gradients.

    References
    ----------
    Ioffe & Szegedy (2015), section 3. https://arxiv.org/abs/1502.03167
    Simon, Rodner & Denzler (2016), "ImageNet pre-trained models with batch normalization".
    https://arxiv.org/abs/1612.01452

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(100, 4)
    >>> normalized = insert_batch_norm(model, x).eval()
    >>> [type(layer).__name__ for layer in normalized]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear', 'BatchNorm1d']
    >>> torch.allclose(normalized(x), model(x), rtol=0, atol=1e-6)
    True
    """
    check_model(model)
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps is {eps}, expected a positive, finite number: constant channels are divided by its root")
    names = _choose(model, layers)
    moments, dtypes, calls = _calibrate(model, names, calibration_data, forward)
    new = clone(model)
    chosen = {name: new.get_submodule(name) for name in names}  # before names shift
    whole = {name: runs_as_a_whole(new, layer, _follow(calls, model, new)) for name, layer in chosen.items()}
    for name, layer in chosen.items():
        norm = NORMS[kind(layer)](
            len(moments[name].mean), eps=eps, momentum=momentum, device=moments[name].mean.device, dtype=dtypes[name]
        )
        _set_to_identity(norm, moments[name], name)
        norm.training = layer.training
        new = _put_behind(new, layer, norm, whole[name])
    return new


def _choose(model, layers):
    """The names of the layers to treat, each layer once."""
    everything = dict(model.named_modules(remove_duplicate=False))
    if layers is None:
        wanted = list(everything)
    else:
        wanted = []
        for name in [layers] if isinstance(layers, str) else layers:
            if name not in everything:
                near = ", ".join(repr(n) for n, m in everything.items() if kind(m))[:300]
                raise ValueError(f"the model has no module {name!r}: choose from {near}")
            inside = [n for n in everything if n == name or n.startswith(f"{name}." if name else "")]
            if not any(_is_layer(everything[n]) for n in inside):
                raise TypeError(
                    f"{name!r} is {type(everything[name]).__name__}, and batch normalization can be put behind "
                    "convolutions (1d, 2d, 3d, transposed too) and linear layers only: leave it out"
                )
            wanted += inside
    names = {}
    for name in wanted:
        layer = everything[name]
        if _is_layer(layer):
            if kind(layer) is None:
                raise ValueError(f"{name!r} is a quantized {type(layer).__name__}: insert before quantizing the model")
            names.setdefault(layer, name)
    if not names:
        raise ValueError(f"this {type(model).__name__} has no convolution or linear layer to normalize")
    return list(names.values())


def _is_layer(module):
    """Whether this is a convolution or linear layer, be it a quantized one."""
    quantized = ".quantized." in f"{type(module).__module__}."
    return kind(module) is not None or (quantized and hasattr(module, "weight"))


def _calibrate(model, names, data, forward):
    """Moments and dtype of every chosen layer's output, and how often each module of `model` was called."""
    run = twin(model).eval()
    moments = {name: ChannelMoments() for name in names}
    dtypes, calls = {}, Counter()

    def observe(name):
        def hook(layer, args, y):
            _check_output(name, layer, y)
            moments[name].add(y)
            dtypes[name] = torch.promote_types(y.dtype, torch.float32)
            calls[layer] += 1

        return hook

    def count(sequential, args):
        calls[sequential] += 1

    for name in names:
        layer = run.get_submodule(name)
        layer.register_forward_hook(observe(name))
    for sequential in run.modules():
        if is_plain_sequential(sequential):
            sequential.register_forward_pre_hook(count)

    def check(number):
        for name in names:
            if moments[name].batches:
                check_finite(moments[name], repr(name), number)

    stream(run, data, forward, check)
    for name in names:
        if not moments[name].batches:
            raise ValueError(
                f"{name!r} was never called: the calibration data don't reach it, or other code uses its weights "
                "without calling it. Name the layers to normalize with layers=[...] and leave it out"
            )
        if moments[name].count < 2:
            raise ValueError(f"{name!r} had one value per channel, which has no variance: give more calibration data")
    return moments, dtypes, _follow(calls, run, model)


def _check_output(name, layer, y):
    expected = "(N, features)" if kind(layer) is torch.nn.Linear else "(N, C, " + "LHW"[: len(layer.kernel_size)] + ")"
    channels = layer.out_features if kind(layer) is torch.nn.Linear else layer.out_channels
    rank = 2 if kind(layer) is torch.nn.Linear else 2 + len(layer.kernel_size)
    if not isinstance(y, torch.Tensor):
        raise ValueError(f"{name!r} returns {type(y).__name__}, expected one tensor: leave it out with layers=[...]")
    if y.dim() != rank or y.shape[1] != channels:
        raise ValueError(
            f"{name!r} returns shape {tuple(y.shape)}, expected {expected} with {channels} channels: it is axis 1 "
            "that batch normalization normalizes. Give inputs with a batch axis, or leave the layer out (layers=[...])"
        )


def _follow(calls, here, there):
    """The same counts for the modules of another copy of the model."""
    return Counter({b: calls[a] for a, b in zip(here.modules(), there.modules(), strict=True)})


@torch.no_grad()
def _set_to_identity(norm, moments, name):
    """Give `norm` the statistics, and the gamma and beta that undo them."""
    norm.running_mean.copy_(moments.mean)
    norm.running_var.copy_(moments.unbiased_var)
    norm.num_batches_tracked.fill_(moments.batches)
    if not torch.isfinite(norm.running_var).all():
        raise ValueError(f"the variance of {name!r} is too large for {norm.running_var.dtype}: scale the data")
    norm.bias.copy_(norm.running_mean)
    # The layer multiplies gamma by its own rounded 1 / sqrt(var + eps). Move gamma and the variance by a few units in
    # their last place until that comes out as 1: then the output is the input to the last bit.
    one, zero = torch.ones_like(norm.weight)[None], torch.zeros_like(norm.running_mean)
    measured, unit = norm.running_var.double(), torch.finfo(norm.running_var.dtype).eps
    error = torch.full_like(norm.weight, torch.inf)
    for i in sorted(range(-6, 7), key=abs):
        var = (measured * (1 + i * unit)).to(norm.running_var.dtype)
        for j in (0, 1, -1):
            gamma = ((var.double() + norm.eps).sqrt() * (1 + j * unit)).to(norm.weight.dtype)
            factor = F.batch_norm(one, zero, var, gamma, None, False, 0.0, norm.eps)[0]
            better = (factor - 1).abs() < error
            error = torch.where(better, (factor - 1).abs(), error)
            norm.weight.copy_(torch.where(better, gamma, norm.weight))
            norm.running_var.copy_(torch.where(better, var, norm.running_var))


def _put_behind(root, layer, norm, whole):
    """Put `norm` behind `layer` wherever `root` has it, and return the root."""
    if root is layer:
        return Normalized(layer, norm)
    if not whole:
        both = Normalized(layer, norm)
        for parent, key in places(root, layer):
            parent._modules[key] = both
        return root
    for parent in dict.fromkeys(parent for parent, _ in places(root, layer)):
        items = []
        for key, child in parent._modules.items():
            items.append((key, child))
            if child is layer:
                items.append((f"{key}_bn", norm))
        renumbered(parent, items)
    return root
