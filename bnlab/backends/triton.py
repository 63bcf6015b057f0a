"""Batch normalization on a GPU, by Triton: few launches, and every byte moved as seldom as can be.

- *Small*: where all values of a channel fit into the registers of one program, x is read once and one launch does all.
- *Split*: else every channel is cut into parts, so that few channels still fill the chip. A first launch takes the
  moments (or, backward, the sums) of all parts. In a second one each program combines them for itself, and writes. It
  takes the parts in the opposite order: what was read last, and is still in the second-level cache, comes first.

Each has a kernel for channels outside (NCHW) and one for channels innermost (channels_last, plain features), because
neighboring threads must read neighboring values. The moments of a block are taken about its own mean, blocks and parts
are combined in float64 (Chan, Golub & LeVeque, 1983), and x is centered by the rounded mean, what is left of it going
into the shift: see `bnlab.backends.numba`, which does the same on a CPU.

With the environment variable TRITON_INTERPRET=1 the kernels run on a CPU, slowly: so they are tested where no GPU is.
"""

import math
import os

import torch
import triton
import triton.language as tl

from bnlab.backends.running import follow

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SMALL = 16384  # values of a channel that one program keeps in registers
BLOCK = 256 if INTERPRETED else 2048  # values that a program of a split kernel takes at once
TILE = (32, 32) if INTERPRETED else (64, 64)  # rows and channels at once, where channels are innermost
MOST_PARTS = 64
WAVES = 4  # programs for each multiprocessor


def forward(x, gamma, beta, mean, var, eps, residual=None, relu=False, running=None):
    """Normalize each channel, then scale and shift it; see `bnlab.backends.eager.forward`.

    Parameters
    ----------
    x : torch.Tensor, shape (N, C, ...)
        On a GPU, of a floating dtype; any memory layout.
    gamma, beta : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor of shape (C,), or both None
    eps : float
    residual : torch.Tensor, shape (N, C, ...), or None
    relu : bool
    running : (torch.Tensor of shape (C,), torch.Tensor of shape (C,), float), or None

    Returns
    -------
    y : torch.Tensor, shape (N, C, ...)
    mean, var : torch.Tensor, shape (C,)
        In float64 for a float64 input, else in float32.
    """
    x, is_last = _laid_out(x)
    y = torch.empty_like(x)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    training = mean is None
    if training:
        mean, var = (torch.zeros(x.shape[1], dtype=wide, device=x.device) for _ in range(2))
    else:
        mean, var = mean.to(wide), var.to(wide)
    if not x.numel():
        return y, mean, var
    sizes = _Sizes(x, is_last)
    more = x if residual is None else _laid_out(residual, is_last)[0]
    vectors = (*_line(x, gamma, beta), eps, more, residual is not None, relu)
    if training and sizes.is_small:
        _forward_small[(sizes.channels,)](
            x, y, mean, var, *vectors, sizes.channels, sizes.positions, sizes.values, sizes.padded, _accurate(x)
        )
        follow(running, mean, var, sizes.values)
        return y, mean, var
    moments = torch.empty((2, sizes.parts, sizes.channels), dtype=torch.float64, device=x.device) if training else mean
    if training:
        kernel = _moments_last if is_last else _moments_first
        kernel[sizes.grid](x, moments, sizes.channels, *sizes.layout, sizes.parts, _accurate(x))
    kernel = _scale_last if is_last else _scale_first
    kernel[sizes.grid](
        x, y, moments, mean, var, *vectors, sizes.channels, *sizes.layout, sizes.parts, training, _accurate(x)
    )
    follow(running, mean, var, sizes.values)
    return y, mean, var


def takes(x):
    """Whether the kernels can read this tensor."""
    return x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def backward(dy, x, gamma, mean, var, eps, training):
    """Gradients with respect to the input, the scale and the shift; see `bnlab.backends.eager.backward`.

    Parameters
    ----------
    dy, x : torch.Tensor, shape (N, C, ...)
    gamma : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor, shape (C,)
        As the forward pass returned them.
    eps : float
    training : bool

    Returns
    -------
    dx : torch.Tensor, shape (N, C, ...)
        In the dtype of `x`.
    dgamma, dbeta : torch.Tensor, shape (C,)
        In the dtype of `mean`.
    """
    return _backward(dy, x, gamma, None, mean, var, eps, training, None, relu=False)[:3]


