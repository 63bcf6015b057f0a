"""`batch_norm` for torch tensors: what `torch.nn.functional.batch_norm` does, with a backend that can be chosen.

Here are the checks of the arguments, the running statistics and the connection to autograd. The arithmetic is in
`bnlab.backends`. For layers with parameters see `bnlab.modules`; for the same in NumPy, meant to be read, see
`bnlab.reference`.
"""

import math

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "this part of bnlab needs PyTorch, which is not installed here. Install it with: "
        'python -m pip install "torch>=2.11"   (bnlab.reference and bnlab.moments need NumPy alone.)',
        name="torch",
    ) from error

from bnlab.backends import choose, eager, use_backend

__all__ = ["batch_norm", "use_backend"]


def batch_norm(
    input,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    residual=None,
    relu=False,
):
    """Normalize each channel to mean 0 and variance 1, then scale it by `weight` and shift it by `bias`.

    A drop-in for `torch.nn.functional.batch_norm`: the same arguments, defaults, errors and effects on the running
    statistics. ``y = weight * (x - mean) / sqrt(var + eps) + bias``, per channel.

    What often comes next may be done in the same pass over memory: ``relu(batch_norm(x))``, or, at the end of a
    residual block, ``relu(batch_norm(x) + residual)``.

    Parameters
    ----------
    input : torch.Tensor, shape (N, C) or (N, C, ...)
        Batch of N examples with C features or channels: dense (N, C), signals (N, C, L), images (N, C, H, W), volumes
        (N, C, D, H, W). float64, float32, float16 or bfloat16, in any memory layout. It is not changed.
    running_mean, running_var : torch.Tensor of shape (C,), or both None
        Running statistics. In evaluation they normalize. In training they are updated in place:
        ``running = (1 - momentum) * running + momentum * batch``, with the *unbiased* variance of the batch (divided by
        m - 1, where m is the number of values per channel); None means nothing to update.
    weight, bias : torch.Tensor of shape (C,), or None
        gamma and beta of the paper; None stands for 1 and 0. Vectors have the dtype of `input`, or are all float32
        beside an input in half precision.
    training : bool
        True normalizes by the mean and the *biased* variance (divided by m) of this batch, and gradient flows through
        both. False normalizes by the running statistics, which are constants.
    momentum : float
        Weight of the new batch in the running statistics. Keras and Flax mean the complement, 1 - momentum.
    eps : float
        Added to the variance, inside the square root. Positive in training.
    residual : torch.Tensor, shape of `input`, or None
        Added to the result, in the dtype and on the device of `input`.
    relu : bool
        Whether negative results become 0, after the addition.

    Returns
    -------
    torch.Tensor, shape of `input`
        In the dtype of `input`; channels_last if `input` is, else contiguous.

    Raises
    ------
    ValueError
        In training, one value per channel (its variance is 0 and says nothing) or ``eps <= 0``; only one of
        the two running statistics; a negative `eps`; a residual of another shape than the input.
    RuntimeError
        Evaluation without running statistics; a vector whose length is not C; an input without a channel axis; dtypes
        or devices that do not go together; running statistics that require grad.
    NotImplementedError
        An integer, boolean, complex or sparse input.
    TypeError
        An argument that is not a tensor, a bool or a number where one is expected.

    Notes
    -----
    In half precision `residual` and `relu` see the result before it is rounded, so what comes out is a little closer to
    the truth than three operations are.

    An empty batch gives an empty output and leaves the running statistics alone.

    Derivatives of every order are right; second and higher ones go through plain torch operations whatever the
    backend. `torch.compile` traces the whole (``fullgraph=True``). Of the transforms in `torch.func`, reverse mode and
    `vmap` work, forward mode (`jvp`) raises: `torch.compile` refuses an autograd function that defines one.

    It differs from torch where torch 2.13 is wrong. On a CPU, torch sums channels_last input in float32 and loses the
    variance once the mean is a few thousand times the standard deviation. Its third derivatives treat the batch
    statistics as constants. And a gradient through evaluation comes out wrong if a training step moves the running
    statistics before it is taken.

    References
    ----------
    Ioffe & Szegedy (2015), Algorithms 1 and 2. https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    >>> running_mean, running_var = torch.zeros(2), torch.ones(2)
    >>> batch_norm(x, running_mean, running_var, training=True)
    tensor([[-1.0000, -1.0000],
            [ 1.0000,  1.0000]])
    >>> running_mean, running_var  # var = 0.9 * 1 + 0.1 * unbiased variance (2 and 200)
    (tensor([0.2000, 2.0000]), tensor([ 1.1000, 20.9000]))
    """
    _check_options(running_mean, running_var, training, momentum, eps)
    if not _are_usual(input, running_mean, running_var, weight, bias):
        _check_tensors(input, running_mean, running_var, weight, bias)
    if residual is not None:
        _check_residual(input, residual)
    if training and _values_per_channel(input) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}: the variance of one "
            "value is 0 and says nothing. Give a larger batch, or call .eval() to use the running statistics"
        )
    is_plain = not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()
    arguments = input, weight, bias, running_mean, running_var, training, momentum, eps, residual, bool(relu)
    return _Plain.apply(*arguments) if is_plain else _BatchNorm.apply(*arguments)[0]


