"""Do PyTorch, Keras, Flax and ONNX compute the same batch normalization? The experiment behind claim C22.

The same small networks, dense or convolutional, each with BN and an activation, get the same weights and the same
batches in every framework. Compared, with float64 NumPy (`bnlab.reference`) as the oracle, are the output in training,
the gradients, the running statistics after some updates and the output in evaluation: with the framework's own
defaults, with one convention at a time left untranslated, and with all of them translated. Two more questions are
asked: how far from zero may a channel lie before the variance is lost, and what arrives in an exported ONNX file.

It also holds the translation itself: `torch_to_keras`, `keras_to_torch`, `torch_to_flax`, `flax_to_torch` copy
checkpoints, `unbiased_running_var` and `biased_running_var` translate running variances.

What this isn't: a comparison of speed, or a converter for any model there is: the checkpoint functions pair layers in
the order in which they are registered.

Conventions: arrays are handed around as PyTorch lays them out, (N, C) or (N, C, H, W), weights (out, in, ...). momentum
is torch's, the weight of the newest batch. Keras, Flax, JAX and ONNX are imported when they are first needed; one that
isn't installed gives rows that say so.
"""

import copy
import logging
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from bnlab.experiments import Estimate, Experiment, Result, Verdict, conduct
from bnlab.reference import RunningStatistics, batch_norm_backward, batch_norm_forward

EXPERIMENT = Experiment(
    name="framework_parity",
    title="The same network in PyTorch, Keras, Flax and ONNX",
    claims=("C22",),
    section="sec-frameworks-parity",
    fair="Same weights, same batches, same upstream gradient, float32 on the CPU, no training. The oracle is NumPy in "
    "float64, none of the frameworks. The activation is tanh: rounding can't flip it, as it can a ReLU at zero.",
    packages=("keras", "jax", "flax", "onnx", "onnxruntime", "onnxscript"),
    cpu_only=True,
)

# What each needs, in the order of the tables.
PACKAGES = {
    "torch": ("torch",),
    "keras": ("keras",),
    "flax nnx": ("flax", "jax"),
    "flax linen": ("flax", "jax"),
    "onnx": ("onnx", "onnxruntime"),
}
ARMS = {
    "defaults": "as the framework comes",
    "eps": "only eps left at the framework's default",
    "momentum": "only momentum left at the framework's default",
    "momentum copied": "torch's number written into the framework's argument",
    "variance": "only the variance of the running statistics left as it is",
    "translated": "all three translated",
}
STAGES = ("train output", "gradients", "running mean", "running var", "eval output")
NETWORKS = ("dense", "conv")
EPS, MOMENTUM = 1e-5, 0.1  # torch's defaults: what everything is translated to
BATCHES, BATCH = 20, 16
OFFSETS = (0, 10, 100, 1_000, 10_000)  # mean of a channel, in units of its standard deviation
ROUNDING = 1e-5  # float32 has 6e-8; sums over a few hundred values, divisions and a tanh may cost a hundred of that


# ---------------------------------------------------------------------------------------------------------------------
# The frameworks


def missing(framework: str) -> str:
    """Return the packages that a framework lacks here, as "jax, flax"; an empty string where it is installed.

    Raises
    ------
    ValueError
        For a framework that is none of `PACKAGES`.
    """
    if framework not in PACKAGES:
        raise ValueError(f"the framework is {framework!r}: give one of {', '.join(PACKAGES)}")
    return ", ".join(package for package in PACKAGES[framework] if find_spec(package) is None)


