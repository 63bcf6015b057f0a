"""Batch normalization on a CPU in compiled loops, by numba (``pip install 'bnlab[fast]'``).

Time goes into memory here, not into arithmetic, so all is arranged to read memory once:

- Where channels are the outer axis (NCHW), one thread takes a channel from its statistics to its output. A channel of
  most networks fits into the second-level cache of a core, where the second pass finds it.
- Where channels are the innermost axis (channels_last, or plain features), threads take blocks of rows, and the second
  pass goes backwards, from what was read last.
- A ReLU, and the addition of a residual before it, happen where the output is written. Backward, what the ReLU let
  through is computed again rather than stored.

Both are accurate where a plain sum of squares is not: the moments of a block of values are taken about the mean of that
very block, in the dtype of the input, while the first-level cache still holds it; blocks are combined in float64 (Chan,
Golub & LeVeque, 1983, section 2). And x is centered by the mean as the dtype can hold it, which subtracts exactly; what
is left of the mean goes into the shift.

The loops run in threads of our own, as many as torch uses (`torch.get_num_threads`): numba's thread layers end the
process where two threads call them at once, or after a fork.
"""

import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import torch

BLOCK = 2048  # values whose moments are taken at once: they fit into a first-level cache, float32 sums them well
ROWS = 256  # rows at once where channels are innermost
TILE = 65536  # values at once there, at most: they fit into a second-level cache
GRAIN = 32768  # values below which a further thread costs more than it saves

# Sums may be reordered and multiplications fused; NaN and infinity stay what they are.
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})
_log = logging.getLogger("bnlab")


def forward(x, gamma, beta, mean, var, eps, residual=None, relu=False):
    """Normalize each channel, then scale and shift it; see `bnlab.backends.eager.forward`.

    Parameters
    ----------
    x : torch.Tensor, shape (N, C, ...)
        On the CPU, of a floating dtype; any memory layout.
    gamma, beta : torch.Tensor of shape (C,), or None
    mean, var : torch.Tensor of shape (C,), or both None
    eps : float
    residual : torch.Tensor, shape (N, C, ...), or None
    relu : bool

    Returns
    -------
    y : torch.Tensor, shape (N, C, ...)
    mean, var : torch.Tensor, shape (C,)
        In float64 for a float64 input, else in float32.
    """
    values, is_last = _values(x)
    channels, wide = x.shape[1], values.dtype
    y, out = _output(x, is_last)
    vectors = _vector(gamma, 1.0, channels), _vector(beta, 0.0, channels), eps
    more = (values, False) if residual is None else (_values(residual, is_last)[0], True)
    after = *more, -math.inf if not relu else 0.0, out
    if mean is not None:
        moments = _vector(mean, 0.0, channels), _vector(var, 1.0, channels)
        _run(_scale_last if is_last else _scale_first, values, is_last, *moments, *vectors, *after)
    else:
        moments = np.zeros(channels), np.zeros(channels)
        if is_last:
            _moments_of_columns(values, *moments)
            _run(_scale_last, values, True, *moments, *vectors, *after)
        elif values.size:
            _run(_forward_first, values, False, *moments, *vectors, *after)
    return _like(y, x), *(torch.from_numpy(moment.astype(wide)) for moment in moments)


def takes(x):
    """Whether the loops can read this tensor."""
    return x.device.type == "cpu"


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
    values, is_last = _values(x)
    above = _values(dy, is_last)[0]
    channels = x.shape[1]
    dx, out = _output(x, is_last)
    dgamma, dbeta = np.zeros(channels), np.zeros(channels)
    vectors = _vector(mean, 0.0, channels), _vector(var, 1.0, channels), _vector(gamma, 1.0, channels)
    # What the ReLU let through goes into `passed`, where it is asked for as the gradient of the residual.
    dresidual, more, passed = None, values, values
    if residual is not None:
        more = _values(residual, is_last)[0]
        dresidual, passed = _output(x, is_last)
    mask = _vector(beta, 0.0, channels), more, passed, relu, residual is not None
    if is_last:
        _backward_last(values, above, *vectors, eps, training, *mask, out, dgamma, dbeta)
    elif values.size:
        _run(_backward_first, values, False, above, *vectors, eps, training, *mask, out, dgamma, dbeta)
    wide = _numpy(mean).dtype
    vectors = (torch.from_numpy(v.astype(wide)) for v in (dgamma, dbeta))
    return _like(dx, x), *vectors, None if dresidual is None else _like(dresidual, x)