class _BatchNorm(torch.autograd.Function):
    """Connects a backend to autograd. The second output and the third, the statistics used, have no gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, gamma, beta, running_mean, running_var, training, momentum, eps, residual, relu):
        if not training:
            # Copies, because a training step may move the running statistics before backward reads them.
            mean, var = running_mean.clone(), running_var.clone()
            backend = choose(x, gamma, beta, mean, var, residual)
            return backend.forward(x, gamma, beta, mean, var, eps, residual, relu)
        # Here, out of autograd's sight: no graph hangs on the running statistics, and torch.func.grad allows it.
        running = None if running_mean is None else (running_mean, running_var, momentum)
        backend = choose(x, gamma, beta, residual, running_mean, running_var)
        return backend.forward(x, gamma, beta, None, None, eps, residual, relu, running)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, gamma, beta, _, _, ctx.training, _, ctx.eps, residual, ctx.relu = inputs
        _, mean, var = output
        ctx.mark_non_differentiable(mean, var)
        ctx.has_residual = residual is not None
        for_relu = (beta, residual) if ctx.relu else ()
        ctx.save_for_backward(x, gamma, mean, var, *for_relu)

    @staticmethod
    def backward(ctx, dy, *_):
        x, gamma, mean, var, *for_relu = ctx.saved_tensors
        backend = choose(x, dy, gamma, mean, var, *for_relu)
        if torch.is_grad_enabled():  # create_graph=True: somebody will differentiate what follows
            backend = eager
            if ctx.training:  # the saved statistics have forgotten that they depend on x
                _, mean, var = eager.forward(x, None, None, None, None, ctx.eps)
        if ctx.relu:
            beta, residual = for_relu
            *grads, dresidual = backend.backward_relu(dy, x, gamma, beta, mean, var, ctx.eps, ctx.training, residual)
        else:
            grads = backend.backward(dy, x, gamma, mean, var, ctx.eps, ctx.training)
            dresidual = dy if ctx.has_residual else None
        dx, dgamma, dbeta = (g if needed else None for g, needed in zip(grads, ctx.needs_input_grad[:3], strict=True))
        return dx, dgamma, dbeta, None, None, None, None, None, dresidual, None


class _Plain(_BatchNorm):
    """The same in the form that neither `torch.func` nor `torch.compile` takes, and that is called in half the time.

    The statistics are no outputs here, so autograd makes no gradients of zeros for them.
    """

    generate_vmap_rule = False
    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx, x, gamma, beta, running_mean, running_var, training, momentum, eps, residual, relu):
        y, mean, var = _BatchNorm.forward(
            x, gamma, beta, running_mean, running_var, training, momentum, eps, residual, relu
        )
        ctx.training, ctx.eps, ctx.relu, ctx.has_residual = training, eps, relu, residual is not None
        if relu:
            ctx.save_for_backward(x, gamma, mean, var, beta, residual)
        else:
            ctx.save_for_backward(x, gamma, mean, var)
        return y


def _values_per_channel(x):
    """m of the paper: how many values each mean is taken over."""
    return math.prod(x.shape[2:], start=x.shape[0])


def _check_options(running_mean, running_var, training, momentum, eps):
    if not isinstance(training, bool):
        raise TypeError(f"batch_norm(): argument 'training' must be bool, not {type(training).__name__}")
    if momentum is None:
        raise TypeError(
            "batch_norm(): argument 'momentum' must be float, not NoneType. For a cumulative average give "
            "1 / (number of batches so far), as BatchNorm1d/2d/3d(momentum=None) do"
        )
    if training and eps <= 0:
        raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    if not training:
        for name, v in (("running_mean", running_mean), ("running_var", running_var)):
            if v is None:
                raise RuntimeError(
                    f"{name} must be defined in evaluation mode: give both running statistics, or training=True to "
                    "normalize by those of this batch"
                )
    if (running_mean is None) != (running_var is None):
        raise ValueError(
            "running_mean and running_var must either both be None or neither be None, but "
            f"{'running_mean' if running_mean is None else 'running_var'} alone is None"
        )


def _are_usual(x, running_mean, running_var, weight, bias):
    """Whether these are what a layer mostly gets, so that there is nothing to check: quick, as it is always asked."""
    if not (isinstance(x, torch.Tensor) and x.dtype == torch.float32 and x.layout == torch.strided and x.dim() > 1):
        return False
    shape, device = x.shape[1:2], x.device
    for v in (running_mean, running_var, weight, bias):
        if v is None:
            continue
        if not isinstance(v, torch.Tensor) or v.shape != shape or v.dtype != torch.float32 or v.device != device:
            return False
    return running_mean is None or not (running_mean.requires_grad or running_var.requires_grad)


def _check_tensors(x, running_mean, running_var, weight, bias):
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    vectors = {name: v for name, v in vectors.items() if v is not None}
    for name, v in {"input": x, **vectors}.items():
        if not isinstance(v, torch.Tensor):
            raise TypeError(f"batch_norm(): argument '{name}' must be Tensor, not {type(v).__name__}")
    if x.layout != torch.strided or x.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise NotImplementedError(
            f'"batch_norm" not implemented for {x.dtype} in {x.layout} layout: give a dense tensor of '
            "float64, float32, float16 or bfloat16"
        )
    if x.dim() < 2:
        raise RuntimeError(f"input has shape {tuple(x.shape)}, but batch_norm expects (N, C) or (N, C, ...)")
    for name, v in vectors.items():
        if v.shape != x.shape[1:2]:
            raise RuntimeError(
                f"{name} should contain {x.shape[1]} elements not {v.numel() if v.dim() == 1 else tuple(v.shape)}: the "
                f"input, of shape {tuple(x.shape)}, has {x.shape[1]} channels, and each needs one value"
            )
        if v.device != x.device:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but input is on {x.device} and {name} on {v.device}: "
                "move one with .to()"
            )
        if v.requires_grad and name.startswith("running") and torch.is_grad_enabled():
            raise RuntimeError(
                f"batch_norm is not differentiable with respect to argument '{name}'. This input cannot have "
                f"requires_grad True: give {name}.detach()"
            )
    dtypes = {v.dtype for v in vectors.values()}
    half = x.dtype in (torch.float16, torch.bfloat16)
    if dtypes not in (set(), {x.dtype}) and not (half and dtypes == {torch.float32}):
        raise RuntimeError(
            f"mixed dtype: input is {x.dtype}, but "
            + ", ".join(f"{name} is {v.dtype}" for name, v in vectors.items())
            + f". Give them all as {x.dtype}"
            + (" or all as torch.float32" if half else "")
        )


def _check_residual(x, residual):
    if not isinstance(residual, torch.Tensor):
        raise TypeError(f"batch_norm(): argument 'residual' must be Tensor, not {type(residual).__name__}")
    for what in ("shape", "dtype", "device"):
        given, expected = getattr(residual, what), getattr(x, what)
        if given != expected:
            given, expected = (tuple(v) if what == "shape" else v for v in (given, expected))
            raise ValueError(
                f"residual has {what} {given}, but the input has {expected}: they are added, give the same"
            )