def versions() -> dict[str, str]:
    """Return the version of every package that takes part; "not installed" where there is none."""
    found = {}
    for package in ("torch", "keras", "jax", "flax", "onnx", "onnxruntime", "onnxscript"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def import_keras():
    """Import Keras with its torch backend. The backend is chosen by an environment variable, before the first import.

    Raises
    ------
    RuntimeError
        If Keras has been imported with another backend.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(
            f"Keras runs on {keras.backend.backend()} here: set the environment variable KERAS_BACKEND to torch before "
            "Keras is first imported"
        )
    return keras


def import_flax():
    """Import jax, flax.nnx and flax.linen, for the CPU."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    from flax import linen, nnx

    return jax, nnx, linen


def defaults(framework: str) -> dict[str, float]:
    """Read momentum and eps out of the installed framework.

    Returns
    -------
    dict
        "momentum", in the framework's own meaning, "eps", and "newest": the weight that this momentum gives to the
        newest batch, which is what torch calls momentum.
    """
    if framework == "torch":
        layer = nn.BatchNorm1d(1)
        return {"momentum": layer.momentum, "eps": layer.eps, "newest": layer.momentum}
    if framework == "keras":
        layer = import_keras().layers.BatchNormalization()
        momentum, eps = layer.momentum, layer.epsilon
    elif framework == "flax nnx":
        _, nnx, _ = import_flax()
        layer = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
        momentum, eps = layer.momentum, layer.epsilon
    elif framework == "flax linen":
        layer = import_flax()[2].BatchNorm()
        momentum, eps = layer.momentum, layer.epsilon
    else:
        import onnx

        attributes = onnx.defs.get_schema("BatchNormalization").attributes
        momentum, eps = (attributes[name].default_value.f for name in ("momentum", "epsilon"))
    return {"momentum": round(momentum, 7), "eps": float(f"{eps:.6g}"), "newest": round(1 - momentum, 7)}


# ---------------------------------------------------------------------------------------------------------------------
# Translating running variances


def unbiased_running_var(var, m: int, updates: int, momentum: float, start=1.0):
    """Turn a running variance that took in biased variances into the one that unbiased variances would have given.

    After k updates a running variance is ``(1 - momentum)**k * start`` plus a weighted sum of batch variances. Each of
    those is too small by the factor (m - 1) / m, the start is not, so::

        memory = (1 - momentum)**k * start
        unbiased = memory + (biased - memory) * m / (m - 1)

    Exact, if every batch had the same m.

    Parameters
    ----------
    var : array_like of shape (C,)
        As Keras, Flax and ONNX keep it.
    m : int
        Values per channel and batch: N times the number of positions.
    updates : int
        How many batches it has seen: k.
    momentum : float
        torch's meaning, the weight of the newest batch.
    start : float
        The running variance before the first update.

    Returns
    -------
    ndarray of shape (C,), float64

    Raises
    ------
    ValueError
        If m is below 2: one value has no unbiased variance.
    """
    memory = start * (1 - momentum) ** updates
    return memory + (np.asarray(var, dtype=np.float64) - memory) * _bessel(m)


def biased_running_var(var, m: int, updates: int, momentum: float, start=1.0):
    """Turn torch's running variance into the one that Keras, Flax and ONNX would keep.

    The inverse of `unbiased_running_var`, with the same parameters and errors.
    """
    memory = start * (1 - momentum) ** updates
    return memory + (np.asarray(var, dtype=np.float64) - memory) / _bessel(m)


def _bessel(m):
    if m < 2:
        raise ValueError(f"m is {m}, but one value has no unbiased variance: give the values per channel of a batch")
    return m / (m - 1)


# ---------------------------------------------------------------------------------------------------------------------
# The same network, five times. Every function takes a `case` and returns the same dictionary of arrays. Where the
# framework keeps biased running variances, `unbiased` writes the translated ones into its layer before evaluation.


def make_case(network: str, seed: int) -> dict:
    """Draw weights, batches and an upstream gradient.

    Returns
    -------
    dict
        "weight": (6, 12) or (4, 3, 3, 3); "gamma", "beta"; "batches": (BATCHES, BATCH, 12) or (BATCHES, BATCH, 3, 8,
        8), "test": one more batch; "dy": gradient with respect to the output for the first batch; "m": values per
        channel. float64, but rounded to float32, so that all start from the same numbers.
    """
    if network not in NETWORKS:
        raise ValueError(f"the network is {network!r}: give one of {', '.join(NETWORKS)}")
    rng = np.random.default_rng((seed, NETWORKS.index(network)))
    weight, inputs, outputs = ((6, 12), (12,), (6,)) if network == "dense" else ((4, 3, 3, 3), (3, 8, 8), (4, 6, 6))
    case = {
        "weight": rng.normal(size=weight) / math.sqrt(math.prod(weight[1:])),
        "gamma": rng.uniform(0.5, 1.5, weight[0]),
        "beta": rng.normal(0, 0.5, weight[0]),
        "batches": rng.normal(1, 2, (BATCHES, BATCH, *inputs)),
        "test": rng.normal(1, 2, (BATCH, *inputs)),
        "dy": rng.normal(size=(BATCH, *outputs)),
    }
    case = {key: value.astype(np.float32).astype(np.float64) for key, value in case.items()}
    return {**case, "m": BATCH * math.prod(outputs[1:])}


def run_reference(case: dict, eps: float = EPS, momentum: float = MOMENTUM) -> dict:
    """Compute everything in float64 with NumPy: what the frameworks are compared with."""
    linear, linear_backward = (_dense, _dense_backward) if case["weight"].ndim == 2 else (_conv, _conv_backward)
    running = RunningStatistics(len(case["gamma"]), momentum)
    outcome = {}
    for k, x in enumerate(case["batches"]):
        y, cache = batch_norm_forward(linear(x, case["weight"]), case["gamma"], case["beta"], eps=eps)
        running.update(cache.mu, cache.var, cache.m)
        if k == 0:
            outcome["train output"] = np.tanh(y)
            grads = batch_norm_backward(case["dy"] * (1 - np.tanh(y) ** 2), cache)
            dx, dweight = linear_backward(grads.dx, x, case["weight"])
            outcome["gradients"] = {"x": dx, "weight": dweight, "gamma": grads.dgamma, "beta": grads.dbeta}
    outcome |= {"running mean": running.mean, "running var": running.var}
    z = linear(case["test"], case["weight"])
    y, _ = batch_norm_forward(z, case["gamma"], case["beta"], running=running, training=False, eps=eps)
    return {**outcome, "eval output": np.tanh(y)}


def _dense(x, weight):
    return x @ weight.T


def _dense_backward(dz, x, weight):
    return dz @ weight, dz.T @ x


def _conv(x, weight):
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("nihwkl,oikl->nohw", windows, weight, optimize=True)


def _conv_backward(dz, x, weight):
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    dweight = np.einsum("nohw,nihwkl->oikl", dz, windows, optimize=True)
    rows, columns = (size - 1 for size in weight.shape[2:])
    padded = np.pad(dz, ((0, 0), (0, 0), (rows, rows), (columns, columns)))
    return _conv(padded, weight[:, :, ::-1, ::-1].swapaxes(0, 1)), dweight


def _tensor(values):
    return torch.tensor(values, dtype=torch.float32)


def run_torch(case: dict, eps: float = EPS, momentum: float = MOMENTUM) -> dict:
    """Linear or Conv2d, BatchNorm, Tanh in PyTorch."""
    out, into, *kernel = case["weight"].shape
    first = nn.Conv2d(into, out, kernel, bias=False) if kernel else nn.Linear(into, out, bias=False)
    norm = (nn.BatchNorm2d if kernel else nn.BatchNorm1d)(out, eps=eps, momentum=momentum)
    model = nn.Sequential(first, norm, nn.Tanh())
    with torch.no_grad():
        for parameter, name in ((first.weight, "weight"), (norm.weight, "gamma"), (norm.bias, "beta")):
            parameter.copy_(_tensor(case[name]))
    batches = _tensor(case["batches"])
    x = batches[0].clone().requires_grad_()
    y = model(x)
    grads = torch.autograd.grad(y, [x, *model.parameters()], _tensor(case["dy"]))
    with torch.no_grad():
        for batch in batches[1:]:
            model(batch)
        evaluated = model.eval()(_tensor(case["test"]))
    return {
        "train output": y.detach().numpy(),
        "gradients": dict(zip(("x", "weight", "gamma", "beta"), (g.numpy() for g in grads), strict=True)),
        "running mean": norm.running_mean.numpy(),
        "running var": norm.running_var.numpy(),
        "eval output": evaluated.numpy(),
    }


def run_keras(case: dict, eps: float = EPS, momentum: float = MOMENTUM, unbiased: bool = True) -> dict:
    """Dense or Conv2D, BatchNormalization, Activation("tanh") in Keras: channels last, momentum the complement."""
    keras = import_keras()
    out, _, *kernel = case["weight"].shape
    layers = keras.layers
    first = layers.Conv2D(out, kernel, use_bias=False) if kernel else layers.Dense(out, use_bias=False)
    norm = layers.BatchNormalization(momentum=1 - momentum, epsilon=eps)
    shape = channels_last(case["test"]).shape[1:]
    model = keras.Sequential([keras.Input(shape), first, norm, layers.Activation("tanh")])
    first.set_weights([_kernel(case["weight"])])
    norm.set_weights([case["gamma"], case["beta"], np.zeros(out), np.ones(out)])

    def as_input(x):
        return _tensor(channels_last(x))

    x = as_input(case["batches"][0]).requires_grad_()
    y = model(x, training=True)
    inputs = [x, first.kernel.value, norm.gamma.value, norm.beta.value]
    dx, dweight, dgamma, dbeta = (g.numpy() for g in torch.autograd.grad(y, inputs, as_input(case["dy"])))
    with torch.no_grad():
        for batch in case["batches"][1:]:
            model(as_input(batch), training=True)
        if unbiased:
            var = keras.ops.convert_to_numpy(norm.moving_variance)
            norm.moving_variance.assign(unbiased_running_var(var, case["m"], BATCHES, momentum))
        evaluated = model(as_input(case["test"]), training=False)
    return {
        "train output": channels_second(y.detach().numpy()),
        "gradients": {"x": channels_second(dx), "weight": _kernel_back(dweight), "gamma": dgamma, "beta": dbeta},
        "running mean": keras.ops.convert_to_numpy(norm.moving_mean),
        "running var": keras.ops.convert_to_numpy(norm.moving_variance),
        "eval output": channels_second(evaluated.numpy()),
    }


def run_nnx(case: dict, eps: float = EPS, momentum: float = MOMENTUM, unbiased: bool = True) -> dict:
    """Linear or Conv, BatchNorm, tanh in Flax's nnx: layers that hold their own state."""
    jax, nnx, _ = import_flax()
    out, into, *kernel = case["weight"].shape
    options = {"use_bias": False, "rngs": nnx.Rngs(0)}
    first = nnx.Conv(into, out, kernel, padding="VALID", **options) if kernel else nnx.Linear(into, out, **options)
    norm = nnx.BatchNorm(out, momentum=1 - momentum, epsilon=eps, rngs=nnx.Rngs(0))

    def as_input(x):
        return jax.numpy.asarray(channels_last(x), "float32")

    first.kernel[...] = jax.numpy.asarray(_kernel(case["weight"]), "float32")
    norm.scale[...], norm.bias[...] = (jax.numpy.asarray(case[name], "float32") for name in ("gamma", "beta"))
    model = nnx.Sequential(first, norm, jax.numpy.tanh)
    model.train()

    dy = as_input(case["dy"])

    def loss(model, x):
        y = model(x)
        return (y * dy).sum(), y

    (_, y), (grads, dx) = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(model, as_input(case["batches"][0]))
    for batch in case["batches"][1:]:
        model(as_input(batch))
    if unbiased:
        var = unbiased_running_var(norm.var[...], case["m"], BATCHES, momentum)
        norm.var[...] = jax.numpy.asarray(var, norm.var.dtype)
    model.eval()
    evaluated = model(as_input(case["test"]))
    of_first, of_norm = grads["layers"][0], grads["layers"][1]
    grads = {"weight": of_first["kernel"], "gamma": of_norm["scale"], "beta": of_norm["bias"]}
    grads = {name: np.asarray(value[...]) for name, value in grads.items()}
    return {
        "train output": channels_second(np.asarray(y)),
        "gradients": {"x": channels_second(np.asarray(dx)), **grads, "weight": _kernel_back(grads["weight"])},
        "running mean": np.asarray(norm.mean[...]),
        "running var": np.asarray(norm.var[...]),
        "eval output": channels_second(np.asarray(evaluated)),
    }


def run_linen(case: dict, eps: float = EPS, momentum: float = MOMENTUM, unbiased: bool = True) -> dict:
    """Dense or Conv, BatchNorm, tanh in Flax's linen: stateless layers, the statistics travel beside the parameters."""
    jax, _, linen = import_flax()
    out, _, *kernel = case["weight"].shape
    options = {"use_bias": False}
    first = linen.Conv(out, kernel, padding="VALID", **options) if kernel else linen.Dense(out, **options)
    norm = linen.BatchNorm(momentum=1 - momentum, epsilon=eps)

    def array(values):
        return jax.numpy.asarray(values, "float32")

    params = {
        "kernel": array(_kernel(case["weight"])),
        "scale": array(case["gamma"]),
        "bias": array(case["beta"]),
    }
    stats = norm.init(jax.random.key(0), array(np.zeros((2, out))), use_running_average=False)["batch_stats"]

    def apply(params, stats, x, training):
        z = first.apply({"params": {"kernel": params["kernel"]}}, x)
        variables = {"params": {"scale": params["scale"], "bias": params["bias"]}, "batch_stats": stats}
        if not training:
            return jax.numpy.tanh(norm.apply(variables, z, use_running_average=True)), stats
        y, changed = norm.apply(variables, z, use_running_average=False, mutable=["batch_stats"])
        return jax.numpy.tanh(y), changed["batch_stats"]

    dy = array(channels_last(case["dy"]))

    def loss(params, x):
        y, changed = apply(params, stats, x, training=True)
        return (y * dy).sum(), (y, changed)

    x = array(channels_last(case["batches"][0]))
    (_, (y, stats)), (grads, dx) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    for batch in case["batches"][1:]:
        _, stats = apply(params, stats, array(channels_last(batch)), training=True)
    if unbiased:
        stats = stats | {"var": array(unbiased_running_var(stats["var"], case["m"], BATCHES, momentum))}
    evaluated, _ = apply(params, stats, array(channels_last(case["test"])), training=False)
    return {
        "train output": channels_second(np.asarray(y)),
        "gradients": {
            "x": channels_second(np.asarray(dx)),
            "weight": _kernel_back(np.asarray(grads["kernel"])),
            "gamma": np.asarray(grads["scale"]),
            "beta": np.asarray(grads["bias"]),
        },
        "running mean": np.asarray(stats["mean"]),
        "running var": np.asarray(stats["var"]),
        "eval output": channels_second(np.asarray(evaluated)),
    }


def run_onnx(case: dict, eps: float = EPS, momentum: float = MOMENTUM, unbiased: bool = True) -> dict:
    """MatMul or Conv, BatchNormalization, Tanh as an ONNX graph that onnxruntime executes. The format has no gradients.

    ONNX operators hold no state: in training, the updated statistics are outputs, and the caller feeds them back.
    """
    import onnxruntime

    train, evaluate = (
        onnxruntime.InferenceSession(
            onnx_graph(case["weight"], training, eps, 1 - momentum).SerializeToString(),
            providers=["CPUExecutionProvider"],
        )
        for training in (True, False)
    )
    channels = len(case["gamma"])
    constants = {name: case[name].astype(np.float32) for name in ("gamma", "beta")}
    mean, var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    first = None
    for x in case["batches"]:
        y, mean, var = train.run(None, {"x": x.astype(np.float32), **constants, "mean": mean, "var": var})
        first = y if first is None else first
    if unbiased:
        var = unbiased_running_var(var, case["m"], BATCHES, momentum).astype(np.float32)
    (evaluated,) = evaluate.run(None, {"x": case["test"].astype(np.float32), **constants, "mean": mean, "var": var})
    return {"train output": first, "running mean": mean, "running var": var, "eval output": evaluated}


def onnx_graph(weight: np.ndarray, training: bool, eps: float, momentum: float):
    """Write the network as an ONNX model with the inputs x, gamma, beta, mean and var.

    Parameters
    ----------
    weight : ndarray, (out, in) or (out, in, height, width)
        Becomes part of the model.
    training : bool
        The attribute training_mode: whether the running statistics are outputs, too.
    eps, momentum : float
        momentum in ONNX' meaning, the weight of the past.
    """
    import onnx
    from onnx import helper

    kind = onnx.TensorProto.FLOAT
    dense = weight.ndim == 2
    fixed = onnx.numpy_helper.from_array((weight.T if dense else weight).astype(np.float32), "weight")
    results = ["normalized", "new_mean", "new_var"] if training else ["normalized"]
    nodes = [
        helper.make_node("MatMul" if dense else "Conv", ["x", "weight"], ["z"]),
        helper.make_node(
            "BatchNormalization",
            ["z", "gamma", "beta", "mean", "var"],
            results,
            epsilon=eps,
            momentum=momentum,
            training_mode=int(training),
        ),
        helper.make_node("Tanh", ["normalized"], ["y"]),
    ]
    free = [None] * weight.ndim
    inputs = [helper.make_tensor_value_info(name, kind, [None]) for name in ("gamma", "beta", "mean", "var")]
    inputs.insert(0, helper.make_tensor_value_info("x", kind, free))
    outputs = [helper.make_tensor_value_info(name, kind, [None]) for name in results[1:]]
    outputs.insert(0, helper.make_tensor_value_info("y", kind, free))
    graph = helper.make_graph(nodes, "parity", inputs, outputs, [fixed])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=10)
    onnx.checker.check_model(model)
    return model