# --- tensors and arrays ----------------------------------------------------------------------------------------------


def _values(x, as_last=None):
    """The values of a tensor as an array of float32 or float64, without a copy where that can be.

    Shape (N, C, S) where channels are the outer axis; shape (N * S, C), and True, where they are the innermost one.
    """
    x = x.detach()
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    is_last = _has_channels_innermost(x) if as_last is None else as_last
    examples, channels, positions = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if is_last:
        return x.movedim(1, -1).contiguous().view(examples * positions, channels).numpy(), True
    return x.contiguous().view(examples, channels, positions).numpy(), False


def _has_channels_innermost(x):
    return x.dim() == 2 or (x.dim() >= 4 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous())


def _output(x, is_last):
    """A tensor for what comes out, float32 or float64, and its memory as an array like that of `_values`.

    It is made by torch, and is no view: a ReLU may work on it in place, which autograd forbids on views.
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = torch.empty_strided(x.shape, _strides(x.shape, is_last), dtype=wide)
    return y, _values(y, is_last)[0]


def _strides(shape, is_last):
    """The strides of a tensor without gaps, with channels innermost or in their place."""
    strides, step = [1] * len(shape), 1
    for axis in (1, *range(len(shape) - 1, 1, -1), 0) if is_last else range(len(shape) - 1, -1, -1):
        strides[axis] = step
        step *= max(1, shape[axis])
    return strides


def _like(y, x):
    """The output in the dtype of `x`; in channels_last also where `x` is that with gaps."""
    y = y.to(x.dtype)
    if x.dim() < 4 or x.stride(1) != 1 or y.stride(1) == 1:
        return y
    return torch.empty_strided(y.shape, _strides(y.shape, True), dtype=y.dtype).copy_(y)


def _vector(v, default, channels):
    return np.full(channels, default) if v is None else _numpy(v).astype(np.float64)


def _numpy(v):
    v = v.detach()
    return (v.float() if v.dtype in (torch.float16, torch.bfloat16) else v).numpy()


# --- threads ---------------------------------------------------------------------------------------------------------

_pool = None
_is_announced = False


def _forget_pool():
    """In a forked process: the threads have stayed in the other one."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _run(kernel, values, is_last, *arguments):
    """Call a kernel on parts of the channels (or of the rows, where those are innermost), one for each thread."""
    _in_parts(kernel, values.shape[0] if is_last else values.shape[1], values.size, values, *arguments)