def backward_relu(dy, x, gamma, beta, mean, var, eps, training, residual):
    """Gradients where a ReLU came after batch normalization; see `bnlab.backends.eager.backward_relu`.

    Parameters
    ----------
    dy, x : torch.Tensor, shape (N, C, ...)
    gamma, beta : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor, shape (C,)
    eps : float
    training : bool
    residual : torch.Tensor, shape (N, C, ...), or None

    Returns
    -------
    dx : torch.Tensor, shape (N, C, ...)
    dgamma, dbeta : torch.Tensor, shape (C,)
    dresidual : torch.Tensor, shape (N, C, ...), or None
    """
    return _backward(dy, x, gamma, beta, mean, var, eps, training, residual, relu=True)


def _backward(dy, x, gamma, beta, mean, var, eps, training, residual, relu):
    x, is_last = _laid_out(x)
    dy = _laid_out(dy, is_last)[0]
    dx, dgamma, dbeta = torch.empty_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
    # What the ReLU let through goes into `passed`, where it is asked for as the gradient of the residual.
    more, passed = (x, None) if residual is None else (_laid_out(residual, is_last)[0], torch.empty_like(x))
    if not x.numel():
        return dx, dgamma, dbeta, passed
    sizes = _Sizes(x, is_last)
    mask = (more, dx if passed is None else passed, residual is not None, relu)
    vectors = (mean, var, *_line(x, gamma, beta), eps, *mask)
    if sizes.is_small:
        _backward_small[(sizes.channels,)](
            x, dy, dx, *vectors, dgamma, dbeta,
            sizes.channels, sizes.positions, sizes.values, sizes.padded, training, _accurate(x),
        )  # fmt: skip
        return dx, dgamma, dbeta, passed
    sums = torch.empty((3, sizes.parts, sizes.channels), dtype=torch.float64, device=x.device)
    kernel = _sums_last if is_last else _sums_first
    kernel[sizes.grid](x, dy, sums, *vectors, sizes.channels, *sizes.layout, sizes.parts, _accurate(x))
    kernel = _gradient_last if is_last else _gradient_first
    kernel[sizes.grid](
        x, dy, dx, sums, *vectors, dgamma, dbeta, sizes.channels, *sizes.layout, sizes.parts, training, _accurate(x)
    )
    return dx, dgamma, dbeta, passed


class _Sizes:
    """How a tensor is cut into programs.

    Attributes
    ----------
    channels, positions, values : int
        C, positions of an example, and values of a channel.
    is_small : bool
        Whether a program can hold a channel.
    padded : int
        Values of a channel, rounded up to a power of two.
    parts : int
        Parts of a channel.
    grid : tuple of int
    layout : tuple
        What the split kernels ask: positions, values, values of a part, block; or rows, rows of a part, tile.
    """

    def __init__(self, x, is_last):
        self.channels, self.positions = x.shape[1], math.prod(x.shape[2:])
        self.values = x.shape[0] * self.positions
        self.padded = triton.next_power_of_2(self.values)
        self.is_small = not is_last and self.values <= (512 if INTERPRETED else SMALL)
        height, width = TILE if is_last else (BLOCK, 1)
        columns = triton.cdiv(self.channels, width)
        wanted = triton.cdiv(WAVES * _multiprocessors(x), columns)
        self.parts = max(1, min(wanted, MOST_PARTS, triton.cdiv(self.values, height)))
        share = triton.cdiv(triton.cdiv(self.values, self.parts), height) * height
        self.parts = triton.cdiv(self.values, share)
        self.grid = (columns, self.parts)
        self.layout = (self.values, share, height, width) if is_last else (self.positions, self.values, share, height)


def _multiprocessors(x):
    return 8 if INTERPRETED else torch.cuda.get_device_properties(x.device).multi_processor_count


def _line(x, gamma, beta):
    """Scale and shift for a kernel, some tensor in their place where there are none; and which of them there are."""
    return gamma if gamma is not None else x, beta if beta is not None else x, gamma is not None, beta is not None