RUNNERS = {
    "torch": run_torch,
    "keras": run_keras,
    "flax nnx": run_nnx,
    "flax linen": run_linen,
    "onnx": run_onnx,
}


def channels_last(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) to (N, ..., C), the default layout of Keras and Flax."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def channels_second(x: np.ndarray) -> np.ndarray:
    """(N, ..., C) to (N, C, ...), torch's and ONNX' layout."""
    return np.moveaxis(x, -1, 1)


def _kernel(weight):
    """torch's (out, in, ...) to (..., in, out), as Keras and Flax have it."""
    return np.moveaxis(weight, (0, 1), (-1, -2))


def _kernel_back(kernel):
    return np.moveaxis(kernel, (-1, -2), (0, 1))


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def torch_to_keras(source: nn.Module, target, flattened: Sequence[int] | None = None) -> None:
    """Copy the weights and running statistics of a torch model into a Keras model (torch backend, channels last).

    Dense, convolutional and BN layers are paired in the order in which they are registered. Weights are transposed;
    gamma, beta and the running statistics are copied as they are, since evaluation reads them as they are. eps is
    copied, momentum becomes its complement.

    Parameters
    ----------
    source : torch.nn.Module
    target : keras.Model
        Built, with layers of the same kinds and sizes.
    flattened : (C, H, W), optional
        What was flattened between the last convolution and the first dense layer. The two frameworks flatten in
        another order, so the dense weights have to be permuted. Not needed after global pooling.

    Raises
    ------
    ValueError
        If layers or shapes don't match, if `flattened` is missing or doesn't fit, or if a BN layer has no counterpart
        (no running statistics, or momentum None). The target is unchanged.
    """
    pairs = _pairs(_torch_layers(source), _keras_layers(target), "the Keras model")
    plan = []
    for (kind, theirs), (_, layer), permute in _with_permutation(pairs, flattened):
        if kind == "norm":
            _check_convertible(theirs)
            if (theirs.weight is not None, theirs.bias is not None) != (layer.scale, layer.center):
                raise ValueError(
                    f"{theirs} and {layer.name} differ in gamma and beta: give the Keras layer "
                    f"scale={theirs.weight is not None}, center={theirs.bias is not None}"
                )
            values = [theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var]
            values = [_numpy(value) for value in values if value is not None]
        else:
            values = [_kernel(permute(_numpy(theirs.weight)))]
            if (theirs.bias is not None) != bool(layer.use_bias):
                raise ValueError(f"{theirs} and {layer.name} differ in their bias: give use_bias to match")
            values += [] if theirs.bias is None else [_numpy(theirs.bias)]
        _check_shapes(f"{theirs}", [v.shape for v in values], layer.name, [tuple(w.shape) for w in layer.weights])
        plan.append((theirs, layer, values))
    for theirs, layer, values in plan:
        layer.set_weights(values)
        if hasattr(layer, "moving_variance"):
            layer.epsilon, layer.momentum = theirs.eps, 1 - theirs.momentum