def _in_parts(kernel, length, size, *arguments):
    """Call ``kernel(*arguments, first, last, part)`` for parts of a range, one for each thread."""
    global _pool
    parts = max(1, min(torch.get_num_threads(), length, size // GRAIN))
    _announce(kernel)
    if parts == 1:
        kernel(*arguments, 0, length, 0)
        return
    if _pool is None or _pool._max_workers < parts - 1:
        _pool = ThreadPoolExecutor(parts - 1, thread_name_prefix="bnlab")
    if not kernel.signatures:  # compile once, not in every thread
        kernel(*arguments, 0, 0, 0)
    bounds = [length * part // parts for part in range(parts + 1)]
    others = [_pool.submit(kernel, *arguments, *bounds[part : part + 2], part) for part in range(1, parts)]
    kernel(*arguments, *bounds[:2], 0)
    for each in others:
        each.result()


def _announce(kernel):
    """Say why a first call takes seconds, where numba's cache doesn't have the kernel yet."""
    global _is_announced
    if not kernel.signatures and not _is_announced:
        if not any(Path(kernel.stats.cache_path).glob(f"*.{kernel.__name__}-*.nbi")):
            _is_announced = True
            _log.warning("compiling loops for batch normalization: some seconds, once on this machine")


# --- channels outside: (N, C, S) -------------------------------------------------------------------------------------


@_compiled
def _moments_of_channel(x, c):
    """Mean and biased variance of x[:, c], in float64."""
    examples, _, positions = x.shape
    zero = x.dtype.type(0)
    count, mean, squares = 0.0, 0.0, 0.0
    width = min(positions, BLOCK)
    group = max(1, BLOCK // max(1, width))  # examples taken together where each has few positions
    for n0 in range(0, examples, group):
        n1 = min(n0 + group, examples)
        for s0 in range(0, positions, width):
            s1 = min(s0 + width, positions)
            size = (n1 - n0) * (s1 - s0)
            total = zero
            for n in range(n0, n1):
                row = x[n, c, s0:s1]
                for s in range(row.size):
                    total += row[s]
            center = x.dtype.type(total / size)
            first, second = zero, zero
            for n in range(n0, n1):
                row = x[n, c, s0:s1]
                for s in range(row.size):
                    d = row[s] - center
                    first += d
                    second += d * d
            rest = float(first) / size
            delta = float(center) + rest - mean
            share = size / (count + size)
            squares += float(second) - float(first) * rest + delta * delta * count * share
            mean += delta * share
            count += size
    return mean, max(squares / count, 0.0) if squares == squares else squares


@_compiled
def _line(mean, var, gamma, beta, eps, kind):
    """Center, scale and shift by which a channel is normalized: (x - center) * scale + shift."""
    k = gamma / math.sqrt(var + eps)
    center = kind(mean)
    return center, kind(k), kind(beta - (mean - float(center)) * k)


@_compiled
def _scale_channel(x, c, mean, var, gamma, beta, eps, more, has_more, least, y):
    """y[:, c] = gamma * (x[:, c] - mean) / sqrt(var + eps) + beta, and what follows; what was read last comes first."""
    center, scale, shift = _line(mean, var, gamma, beta, eps, x.dtype.type)
    least = x.dtype.type(least)
    for n in range(x.shape[0] - 1, -1, -1):
        row, added, out = x[n, c], more[n, c], y[n, c]
        if has_more:
            for s in range(row.size):
                v = (row[s] - center) * scale + shift + added[s]
                out[s] = least if v < least else v
        else:
            for s in range(row.size):
                v = (row[s] - center) * scale + shift
                out[s] = least if v < least else v


@_compiled
def _forward_first(x, mean, var, gamma, beta, eps, more, has_more, least, y, first, last, part):
    for c in range(first, last):
        mean[c], var[c] = _moments_of_channel(x, c)
        _scale_channel(x, c, mean[c], var[c], gamma[c], beta[c], eps, more, has_more, least, y)


@_compiled
def _scale_first(x, mean, var, gamma, beta, eps, more, has_more, least, y, first, last, part):
    for c in range(first, last):
        _scale_channel(x, c, mean[c], var[c], gamma[c], beta[c], eps, more, has_more, least, y)


@_compiled
def _let_through(row, from_above, added, has_more, center, scale, shift, out):
    """The gradient from above where (x - center) * scale + shift, and what was added, is positive; else 0."""
    zero = row.dtype.type(0)
    if has_more:
        for s in range(row.size):
            out[s] = zero if (row[s] - center) * scale + shift + added[s] <= zero else from_above[s]
    else:
        for s in range(row.size):
            out[s] = zero if (row[s] - center) * scale + shift <= zero else from_above[s]


@_compiled
def _backward_first(
    x, dy, mean, var, gamma, eps, training, beta, more, passed, relu, has_more, dx, dgamma, dbeta, first, last, part
):
    kind, zero = x.dtype.type, x.dtype.type(0)
    examples, _, positions = x.shape
    m = examples * positions
    some = np.empty(BLOCK, x.dtype)
    for c in range(first, last):
        center, slant, height = _line(mean[c], var[c], gamma[c], beta[c], eps, kind)
        inv_std = 1 / math.sqrt(var[c] + eps)
        above, along, away = 0.0, 0.0, 0.0
        for n in range(examples):
            for s0 in range(0, positions, BLOCK):
                s1 = min(s0 + BLOCK, positions)
                row, from_above = x[n, c, s0:s1], dy[n, c, s0:s1]
                if relu:
                    kept = passed[n, c, s0:s1] if has_more else some[: row.size]
                    _let_through(row, from_above, more[n, c, s0:s1], has_more, center, slant, height, kept)
                    from_above = kept
                a, b, d = zero, zero, zero
                for s in range(row.size):
                    centered = row[s] - center
                    a += from_above[s]
                    b += from_above[s] * centered
                    d += centered
                above += a
                along += b
                away += d
        # What the mean lost when it was rounded to the dtype: of this batch it is known, of running statistics given.
        rest = away / m if training else mean[c] - float(center)
        dbeta[c] = above
        dgamma[c] = (along - rest * above) * inv_std
        k = gamma[c] * inv_std
        u = -k * inv_std * dgamma[c] / m if training else 0.0
        v = -k * above / m - u * rest if training else 0.0
        scale, slope, shift = kind(k), kind(u), kind(v)
        for n in range(examples - 1, -1, -1):
            for s0 in range(0, positions, BLOCK):
                s1 = min(s0 + BLOCK, positions)
                row, from_above, out = x[n, c, s0:s1], dy[n, c, s0:s1], dx[n, c, s0:s1]
                if relu and has_more:
                    from_above = passed[n, c, s0:s1]
                elif relu:
                    _let_through(row, from_above, row, False, center, slant, height, some[: row.size])
                    from_above = some[: row.size]
                if training:
                    for s in range(row.size):
                        out[s] = from_above[s] * scale + ((row[s] - center) * slope + shift)
                else:
                    for s in range(row.size):
                        out[s] = from_above[s] * scale


# --- channels innermost: (rows, C) -----------------------------------------------------------------------------------


def _moments_of_columns(x, mean, var):
    """Put the mean and the biased variance of every column into `mean` and `var`."""
    rows, channels = x.shape
    if not rows:
        return
    parts = max(1, torch.get_num_threads())
    counts, means, squares = np.zeros(parts), np.zeros((parts, channels)), np.zeros((parts, channels))
    _in_parts(_moments_of_rows, rows, x.size, x, counts, means, squares)
    weights = counts[:, None] / rows
    mean[:] = (weights * means).sum(axis=0)
    var[:] = (squares.sum(axis=0) + (counts[:, None] * (means - mean) ** 2).sum(axis=0)) / rows


@_compiled
def _moments_of_rows(x, counts, means, squares, first, last, part):
    channels = x.shape[1]
    zero = x.dtype.type(0)
    mean, square, count = means[part], squares[part], 0.0
    total, center = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    sums, sums_of_squares = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    height = max(4, min(ROWS, TILE // max(1, channels)))
    for r0 in range(first, last, height):
        r1 = min(r0 + height, last)
        size = r1 - r0
        for c in range(channels):
            total[c] = zero
            sums[c] = zero
            sums_of_squares[c] = zero
        r = r0
        while r + 4 <= r1:
            r_0, r_1, r_2, r_3 = x[r], x[r + 1], x[r + 2], x[r + 3]
            for c in range(channels):
                total[c] += (r_0[c] + r_1[c]) + (r_2[c] + r_3[c])
            r += 4
        while r < r1:
            r_0 = x[r]
            for c in range(channels):
                total[c] += r_0[c]
            r += 1
        inverse = x.dtype.type(1 / size)
        for c in range(channels):
            center[c] = total[c] * inverse
        r = r0
        while r + 4 <= r1:
            r_0, r_1, r_2, r_3 = x[r], x[r + 1], x[r + 2], x[r + 3]
            for c in range(channels):
                d_0, d_1, d_2, d_3 = r_0[c] - center[c], r_1[c] - center[c], r_2[c] - center[c], r_3[c] - center[c]
                sums[c] += (d_0 + d_1) + (d_2 + d_3)
                sums_of_squares[c] += (d_0 * d_0 + d_1 * d_1) + (d_2 * d_2 + d_3 * d_3)
            r += 4
        while r < r1:
            r_0 = x[r]
            for c in range(channels):
                d_0 = r_0[c] - center[c]
                sums[c] += d_0
                sums_of_squares[c] += d_0 * d_0
            r += 1
        share = size / (count + size)
        for c in range(channels):
            rest = float(sums[c]) / size
            delta = float(center[c]) + rest - mean[c]
            square[c] += float(sums_of_squares[c]) - float(sums[c]) * rest + delta * delta * (count * share)
            mean[c] += delta * share
        count += size
    counts[part] = count


@_compiled
def _scale_last(x, mean, var, gamma, beta, eps, more, has_more, least, y, first, last, part):
    channels, kind = x.shape[1], x.dtype.type
    center, scale, shift = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for c in range(channels):
        center[c], scale[c], shift[c] = _line(mean[c], var[c], gamma[c], beta[c], eps, kind)
    least = kind(least)
    for r in range(last - 1, first - 1, -1):
        row, added, out = x[r], more[r], y[r]
        if has_more:
            for c in range(channels):
                v = (row[c] - center[c]) * scale[c] + shift[c] + added[c]
                out[c] = least if v < least else v
        else:
            for c in range(channels):
                v = (row[c] - center[c]) * scale[c] + shift[c]
                out[c] = least if v < least else v


def _backward_last(
    x, dy, mean, var, gamma, eps, training, beta, more, passed, relu, has_more, dx, dgamma, dbeta
):  # fmt: skip
    rows, channels = x.shape
    center = mean.astype(x.dtype)
    slant = gamma / np.sqrt(var + eps)
    height = beta - (mean - center) * slant
    mask = more, passed, relu, has_more, slant.astype(x.dtype), height.astype(x.dtype)
    sums = np.zeros((max(1, torch.get_num_threads()), 3, channels))
    if rows:
        _in_parts(_sums_of_rows, rows, x.size, x, dy, center, *mask, sums)
    above, along, away = sums.sum(axis=0)
    inv_std = 1 / np.sqrt(var + eps)
    rest = away / max(rows, 1) if training else mean - center
    dbeta[:] = above
    dgamma[:] = (along - rest * above) * inv_std
    k = gamma * inv_std
    u = -k * inv_std * dgamma / max(rows, 1) if training else np.zeros(channels)
    v = -k * above / max(rows, 1) - u * rest if training else np.zeros(channels)
    factors = (factor.astype(x.dtype) for factor in (k, u, v))
    _in_parts(_gradient_of_rows, rows, x.size, x, dy, center, *mask, *factors, training, dx)


@_compiled
def _let_through_row(row, from_above, added, has_more, center, slant, height, out):
    """The gradient from above of a row, as :func:`_let_through`; each channel has its own line."""
    zero = row.dtype.type(0)
    if has_more:
        for c in range(row.size):
            out[c] = zero if (row[c] - center[c]) * slant[c] + height[c] + added[c] <= zero else from_above[c]
    else:
        for c in range(row.size):
            out[c] = zero if (row[c] - center[c]) * slant[c] + height[c] <= zero else from_above[c]


@_compiled
def _sums_of_rows(x, dy, center, more, passed, relu, has_more, slant, height, sums, first, last, part):
    channels = x.shape[1]
    some = np.empty((2, channels), x.dtype)
    zero = x.dtype.type(0)
    a, b, d = np.empty(channels, x.dtype), np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    for r0 in range(first, last, ROWS):
        r1 = min(r0 + ROWS, last)
        for c in range(channels):
            a[c] = zero
            b[c] = zero
            d[c] = zero
        r = r0
        while r + 2 <= r1:
            x_0, x_1, g_0, g_1 = x[r], x[r + 1], dy[r], dy[r + 1]
            if relu:
                kept_0, kept_1 = (passed[r], passed[r + 1]) if has_more else (some[0], some[1])
                _let_through_row(x_0, g_0, more[r], has_more, center, slant, height, kept_0)
                _let_through_row(x_1, g_1, more[r + 1], has_more, center, slant, height, kept_1)
                g_0, g_1 = kept_0, kept_1
            for c in range(channels):
                d_0, d_1 = x_0[c] - center[c], x_1[c] - center[c]
                a[c] += g_0[c] + g_1[c]
                b[c] += g_0[c] * d_0 + g_1[c] * d_1
                d[c] += d_0 + d_1
            r += 2
        if r < r1:
            x_0, g_0 = x[r], dy[r]
            if relu:
                kept_0 = passed[r] if has_more else some[0]
                _let_through_row(x_0, g_0, more[r], has_more, center, slant, height, kept_0)
                g_0 = kept_0
            for c in range(channels):
                d_0 = x_0[c] - center[c]
                a[c] += g_0[c]
                b[c] += g_0[c] * d_0
                d[c] += d_0
        for c in range(channels):
            sums[part, 0, c] += a[c]
            sums[part, 1, c] += b[c]
            sums[part, 2, c] += d[c]


@_compiled
def _gradient_of_rows(
    x, dy, center, more, passed, relu, has_more, slant, height, scale, slope, shift, training, dx, first, last, part
):
    channels = x.shape[1]
    some = np.empty(channels, x.dtype)
    for r in range(last - 1, first - 1, -1):
        row, from_above, out = x[r], dy[r], dx[r]
        if relu and has_more:
            from_above = passed[r]
        elif relu:
            _let_through_row(row, from_above, row, False, center, slant, height, some)
            from_above = some
        if training:
            for c in range(channels):
                out[c] = from_above[c] * scale[c] + ((row[c] - center[c]) * slope[c] + shift[c])
        else:
            for c in range(channels):
                out[c] = from_above[c] * scale[c]