def _accurate(x):
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _laid_out(x, is_last=None):
    """The tensor, copied unless its channels are the innermost axis or, contiguous, an outer one; and which it is."""
    x = x.detach()
    if is_last is None:
        inside = x.dim() >= 4 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
        is_last = inside or x.dim() == 2
        if not is_last and x.dim() >= 4 and x.stride(1) == 1 and not x.is_contiguous():
            is_last = True  # the output has its channels innermost, whatever gaps there are in x
    return (x.movedim(1, -1).contiguous().movedim(-1, 1) if is_last else x.contiguous()), is_last


def _tuned(*key):
    """Let Triton try how many warps a program should have, once for each of these sizes; the interpreter has no warps.

    A trial runs the kernel again on the same tensors: none of ours reads what it writes.
    """
    if INTERPRETED:
        return lambda kernel: kernel
    return triton.autotune([triton.Config({}, num_warps=warps) for warps in (4, 8, 16)], key=list(key))


# --- in every kernel -------------------------------------------------------------------------------------------------


@triton.jit
def _moments_of_block(v, mask, size, accurate: tl.constexpr):
    """Mean and sum of squares about it, in float64, of a block along axis 0; `v` is 0 where it is masked."""
    center = (tl.sum(v, axis=0).to(tl.float64) / size).to(accurate)
    d = tl.where(mask, v - center, 0.0)
    first = tl.sum(d, axis=0).to(tl.float64)
    second = tl.sum(d * d, axis=0).to(tl.float64)
    rest = first / size
    return center.to(tl.float64) + rest, second - first * rest


@triton.jit
def _joined(mean, square, count, block_mean, block_square, size):
    """Moments of two sets of values together."""
    delta = block_mean - mean
    share = size / (count + size)
    return mean + delta * share, square + block_square + delta * delta * (count * share), count + size


@triton.jit
def _scaling(
    mean, var, gamma, beta, eps, c, is_channel, has_gamma: tl.constexpr, has_beta: tl.constexpr, accurate: tl.constexpr
):
    """Center, scale and shift in the dtype in which x is computed, by moments in float64."""
    k = 1.0 / tl.sqrt(var + eps)
    if has_gamma:
        k = k * tl.load(gamma + c, mask=is_channel, other=1.0).to(tl.float64)
    center = mean.to(accurate)
    shift = -(mean - center.to(tl.float64)) * k
    if has_beta:
        shift = shift + tl.load(beta + c, mask=is_channel, other=0.0).to(tl.float64)
    return center, k.to(accurate), shift.to(accurate)


@triton.jit
def _slopes(
    above, along, away, mean, var, gamma, eps, m, c, is_channel,
    has_gamma: tl.constexpr, training: tl.constexpr, accurate: tl.constexpr,
):  # fmt: skip
    """Gradient to gamma, and the factors of dx = k dy + u (x - center) + v, by sums in float64."""
    inv_std = 1.0 / tl.sqrt(var + eps)
    rest = mean - mean.to(accurate).to(tl.float64)
    if training:
        rest = away / m
    dgamma = (along - rest * above) * inv_std
    k = inv_std
    if has_gamma:
        k = k * tl.load(gamma + c, mask=is_channel, other=1.0).to(tl.float64)
    u = -k * inv_std * dgamma / m
    v = -k * above / m - u * rest
    if not training:
        u = u * 0.0
        v = v * 0.0
    return dgamma, k.to(accurate), u.to(accurate), v.to(accurate)


@triton.jit
def _finished(v, more, place, mask, has_more: tl.constexpr, relu: tl.constexpr, accurate: tl.constexpr):
    """What follows batch normalization: the addition of a residual, a ReLU."""
    if has_more:
        v = v + tl.load(more + place, mask=mask, other=0.0).to(accurate)
    if relu:
        v = tl.where(v <= 0.0, 0.0, v)
    return v