def keras_to_torch(source, target: nn.Module, flattened: Sequence[int] | None = None) -> None:
    """Copy the weights and running statistics of a Keras model into a torch model: the inverse of `torch_to_keras`."""
    pairs = _pairs(_torch_layers(target), _keras_layers(source), "the Keras model")
    plan = []
    for (kind, layer), (_, theirs), permute in _with_permutation(pairs, flattened, back=True):
        arrays = {weight.name: _keras_numpy(weight) for weight in theirs.weights}
        if kind == "norm":
            _check_convertible(layer)
            state = {
                "weight": arrays.get("gamma"),
                "bias": arrays.get("beta"),
                "running_mean": arrays["moving_mean"],
                "running_var": arrays["moving_variance"],
            }
            options = {"eps": theirs.epsilon, "momentum": 1 - theirs.momentum}
        else:
            state = {"weight": permute(_kernel_back(arrays["kernel"])), "bias": arrays.get("bias")}
            options = {}
        plan.append((layer, _checked_state(layer, state, theirs.name), options))
    _apply_to_torch(plan)


def torch_to_flax(source: nn.Module, target, flattened: Sequence[int] | None = None) -> None:
    """Copy the weights and running statistics of a torch model into a Flax nnx model.

    Parameters
    ----------
    source : torch.nn.Module
    target : flax.nnx.Module
        With layers of the same kinds and sizes, in the same order of their attributes.
    flattened : (C, H, W), optional
        As in `torch_to_keras`.

    Raises
    ------
    ValueError
        As in `torch_to_keras`.
    """
    jax, _, _ = import_flax()
    pairs = _pairs(_torch_layers(source), _nnx_layers(target), "the Flax model")
    plan = []
    for (kind, theirs), (_, layer), permute in _with_permutation(pairs, flattened):
        if kind == "norm":
            _check_convertible(theirs)
            values = {
                "scale": theirs.weight,
                "bias": theirs.bias,
                "mean": theirs.running_mean,
                "var": theirs.running_var,
            }
            values = {name: None if value is None else _numpy(value) for name, value in values.items()}
        else:
            values = {"kernel": _kernel(permute(_numpy(theirs.weight)))}
            values["bias"] = None if theirs.bias is None else _numpy(theirs.bias)
        shapes = [None if getattr(layer, name) is None else getattr(layer, name).shape for name in values]
        given = [None if value is None else value.shape for value in values.values()]
        _check_shapes(f"{theirs}", given, type(layer).__name__, shapes)
        plan.append((theirs, layer, values))
    for theirs, layer, values in plan:
        for name, value in values.items():
            if value is not None:
                variable = getattr(layer, name)
                variable[...] = jax.numpy.asarray(value, variable.dtype)
        if "mean" in values:
            layer.epsilon, layer.momentum = theirs.eps, 1 - theirs.momentum