@triton.jit
def _let_through(
    g, d, scale, shift, more, place, mask, has_more: tl.constexpr, relu: tl.constexpr, accurate: tl.constexpr
):
    """The gradient from above where a ReLU let something through, computed again from d = x - center."""
    if relu:
        g = tl.where(_finished(d * scale + shift, more, place, mask, has_more, False, accurate) <= 0.0, 0.0, g)
    return g


# --- small: a program has a channel ----------------------------------------------------------------------------------


@triton.jit
def _places(c, m, channels, positions):
    """Where the values of a channel lie, channels outside."""
    return (m // positions).to(tl.int64) * (channels * positions) + c * positions + m % positions


@_tuned("channels", "positions", "values")
@triton.jit
def _forward_small(
    x, y, mean_out, var_out, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, has_more: tl.constexpr, relu: tl.constexpr,
    channels, positions, values, padded: tl.constexpr, accurate: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0)
    m = tl.arange(0, padded)
    mask = m < values
    place = _places(c, m, channels, positions)
    v = tl.load(x + place, mask=mask, other=0.0).to(accurate)
    size = values.to(tl.float64)
    mean, square = _moments_of_block(v, mask, size, accurate)
    var = square / size
    tl.store(mean_out + c, mean)
    tl.store(var_out + c, var)
    center, scale, shift = _scaling(mean, var, gamma, beta, eps, c, c >= 0, has_gamma, has_beta, accurate)
    v = _finished((v - center) * scale + shift, more, place, mask, has_more, relu, accurate)
    tl.store(y + place, v, mask=mask)


@_tuned("channels", "positions", "values")
@triton.jit
def _backward_small(
    x, dy, dx, mean, var, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, passed, has_more: tl.constexpr, relu: tl.constexpr, dgamma_out, dbeta_out,
    channels, positions, values, padded: tl.constexpr, training: tl.constexpr, accurate: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0)
    m = tl.arange(0, padded)
    mask = m < values
    place = _places(c, m, channels, positions)
    mu, sigma = tl.load(mean + c).to(tl.float64), tl.load(var + c).to(tl.float64)
    g = tl.load(dy + place, mask=mask, other=0.0).to(accurate)
    d = tl.where(mask, tl.load(x + place, mask=mask, other=0.0).to(accurate) - mu.to(accurate), 0.0)
    _, scale, shift = _scaling(mu, sigma, gamma, beta, eps, c, c >= 0, has_gamma, has_beta, accurate)
    g = _let_through(g, d, scale, shift, more, place, mask, has_more, relu, accurate)
    if has_more:
        tl.store(passed + place, g, mask=mask)
    above, along = tl.sum(g, axis=0).to(tl.float64), tl.sum(g * d, axis=0).to(tl.float64)
    away = tl.sum(d, axis=0).to(tl.float64)
    size = values.to(tl.float64)
    dgamma, k, u, v = _slopes(above, along, away, mu, sigma, gamma, eps, size, c, c >= 0, has_gamma, training, accurate)
    tl.store(dgamma_out + c, dgamma)
    tl.store(dbeta_out + c, above)
    tl.store(dx + place, g * k + (d * u + v), mask=mask)


# --- split, channels outside -----------------------------------------------------------------------------------------


@_tuned("channels", "positions", "values")
@triton.jit
def _moments_first(x, moments, channels, positions, values, share, block: tl.constexpr, parts, accurate: tl.constexpr):
    c, part = tl.program_id(0), tl.program_id(1)
    start = part * share
    stop = tl.minimum(start + share, values)
    mean, square, count = tl.full((), 0, tl.float64), tl.full((), 0, tl.float64), tl.full((), 0, tl.float64)
    for m0 in range(start, stop, block):
        m = m0 + tl.arange(0, block)
        mask = m < stop
        v = tl.load(x + _places(c, m, channels, positions), mask=mask, other=0.0).to(accurate)
        size = tl.minimum(stop - m0, block).to(tl.float64)
        block_mean, block_square = _moments_of_block(v, mask, size, accurate)
        mean, square, count = _joined(mean, square, count, block_mean, block_square, size)
    tl.store(moments + part * channels + c, mean)
    tl.store(moments + (parts + part) * channels + c, square)


@triton.jit
def _of_all_parts(moments, channels, c, is_channel, values, share, parts):
    """Mean and variance of channels, by the moments of their parts."""
    mean, square, count = (c * 0).to(tl.float64), (c * 0).to(tl.float64), tl.full((), 0, tl.float64)
    for part in range(parts):
        size = tl.minimum(values - part * share, share).to(tl.float64)
        part_mean = tl.load(moments + part * channels + c, mask=is_channel, other=0.0)
        part_square = tl.load(moments + (parts + part) * channels + c, mask=is_channel, other=0.0)
        mean, square, count = _joined(mean, square, count, part_mean, part_square, size)
    return mean, square / count


@_tuned("channels", "positions", "values")
@triton.jit
def _scale_first(
    x, y, moments, mean_out, var_out, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, has_more: tl.constexpr, relu: tl.constexpr,
    channels, positions, values, share, block: tl.constexpr, parts, training: tl.constexpr, accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0), parts - 1 - tl.program_id(1)
    if training:
        mean, var = _of_all_parts(moments, channels, c, c >= 0, values, share, parts)
        if part == 0:
            tl.store(mean_out + c, mean)
            tl.store(var_out + c, var)
    else:
        mean, var = tl.load(mean_out + c).to(tl.float64), tl.load(var_out + c).to(tl.float64)
    center, scale, shift = _scaling(mean, var, gamma, beta, eps, c, c >= 0, has_gamma, has_beta, accurate)
    start = part * share
    stop = tl.minimum(start + share, values)
    for m0 in range(start, stop, block):
        m = m0 + tl.arange(0, block)
        mask = m < stop
        place = _places(c, m, channels, positions)
        v = tl.load(x + place, mask=mask, other=0.0).to(accurate)
        v = _finished((v - center) * scale + shift, more, place, mask, has_more, relu, accurate)
        tl.store(y + place, v, mask=mask)


@_tuned("channels", "positions", "values")
@triton.jit
def _sums_first(
    x, dy, sums, mean, var, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, passed, has_more: tl.constexpr, relu: tl.constexpr,
    channels, positions, values, share, block: tl.constexpr, parts, accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0), tl.program_id(1)
    start = part * share
    stop = tl.minimum(start + share, values)
    mu, sigma = tl.load(mean + c).to(tl.float64), tl.load(var + c).to(tl.float64)
    center, scale, shift = _scaling(mu, sigma, gamma, beta, eps, c, c >= 0, has_gamma, has_beta, accurate)
    a, b, away = tl.zeros((block,), accurate), tl.zeros((block,), accurate), tl.zeros((block,), accurate)
    for m0 in range(start, stop, block):
        m = m0 + tl.arange(0, block)
        mask = m < stop
        place = _places(c, m, channels, positions)
        g = tl.load(dy + place, mask=mask, other=0.0).to(accurate)
        d = tl.where(mask, tl.load(x + place, mask=mask, other=0.0).to(accurate) - center, 0.0)
        g = _let_through(g, d, scale, shift, more, place, mask, has_more, relu, accurate)
        if has_more:
            tl.store(passed + place, g, mask=mask)
        a += g
        b += g * d
        away += d
    tl.store(sums + part * channels + c, tl.sum(a, axis=0).to(tl.float64))
    tl.store(sums + (parts + part) * channels + c, tl.sum(b, axis=0).to(tl.float64))
    tl.store(sums + (2 * parts + part) * channels + c, tl.sum(away, axis=0).to(tl.float64))


@triton.jit
def _sum_of_all_parts(sums, which, channels, c, is_channel, parts):
    total = (c * 0).to(tl.float64)
    for part in range(parts):
        total += tl.load(sums + (which * parts + part) * channels + c, mask=is_channel, other=0.0)
    return total


@_tuned("channels", "positions", "values")
@triton.jit
def _gradient_first(
    x, dy, dx, sums, mean, var, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, passed, has_more: tl.constexpr, relu: tl.constexpr, dgamma_out, dbeta_out,
    channels, positions, values, share, block: tl.constexpr, parts, training: tl.constexpr, accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0), parts - 1 - tl.program_id(1)
    above = _sum_of_all_parts(sums, 0, channels, c, c >= 0, parts)
    along = _sum_of_all_parts(sums, 1, channels, c, c >= 0, parts)
    away = _sum_of_all_parts(sums, 2, channels, c, c >= 0, parts)
    mu, sigma = tl.load(mean + c).to(tl.float64), tl.load(var + c).to(tl.float64)
    dgamma, k, u, v = _slopes(
        above, along, away, mu, sigma, gamma, eps, values.to(tl.float64), c, c >= 0, has_gamma, training, accurate
    )
    if part == 0:
        tl.store(dgamma_out + c, dgamma)
        tl.store(dbeta_out + c, above)
    center, scale, shift = _scaling(mu, sigma, gamma, beta, eps, c, c >= 0, has_gamma, has_beta, accurate)
    start = part * share
    stop = tl.minimum(start + share, values)
    for m0 in range(start, stop, block):
        m = m0 + tl.arange(0, block)
        mask = m < stop
        place = _places(c, m, channels, positions)
        d = tl.load(x + place, mask=mask, other=0.0).to(accurate) - center
        if has_more:
            g = tl.load(passed + place, mask=mask, other=0.0).to(accurate)
        else:
            g = tl.load(dy + place, mask=mask, other=0.0).to(accurate)
            g = _let_through(g, d, scale, shift, more, place, mask, False, relu, accurate)
        tl.store(dx + place, g * k + (d * u + v), mask=mask)


# --- split, channels innermost ---------------------------------------------------------------------------------------


@_tuned("channels", "rows")
@triton.jit
def _moments_last(
    x, moments, channels, rows, share, height: tl.constexpr, width: tl.constexpr, parts, accurate: tl.constexpr
):
    c, part = tl.program_id(0) * width + tl.arange(0, width), tl.program_id(1)
    is_channel = c < channels
    start = part * share
    stop = tl.minimum(start + share, rows)
    mean, square, count = (c * 0).to(tl.float64), (c * 0).to(tl.float64), tl.full((), 0, tl.float64)
    for r0 in range(start, stop, height):
        r = r0 + tl.arange(0, height)
        mask = (r < stop)[:, None] & is_channel[None, :]
        v = tl.load(x + r.to(tl.int64)[:, None] * channels + c[None, :], mask=mask, other=0.0).to(accurate)
        size = tl.minimum(stop - r0, height).to(tl.float64)
        block_mean, block_square = _moments_of_block(v, mask, size, accurate)
        mean, square, count = _joined(mean, square, count, block_mean, block_square, size)
    tl.store(moments + part * channels + c, mean, mask=is_channel)
    tl.store(moments + (parts + part) * channels + c, square, mask=is_channel)


@_tuned("channels", "rows")
@triton.jit
def _scale_last(
    x, y, moments, mean_out, var_out, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, has_more: tl.constexpr, relu: tl.constexpr,
    channels, rows, share, height: tl.constexpr, width: tl.constexpr, parts, training: tl.constexpr,
    accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0) * width + tl.arange(0, width), parts - 1 - tl.program_id(1)
    is_channel = c < channels
    if training:
        mean, var = _of_all_parts(moments, channels, c, is_channel, rows, share, parts)
        if part == 0:
            tl.store(mean_out + c, mean, mask=is_channel)
            tl.store(var_out + c, var, mask=is_channel)
    else:
        mean = tl.load(mean_out + c, mask=is_channel, other=0.0).to(tl.float64)
        var = tl.load(var_out + c, mask=is_channel, other=1.0).to(tl.float64)
    center, scale, shift = _scaling(mean, var, gamma, beta, eps, c, is_channel, has_gamma, has_beta, accurate)
    start = part * share
    stop = tl.minimum(start + share, rows)
    for r0 in range(start, stop, height):
        r = r0 + tl.arange(0, height)
        mask = (r < stop)[:, None] & is_channel[None, :]
        place = r.to(tl.int64)[:, None] * channels + c[None, :]
        v = tl.load(x + place, mask=mask, other=0.0).to(accurate)
        v = _finished((v - center) * scale + shift, more, place, mask, has_more, relu, accurate)
        tl.store(y + place, v, mask=mask)


@_tuned("channels", "rows")
@triton.jit
def _sums_last(
    x, dy, sums, mean, var, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, passed, has_more: tl.constexpr, relu: tl.constexpr,
    channels, rows, share, height: tl.constexpr, width: tl.constexpr, parts, accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0) * width + tl.arange(0, width), tl.program_id(1)
    is_channel = c < channels
    start = part * share
    stop = tl.minimum(start + share, rows)
    mu = tl.load(mean + c, mask=is_channel, other=0.0).to(tl.float64)
    sigma = tl.load(var + c, mask=is_channel, other=1.0).to(tl.float64)
    center, scale, shift = _scaling(mu, sigma, gamma, beta, eps, c, is_channel, has_gamma, has_beta, accurate)
    above, along, away = (c * 0).to(tl.float64), (c * 0).to(tl.float64), (c * 0).to(tl.float64)
    for r0 in range(start, stop, height):
        r = r0 + tl.arange(0, height)
        mask = (r < stop)[:, None] & is_channel[None, :]
        place = r.to(tl.int64)[:, None] * channels + c[None, :]
        g = tl.load(dy + place, mask=mask, other=0.0).to(accurate)
        d = tl.where(mask, tl.load(x + place, mask=mask, other=0.0).to(accurate) - center, 0.0)
        g = _let_through(g, d, scale, shift, more, place, mask, has_more, relu, accurate)
        if has_more:
            tl.store(passed + place, g, mask=mask)
        above += tl.sum(g, axis=0).to(tl.float64)
        along += tl.sum(g * d, axis=0).to(tl.float64)
        away += tl.sum(d, axis=0).to(tl.float64)
    tl.store(sums + part * channels + c, above, mask=is_channel)
    tl.store(sums + (parts + part) * channels + c, along, mask=is_channel)
    tl.store(sums + (2 * parts + part) * channels + c, away, mask=is_channel)


@_tuned("channels", "rows")
@triton.jit
def _gradient_last(
    x, dy, dx, sums, mean, var, gamma, beta, has_gamma: tl.constexpr, has_beta: tl.constexpr, eps,
    more, passed, has_more: tl.constexpr, relu: tl.constexpr, dgamma_out, dbeta_out,
    channels, rows, share, height: tl.constexpr, width: tl.constexpr, parts, training: tl.constexpr,
    accurate: tl.constexpr,
):  # fmt: skip
    c, part = tl.program_id(0) * width + tl.arange(0, width), parts - 1 - tl.program_id(1)
    is_channel = c < channels
    above = _sum_of_all_parts(sums, 0, channels, c, is_channel, parts)
    along = _sum_of_all_parts(sums, 1, channels, c, is_channel, parts)
    away = _sum_of_all_parts(sums, 2, channels, c, is_channel, parts)
    mu = tl.load(mean + c, mask=is_channel, other=0.0).to(tl.float64)
    sigma = tl.load(var + c, mask=is_channel, other=1.0).to(tl.float64)
    dgamma, k, u, v = _slopes(
        above, along, away, mu, sigma, gamma, eps, rows.to(tl.float64), c, is_channel, has_gamma, training, accurate
    )
    if part == 0:
        tl.store(dgamma_out + c, dgamma, mask=is_channel)
        tl.store(dbeta_out + c, above, mask=is_channel)
    center, scale, shift = _scaling(mu, sigma, gamma, beta, eps, c, is_channel, has_gamma, has_beta, accurate)
    start = part * share
    stop = tl.minimum(start + share, rows)
    for r0 in range(start, stop, height):
        r = r0 + tl.arange(0, height)
        mask = (r < stop)[:, None] & is_channel[None, :]
        place = r.to(tl.int64)[:, None] * channels + c[None, :]
        d = tl.load(x + place, mask=mask, other=0.0).to(accurate) - center
        if has_more:
            g = tl.load(passed + place, mask=mask, other=0.0).to(accurate)
        else:
            g = tl.load(dy + place, mask=mask, other=0.0).to(accurate)
            g = _let_through(g, d, scale, shift, more, place, mask, False, relu, accurate)
        tl.store(dx + place, g * k + (d * u + v), mask=mask)