def flax_to_torch(source, target: nn.Module, flattened: Sequence[int] | None = None) -> None:
    """Copy the weights and running statistics of a Flax nnx model into a torch model, as `torch_to_flax` back."""
    pairs = _pairs(_torch_layers(target), _nnx_layers(source), "the Flax model")
    plan = []
    for (kind, layer), (_, theirs), permute in _with_permutation(pairs, flattened, back=True):
        if kind == "norm":
            _check_convertible(layer)
            state = {
                "weight": _nnx_value(theirs, "scale"),
                "bias": _nnx_value(theirs, "bias"),
                "running_mean": _nnx_value(theirs, "mean"),
                "running_var": _nnx_value(theirs, "var"),
            }
            options = {"eps": theirs.epsilon, "momentum": 1 - theirs.momentum}
        else:
            state = {"weight": permute(_kernel_back(_nnx_value(theirs, "kernel"))), "bias": _nnx_value(theirs, "bias")}
            options = {}
        plan.append((layer, _checked_state(layer, state, type(theirs).__name__), options))
    _apply_to_torch(plan)


def _torch_layers(model):
    kinds = {
        "dense": nn.Linear,
        "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
        "norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    }
    return _known(model.modules(), kinds, lambda layer: any(True for _ in layer.parameters(recurse=False)))


def _keras_layers(model):
    layers = import_keras().layers
    kinds = {
        "dense": layers.Dense,
        "conv": (layers.Conv1D, layers.Conv2D, layers.Conv3D),
        "norm": layers.BatchNormalization,
    }
    flat = model._flatten_layers(include_self=False, recursive=True)
    return _known(flat, kinds, lambda layer: bool(layer.weights) and not getattr(layer, "layers", None))


def _nnx_layers(model):
    _, nnx, _ = import_flax()
    kinds = {"dense": nnx.Linear, "conv": nnx.Conv, "norm": nnx.BatchNorm}

    def walk(node):  # in the order of assignment; nnx.iter_graph goes by the alphabet
        if isinstance(node, tuple(kinds.values())):
            yield node
        elif isinstance(node, Sequence) and not isinstance(node, str):
            for part in node:
                yield from walk(part)
        elif isinstance(node, Mapping):
            yield from walk(list(node.values()))
        elif isinstance(node, nnx.Module):
            held = [value for value in vars(node).values() if isinstance(value, nnx.Variable)]
            if held:
                yield node  # weights of its own: refused below
            yield from walk(list(vars(node).values()))

    return _known(walk(model), kinds, lambda layer: True)


def _known(layers, kinds, has_weights):
    found = []
    for layer in layers:
        kind = next((kind for kind, classes in kinds.items() if isinstance(layer, classes)), None)
        if kind is None and has_weights(layer):
            raise ValueError(
                f"{type(layer).__name__} has weights, but only dense, convolutional and BN layers are translated: "
                "copy this one yourself"
            )
        if kind:
            found.append((kind, layer))
    return found


def _pairs(ours, theirs, name):
    kinds = [kind for kind, _ in ours], [kind for kind, _ in theirs]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the torch model has the layers {', '.join(kinds[0])}, {name} {', '.join(kinds[1])}: give models with "
            "the same layers in the same order"
        )
    return list(zip(ours, theirs, strict=True))


def _with_permutation(pairs, flattened, back=False):
    """Add, to each pair, what to do with the weight: usually nothing; permute its inputs after a flattened image."""
    last = None
    for (kind, ours), theirs in pairs:
        permute = lambda weight: weight  # noqa: E731
        if kind == "dense" and last is not None and ours.in_features != last:
            if flattened is None or math.prod(flattened) != ours.in_features or flattened[0] != last:
                raise ValueError(
                    f"{ours} follows {last} channels of a convolution, and the frameworks flatten in another order: "
                    f"give flattened=(C, H, W) with C = {last} and C * H * W = {ours.in_features}, "
                    f"not {flattened}"
                )
            permute = _flatten_permutation(flattened, back)
        last = ours.out_channels if kind == "conv" else None if kind == "dense" else last
        yield (kind, ours), theirs, permute


def _flatten_permutation(flattened, back):
    channels, *space = flattened
    if back:
        return lambda weight: np.moveaxis(weight.reshape(-1, *space, channels), -1, 1).reshape(len(weight), -1)
    return lambda weight: np.moveaxis(weight.reshape(-1, channels, *space), 1, -1).reshape(len(weight), -1)


def _check_convertible(norm):
    if norm.running_mean is None:
        raise ValueError(f"{norm} keeps no running statistics, but the other frameworks always do")
    if norm.momentum is None:
        raise ValueError(f"{norm} averages over all batches; the other frameworks need a momentum: set one first")


def _check_shapes(name, given, other, expected):
    as_tuples = [None if shape is None else tuple(shape) for shape in expected]
    if [None if shape is None else tuple(shape) for shape in given] != as_tuples:
        raise ValueError(f"{name} gives arrays of the shapes {given}, but {other} has {as_tuples}")


def _checked_state(layer, state, other):
    own = {name: tuple(value.shape) for name, value in layer.state_dict().items() if name != "num_batches_tracked"}
    given = {name: value.shape for name, value in state.items() if value is not None}
    if own != given:
        raise ValueError(f"{other} gives {given}, but {layer} has {own}")
    return {name: value for name, value in state.items() if value is not None}


def _apply_to_torch(plan):
    for layer, state, options in plan:
        with torch.no_grad():
            for name, value in state.items():
                getattr(layer, name).copy_(torch.tensor(value))
        for name, value in options.items():
            setattr(layer, name, value)


def _numpy(tensor):
    return tensor.detach().cpu().numpy()


def _nnx_value(layer, name):
    variable = getattr(layer, name)
    return None if variable is None else np.asarray(variable[...])


def _keras_numpy(weight):
    return import_keras().ops.convert_to_numpy(weight)


# ---------------------------------------------------------------------------------------------------------------------
# ONNX files


@contextmanager
def _quiet():
    """Keep torch's ONNX exporter from telling about packages and interfaces that have nothing to do with the model."""
    loggers = [logging.getLogger(f"torch.onnx._internal.exporter.{name}") for name in ("_registration", "_core")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def export_onnx(model: nn.Module, x: torch.Tensor, optimize: bool = True):
    """Export a copy of a model with `torch.onnx.export`, in the mode it is in, and return the ONNX model (a protobuf).

    The exporter's warnings are dropped: look at what it wrote.
    """
    with _quiet():
        program = torch.onnx.export(copy.deepcopy(model), (x,), dynamo=True, optimize=optimize, verbose=False)
    return program.model_proto


def onnx_operators(model) -> list[str]:
    """Return the names of an ONNX model's operators, in the order of the graph."""
    return [node.op_type for node in model.graph.node]


def onnx_run(model, x: np.ndarray) -> np.ndarray:
    """Execute an ONNX model with one input in onnxruntime; return its first output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.asarray(x)})[0]


# ---------------------------------------------------------------------------------------------------------------------
# The experiment


def run(seeds=range(5), device="cpu", budget="small", *, journal=None) -> Result:
    """Compare the frameworks with float64 NumPy.

    Both budgets measure the same: nothing here gains from a longer run.

    Rows of three kinds, all with "framework" and "installed":

    - "parity": network, arm, stage, seed, absolute and relative (largest difference from float64, the second
      divided by the largest value), torch (the second, measured from torch with its defaults);
    - "offset": layer, offset, seed, relative;
    - "export": mode, optimize, operators, and how far onnxruntime is from torch in evaluation and in training.
    """
    seeds = list(seeds)
    found = versions()
    units = []
    for framework, packages in PACKAGES.items():
        what = {"framework": framework, "versions": " ".join(f"{p} {found[p]}" for p in packages)}
        if missing(framework):
            units.append({"kind": "parity", **what})
            continue
        for network in NETWORKS:
            arms = {"torch": ("translated",), "flax linen": ("defaults", "translated")}.get(framework, ARMS)
            for arm in arms:  # linen computes what nnx computes: the two extremes are enough
                units.append({"kind": "parity", **what, "network": network, "arm": arm})
    for layer in OFFSET_LAYERS:
        framework = OFFSET_LAYERS[layer][0]
        units.append({"kind": "offset", "framework": framework, "layer": layer, "versions": str(found)})
    for mode in ("eval", "train"):
        for optimize in (True, False):
            units.append({"kind": "export", "framework": "onnx", "mode": mode, "optimize": optimize} | found)

    def measure(unit):
        lacking = missing(unit["framework"])
        if unit["kind"] == "export" and not lacking and find_spec("onnxscript") is None:
            lacking = "onnxscript"
        if lacking:
            return {"installed": False, "missing": lacking}
        rows = {"parity": _measure_parity, "offset": _measure_offset, "export": _measure_export}[unit["kind"]]
        return [{"installed": True, **row} for row in rows(unit, seeds)]

    settings = {"batches": BATCHES, "batch": BATCH, "eps": EPS, "momentum": MOMENTUM, "offsets": OFFSETS}
    return conduct(
        EXPERIMENT,
        units,
        measure,
        seeds=seeds,
        device=device,
        budget=budget,
        settings={**settings, "versions": found},
        journal=journal,
    )


def arm_options(framework: str, arm: str) -> dict[str, float]:
    """Return the eps and the momentum (torch's meaning) that an arm gives to a framework's layer."""
    own = defaults(framework)
    return {
        "eps": own["eps"] if arm in ("defaults", "eps") else EPS,
        "momentum": own["newest"]
        if arm in ("defaults", "momentum")
        else 1 - MOMENTUM
        if arm == "momentum copied"
        else MOMENTUM,
    }


def _measure_parity(unit, seeds):
    framework, arm = unit["framework"], unit["arm"]
    for seed in seeds:
        case = make_case(unit["network"], seed)
        expected = run_reference(case)
        torch_has = run_torch(case)
        options = arm_options(framework, arm)
        if framework != "torch":
            options["unbiased"] = arm not in ("defaults", "variance")
        outcome = RUNNERS[framework](case, **options)
        for stage in STAGES:
            if stage not in outcome:
                yield {"seed": seed, "stage": stage, "note": "the ONNX format has no gradients"}
                continue
            absolute, relative = _distance(outcome[stage], expected[stage])
            yield {
                "seed": seed,
                "stage": stage,
                "absolute": absolute,
                "relative": relative,
                "torch": _distance(outcome[stage], torch_has[stage])[1],
            }


def _distance(given, expected):
    """Largest difference, absolute and divided by the largest expected value; of several arrays, the worst."""
    if isinstance(expected, dict):
        pairs = [_distance(given[name], expected[name]) for name in expected]
        return max(a for a, _ in pairs), max(r for _, r in pairs)
    given, expected = (np.asarray(a, dtype=np.float64) for a in (given, expected))
    absolute = np.abs(given - expected).max()
    return (float(absolute), float(absolute / np.abs(expected).max())) if np.isfinite(absolute) else (np.inf, np.inf)


def _offset_torch(x):
    return nn.BatchNorm1d(x.shape[1])(torch.tensor(x)).detach().numpy()


def _offset_keras(x):
    layer = import_keras().layers.BatchNormalization(epsilon=EPS)
    return layer(torch.tensor(x), training=True).detach().numpy()


def _offset_flax(x, fast=True):
    jax, nnx, _ = import_flax()
    layer = nnx.BatchNorm(x.shape[1], use_fast_variance=fast, rngs=nnx.Rngs(0))
    return np.asarray(layer(jax.numpy.asarray(x)))


def _offset_flax_two_pass(x):
    return _offset_flax(x, fast=False)


def _offset_onnx(x):
    import onnxruntime
    from onnx import TensorProto, helper

    names = ["x", "gamma", "beta", "mean", "var"]
    node = helper.make_node("BatchNormalization", names, ["y", "m", "v"], epsilon=EPS, training_mode=1)
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in group] for group in (names, "ymv")]
    model = helper.make_model(
        helper.make_graph([node], "bn", *infos), opset_imports=[helper.make_opsetid("", 15)], ir_version=10
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    zeros, ones = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    return session.run(None, dict(zip(names, (x, ones, zeros, zeros, ones), strict=True)))[0]


OFFSET_LAYERS = {
    "PyTorch": ("torch", _offset_torch),
    "Keras (torch)": ("keras", _offset_keras),
    "Flax": ("flax nnx", _offset_flax),
    "Flax, use_fast_variance=False": ("flax nnx", _offset_flax_two_pass),
    "onnxruntime": ("onnx", _offset_onnx),
}


def _measure_offset(unit, seeds):
    layer = OFFSET_LAYERS[unit["layer"]][1]
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(size=(256, 8))
        for offset in OFFSETS:
            x = (offset + noise).astype(np.float32)
            expected, _ = batch_norm_forward(x.astype(np.float64))
            yield {"seed": seed, "offset": offset, "relative": _distance(layer(x), expected)[1]}


def _measure_export(unit, seeds):
    for seed in seeds[:1]:  # an exporter rolls no dice
        case = make_case("conv", seed)
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        x = 3 * _tensor(case["test"])  # unlike the batches before it, so that the two modes differ
        with torch.no_grad():
            for batch in _tensor(case["batches"]):
                model.train()(batch)
            expected = {mode: copy.deepcopy(model).train(mode == "train")(x).numpy() for mode in ("eval", "train")}
        exported = export_onnx(model.train(unit["mode"] == "train"), x, unit["optimize"])
        answer = onnx_run(exported, x.numpy())
        yield {
            "seed": seed,
            "operators": onnx_operators(exported),
            "to eval": _distance(answer, expected["eval"])[1],
            "to train": _distance(answer, expected["train"])[1],
        }


# ---------------------------------------------------------------------------------------------------------------------
# What it says


def worst(result: Result, **where) -> float:
    """Return the largest relative difference from float64 among the parity rows selected, NaN where there is none."""
    rows = [row for row in result.select(kind="parity", installed=True, **where) if "relative" in row]
    return max((row["relative"] for row in rows), default=math.nan)


def per_seed(result: Result, **where) -> list[float]:
    """Return, for each seed, the largest relative difference from float64 among the parity rows selected."""
    return [worst(result, seed=seed, **where) for seed in result.seeds]


def plot(result: Result):
    """What each untranslated convention costs in Keras: one panel per network, one row per stage, log axis."""
    return plot_conventions(result, "keras" if result.select(framework="keras", installed=True) else "flax nnx")


def plot_conventions(result: Result, framework: str):
    """Relative difference from float64 of every stage and arm of one framework: a dot each, medians over the seeds."""
    import matplotlib.pyplot as plt

    looks = {
        "defaults": ("s", "C1"),
        "eps": ("^", "C2"),
        "momentum": ("D", "C3"),
        "variance": ("v", "C5"),
        "translated": ("o", "C0"),
    }
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
    for ax, network in zip(axes, NETWORKS, strict=True):
        for k, (arm, (marker, color)) in enumerate(looks.items()):
            for row, stage in enumerate(STAGES):
                where = {"framework": framework, "network": network, "arm": arm, "stage": stage}
                values = [v for v in per_seed(result, **where) if not math.isnan(v)]
                if values:
                    ax.plot(
                        np.median(values),
                        -row - 0.14 * (k - 2),
                        marker,
                        color=color,
                        ms=7,
                        label={"defaults": "own defaults", "translated": "translated"}.get(arm, f"{arm} only")
                        if row == 0
                        else None,
                    )
        ax.axvline(2.0**-24, color="black", lw=1, ls=":")
        ax.set(xscale="log", yticks=[-row for row in range(len(STAGES))], yticklabels=STAGES, title=network)
        ax.set_xlim(2e-8, 3)
    axes[1].set_xlabel("relative difference from float64")
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.4, -0.22), ncols=3)
    return figure


def plot_offsets(result: Result):
    """Error of the training output against the mean of the channel, in standard deviations: one line per layer."""
    import matplotlib.pyplot as plt

    looks = {
        "PyTorch": ("o-", "C0"),
        "onnxruntime": ("v-.", "C3"),
        "Flax, use_fast_variance=False": ("D:", "black"),
        "Flax": ("^--", "C2"),
        "Keras (torch)": ("s-", "C1"),
    }
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    for layer, (style, color) in looks.items():
        rows = result.select(kind="offset", layer=layer, installed=True)
        if not rows:
            continue
        errors = [np.median([row["relative"] for row in rows if row["offset"] == offset]) for offset in OFFSETS]
        errors = np.array(errors)
        places = np.array([offset or 1 for offset in OFFSETS])
        ax.loglog(places, np.where(np.isfinite(errors), errors, np.nan), style, color=color, label=layer)
        for place in places[~np.isfinite(errors)]:
            ax.plot(place, 100, "x", color=color, ms=12, mew=3)
            ax.annotate("NaN", (place, 100), xytext=(-12, -2), textcoords="offset points", ha="right", va="center")
    ax.set(xlabel="mean of the channel, in standard deviations", ylabel="relative error of the output")
    ax.set_xticks([1, 10, 100, 1_000, 10_000], ["0", "10", "100", "1,000", "10,000"])
    ax.set_ylim(1e-8, 3_000)
    ax.legend(loc="upper left", fontsize="small")
    return figure


def verdicts(result: Result) -> list[Verdict]:
    """Judge C22: one line of Keras is the same batch normalization.

    Compared are the training output, gradients, running statistics and evaluation output of both networks with float64,
    for Keras and for Flax where it is installed. With d the largest relative difference of a seed:

    - open, if Keras isn't installed;
    - refuted, if d exceeds `ROUNDING` after all conventions are translated;
    - holds, if d stays below `ROUNDING` with the framework's defaults, and the layer stays below 1 % at a mean of 1000
      standard deviations;
    - otherwise it holds with conditions.
    """
    what = "relative difference from PyTorch's conventions with the defaults of Keras, in the worst of five stages"
    if not result.select(kind="parity", framework="keras", installed=True):
        return [Verdict("C22", "open", None, what, "Keras is not installed here.")]
    others = [f for f in RUNNERS if f != "torch" and result.select(kind="parity", framework=f, installed=True)]
    before = Estimate.of(per_seed(result, framework="keras", arm="defaults"))
    after = max(worst(result, framework=f, arm="translated") for f in others)
    rows = result.select(kind="offset", layer="Keras (torch)", offset=1_000, installed=True)
    far = max((row["relative"] for row in rows), default=0.0)
    if not after < ROUNDING:
        verdict, because = "refuted", f"With all conventions translated, a difference of {after:.1e} is left."
    elif before.high < ROUNDING and far < 0.01:
        verdict, because = "holds", "Defaults and all, the frameworks agree to rounding."
    else:
        verdict = "conditions"
        because = (
            f"With momentum, eps and the variance translated, at most {after:.0e} is left in {', '.join(others)}; "
            f"but at a mean of 1000 standard deviations Keras on torch is off by {far:.0%}."
        )
    return [Verdict("C22", verdict, before, what, because)]
