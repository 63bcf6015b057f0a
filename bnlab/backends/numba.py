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

The loops run in torch's threads, as many as it uses (`torch.get_num_threads`); see `bnlab.backends.threads`. All of
them read one *job*, a record of sizes, numbers and addresses, and each takes the next part until none is left.
"""

import ctypes
import functools
import logging
import math
from pathlib import Path

import numba
import numpy as np
import torch

from bnlab.backends import threads
from bnlab.backends.threads import pointer, take

BLOCK = 2048  # values whose moments are taken at once: they fit into a first-level cache, float32 sums them well
ROWS = 256  # values that are summed in the dtype of the input, at most, before that goes into a float64 sum
LONG = 2048  # values of rows that are taken together
TILE = 65536  # values at once there, at most: they fit into a second-level cache
GRAIN = 16384  # values below which a further thread costs more than it saves
PARTS = 4  # for each thread, where channels are outside: who is done early takes over from the others

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
    job = {
        "x": values,
        "y": out,
        "gamma": _vector(gamma, 1.0, channels),
        "beta": _vector(beta, 0.0, channels),
        "eps": eps,
    }
    job["least"] = 0.0 if relu else -math.inf
    if residual is not None:
        job |= {"more": _values(residual, is_last)[0], "has_more": True}
    training = mean is None
    if training:
        mean, var = np.zeros(channels), np.zeros(channels)
        if is_last and values.size:
            _moments_of_columns(values, mean, var)
    else:
        mean, var = _vector(mean, 0.0, channels), _vector(var, 1.0, channels)
    if values.size:
        name = "scale_last" if is_last else "forward_first" if training else "scale_first"
        _run(name, values, is_last, mean=mean, var=var, **job)
    return _like(y, x), *(torch.from_numpy(moment.astype(wide)) for moment in (mean, var))


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
    job = {"x": values, "dy": above, "y": out, "dgamma": dgamma, "dbeta": dbeta, "eps": eps, "training": training}
    job |= {"mean": _vector(mean, 0.0, channels), "var": _vector(var, 1.0, channels)}
    job |= {"gamma": _vector(gamma, 1.0, channels), "beta": _vector(beta, 0.0, channels), "relu": relu}
    dresidual = None
    if residual is not None:  # what the ReLU let through is its gradient
        dresidual, passed = _output(x, is_last)
        job |= {"more": _values(residual, is_last)[0], "passed": passed, "has_more": True}
    if values.size and is_last:
        _backward_last(**job)
    elif values.size:
        _run("backward_first", values, False, **job)
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


# --- jobs for threads ------------------------------------------------------------------------------------------------

_FIELDS = [(name, "i8") for name in ("taken", "address", "parts", "length", "examples", "channels", "positions")]
_FIELDS += [(name, "f8") for name in ("eps", "least")]
_FIELDS += [(name, "i8") for name in ("training", "relu", "has_more")]
# addresses: of arrays in the dtype of the input, and of arrays in float64
_FIELDS += [(name, "i8") for name in "x dy y more passed center slant height scale slope shift".split()]
_FIELDS += [(name, "i8") for name in "mean var gamma beta dgamma dbeta counts means squares sums".split()]


class _Job(ctypes.Structure):
    """What all threads read."""

    _fields_ = [(name, ctypes.c_double if kind == "f8" else ctypes.c_int64) for name, kind in _FIELDS]


def _run(name, values, is_last, parts=None, **job):
    """Let threads do a job by the entry of this name, in parts of the channels, or of the rows if `is_last`."""
    examples, channels = values.shape[:2]
    length = examples if is_last else channels
    count = max(1, min(torch.get_num_threads(), length, values.size // GRAIN))
    job = {key: value.ctypes.data if isinstance(value, np.ndarray) else value for key, value in job.items()}
    for key in ("more", "passed"):
        job.setdefault(key, job["x"])  # something that can be pointed at
    record = _Job(
        parts=parts or min(length, count if is_last else count * PARTS),
        length=length,
        examples=examples,
        channels=channels,
        positions=1 if is_last else values.shape[2],
        **job,
    )
    record.address = ctypes.addressof(record)
    threads.run(*_entry(name, values.dtype.type), record.address, count)


_is_announced = False


@functools.cache
def _entry(name, dtype):
    """The C function that does a job's parts until none is left, compiled for a dtype; and its address."""
    global _is_announced
    make = globals()[f"_do_{name}"]
    if not _is_announced and not any(Path(_line.stats.cache_path).glob(f"*{name}-*.nbi")):
        _is_announced = True
        _log.warning("compiling loops for batch normalization: some seconds, once on this machine")
    job = numba.types.CPointer(numba.from_dtype(np.dtype(_FIELDS)))
    compiled = numba.cfunc(numba.void(job), cache=True)(make(dtype))
    return compiled.ctypes, compiled.address


@numba.njit
def _next(job):
    """The next part: its first place, the one behind its last, and its number, which is -1 where none is left."""
    part = take(job.address)  # at a job's address stands how many parts are taken
    if part >= job.parts:
        return 0, 0, -1
    return job.length * part // job.parts, job.length * (part + 1) // job.parts, part


@numba.njit
def _values_at(address, job, kind):
    return numba.carray(pointer(address), (job.examples, job.channels, job.positions), kind)


@numba.njit
def _rows_at(address, job, kind):
    return numba.carray(pointer(address), (job.examples, job.channels), kind)


@numba.njit
def _channels_at(address, job, kind):
    return numba.carray(pointer(address), (job.channels,), kind)


# --- channels outside: (N, C, S) -------------------------------------------------------------------------------------


# The innermost loops are functions of rows: so the compiler sees that no index is negative, and uses vectors.


@_compiled
def _sum_of_row(row):
    total = row.dtype.type(0)
    for s in range(row.size):
        total += row[s]
    return total


@_compiled
def _moments_of_row(row, center):
    first, second = row.dtype.type(0), row.dtype.type(0)
    for s in range(row.size):
        d = row[s] - center
        first += d
        second += d * d
    return first, second


@_compiled
def _scale_row(row, center, scale, shift, least, out):
    for s in range(row.size):
        v = (row[s] - center) * scale + shift
        out[s] = least if v < least else v


@_compiled
def _scale_and_add_row(row, added, center, scale, shift, least, out):
    for s in range(row.size):
        v = (row[s] - center) * scale + shift + added[s]
        out[s] = least if v < least else v


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
                total += _sum_of_row(x[n, c, s0:s1])
            center = x.dtype.type(total / size)
            first, second = zero, zero
            for n in range(n0, n1):
                a, b = _moments_of_row(x[n, c, s0:s1], center)
                first += a
                second += b
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
def _scale_channel(x, c, line, more, has_more, least, y):
    """y[:, c] = gamma * (x[:, c] - mean) / sqrt(var + eps) + beta, and what follows; what was read last comes first."""
    center, scale, shift = line
    least = x.dtype.type(least)
    for n in range(x.shape[0] - 1, -1, -1):
        if has_more:
            _scale_and_add_row(x[n, c], more[n, c], center, scale, shift, least, y[n, c])
        else:
            _scale_row(x[n, c], center, scale, shift, least, y[n, c])


def _do_forward_first(kind):
    def forward_first(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = (_values_at(job.x, job, kind), _values_at(job.y, job, kind), _values_at(job.more, job, kind))
        mean, var = _channels_at(job.mean, job, np.float64), _channels_at(job.var, job, np.float64)
        gamma, beta = _channels_at(job.gamma, job, np.float64), _channels_at(job.beta, job, np.float64)
        first, last, part = _next(job)
        while part >= 0:
            for c in range(first, last):
                mean[c], var[c] = _moments_of_channel(x, c)
                line = _line(mean[c], var[c], gamma[c], beta[c], job.eps, kind)
                _scale_channel(x, c, line, more, job.has_more, job.least, y)
            first, last, part = _next(job)

    return forward_first


def _do_scale_first(kind):
    def scale_first(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = (_values_at(job.x, job, kind), _values_at(job.y, job, kind), _values_at(job.more, job, kind))
        mean, var = _channels_at(job.mean, job, np.float64), _channels_at(job.var, job, np.float64)
        gamma, beta = _channels_at(job.gamma, job, np.float64), _channels_at(job.beta, job, np.float64)
        first, last, part = _next(job)
        while part >= 0:
            for c in range(first, last):
                line = _line(mean[c], var[c], gamma[c], beta[c], job.eps, kind)
                _scale_channel(x, c, line, more, job.has_more, job.least, y)
            first, last, part = _next(job)

    return scale_first


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
def _sums_of_row(row, from_above, center):
    """Sums of the gradient from above, of its product with x - center, and of x - center."""
    zero = row.dtype.type(0)
    a, b, d = zero, zero, zero
    for s in range(row.size):
        centered = row[s] - center
        a += from_above[s]
        b += from_above[s] * centered
        d += centered
    return a, b, d


@_compiled
def _gradient_of_row(row, from_above, center, scale, slope, shift, training, out):
    if training:
        for s in range(row.size):
            out[s] = from_above[s] * scale + ((row[s] - center) * slope + shift)
    else:
        for s in range(row.size):
            out[s] = from_above[s] * scale


@_compiled
def _backward_channels(
    x, dy, mean, var, gamma, eps, training, beta, more, passed, relu, has_more, dx, dgamma, dbeta, first, last
):
    kind = x.dtype.type
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
                row = x[n, c, s0:s1]
                if relu:
                    kept = passed[n, c, s0:s1] if has_more else some[: row.size]
                    _let_through(row, dy[n, c, s0:s1], more[n, c, s0:s1], has_more, center, slant, height, kept)
                    a, b, d = _sums_of_row(row, kept, center)
                else:
                    a, b, d = _sums_of_row(row, dy[n, c, s0:s1], center)
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
            if not relu:
                _gradient_of_row(x[n, c], dy[n, c], center, scale, slope, shift, training, dx[n, c])
            elif has_more:
                _gradient_of_row(x[n, c], passed[n, c], center, scale, slope, shift, training, dx[n, c])
            else:
                for s0 in range(0, positions, BLOCK):
                    s1 = min(s0 + BLOCK, positions)
                    row, kept = x[n, c, s0:s1], some[: s1 - s0]
                    _let_through(row, dy[n, c, s0:s1], row, False, center, slant, height, kept)
                    _gradient_of_row(row, kept, center, scale, slope, shift, training, dx[n, c, s0:s1])


def _do_backward_first(kind):
    def backward_first(data):
        job = numba.carray(data, (1,))[0]
        x, dy, dx = _values_at(job.x, job, kind), _values_at(job.dy, job, kind), _values_at(job.y, job, kind)
        more, passed = _values_at(job.more, job, kind), _values_at(job.passed, job, kind)
        mean, var = _channels_at(job.mean, job, np.float64), _channels_at(job.var, job, np.float64)
        gamma, beta = _channels_at(job.gamma, job, np.float64), _channels_at(job.beta, job, np.float64)
        dgamma, dbeta = _channels_at(job.dgamma, job, np.float64), _channels_at(job.dbeta, job, np.float64)
        first, last, part = _next(job)
        while part >= 0:
            _backward_channels(
                x, dy, mean, var, gamma, job.eps, job.training, beta, more, passed, job.relu, job.has_more,
                dx, dgamma, dbeta, first, last,
            )  # fmt: skip
            first, last, part = _next(job)

    return backward_first


# --- channels innermost: (rows, C) -----------------------------------------------------------------------------------


def _moments_of_columns(x, mean, var):
    """Put the mean and the biased variance of every column into `mean` and `var`."""
    rows, channels = x.shape
    parts = max(1, min(torch.get_num_threads(), rows))
    counts, means, squares = np.zeros(parts), np.zeros((parts, channels)), np.zeros((parts, channels))
    _run("moments_last", x, True, parts, x=x, counts=counts, means=means, squares=squares)
    _combine(counts, means, squares, mean, var)


@_compiled
def _combine(counts, means, squares, mean, var):
    """Moments of all rows by those of parts of them (Chan, Golub & LeVeque, 1983, equations 2.1)."""
    parts, channels = means.shape
    for c in range(channels):
        count, first, square = 0.0, 0.0, 0.0
        for part in range(parts):
            if counts[part] > 0:
                delta = means[part, c] - first
                share = counts[part] / (count + counts[part])
                square += squares[part, c] + delta * delta * (count * share)
                first += delta * share
                count += counts[part]
        mean[c], var[c] = first, square / count


@_compiled
def _together(channels):
    """How many rows are taken as one long row: short loops cost more than what they do."""
    return max(1, LONG // channels)


@_compiled
def _add_long(total, v_0, v_1, v_2, v_3):
    for c in range(total.size):
        total[c] += (v_0[c] + v_1[c]) + (v_2[c] + v_3[c])


@_compiled
def _add_one_long(total, v):
    for c in range(v.size):
        total[c] += v[c]


@_compiled
def _add_moments_long(first, second, center, v_0, v_1, v_2, v_3):
    for c in range(first.size):
        d_0, d_1, d_2, d_3 = v_0[c] - center[c], v_1[c] - center[c], v_2[c] - center[c], v_3[c] - center[c]
        first[c] += (d_0 + d_1) + (d_2 + d_3)
        second[c] += (d_0 * d_0 + d_1 * d_1) + (d_2 * d_2 + d_3 * d_3)


@_compiled
def _add_one_moments_long(first, second, center, v):
    for c in range(v.size):
        d = v[c] - center[c]
        first[c] += d
        second[c] += d * d


@_compiled
def _folded(long, channels, out):
    """Add up what belongs to each channel in a long row, in float64."""
    out[:] = 0.0
    for k in range(long.size // channels):
        _add_one_long(out, long[k * channels : (k + 1) * channels])


@_compiled
def _moments_of_rows(x, counts, means, squares, first, last, part):
    channels = x.shape[1]
    flat, zero = x.reshape(-1), x.dtype.type(0)
    mean, square, count = means[part], squares[part], 0.0
    long = _together(channels) * channels
    total, center = np.empty(long, x.dtype), np.empty(long, x.dtype)
    sums, sums_of_squares = np.empty(long, x.dtype), np.empty(long, x.dtype)
    folded, folded_squares = np.empty(channels), np.empty(channels)
    height = max(4, TILE // long) * _together(channels)
    for r0 in range(first, last, height):
        r1 = min(r0 + height, last)
        size = r1 - r0
        start, stop = r0 * channels, r1 * channels
        total[:] = zero
        sums[:] = zero
        sums_of_squares[:] = zero
        at = start
        while at + 4 * long <= stop:
            _add_long(
                total, flat[at : at + long], flat[at + long : at + 2 * long], flat[at + 2 * long : at + 3 * long],
                flat[at + 3 * long : at + 4 * long],
            )  # fmt: skip
            at += 4 * long
        while at < stop:
            _add_one_long(total, flat[at : min(at + long, stop)])
            at += long
        _folded(total, channels, folded)
        for c in range(channels):
            center[c] = folded[c] / size
        for k in range(channels, long, channels):
            center[k : k + channels] = center[:channels]
        at = start
        while at + 4 * long <= stop:
            _add_moments_long(
                sums, sums_of_squares, center, flat[at : at + long], flat[at + long : at + 2 * long],
                flat[at + 2 * long : at + 3 * long], flat[at + 3 * long : at + 4 * long],
            )  # fmt: skip
            at += 4 * long
        while at < stop:
            _add_one_moments_long(sums, sums_of_squares, center, flat[at : min(at + long, stop)])
            at += long
        _folded(sums, channels, folded)
        _folded(sums_of_squares, channels, folded_squares)
        share = size / (count + size)
        for c in range(channels):
            rest = folded[c] / size
            delta = float(center[c]) + rest - mean[c]
            square[c] += folded_squares[c] - folded[c] * rest + delta * delta * (count * share)
            mean[c] += delta * share
        count += size
    counts[part] = count


def _do_moments_last(kind):
    def moments_last(data):
        job = numba.carray(data, (1,))[0]
        shape = (job.parts, job.channels)
        counts = numba.carray(pointer(job.counts), (job.parts,), np.float64)
        means, squares = (
            numba.carray(pointer(job.means), shape, np.float64),
            numba.carray(pointer(job.squares), shape, np.float64),
        )
        first, last, part = _next(job)
        while part >= 0:
            _moments_of_rows(_rows_at(job.x, job, kind), counts, means, squares, first, last, part)
            first, last, part = _next(job)

    return moments_last


@_compiled
def _scale_channels(row, center, scale, shift, least, out):
    for c in range(row.size):
        v = (row[c] - center[c]) * scale[c] + shift[c]
        out[c] = least if v < least else v


@_compiled
def _scale_and_add_channels(row, added, center, scale, shift, least, out):
    for c in range(row.size):
        v = (row[c] - center[c]) * scale[c] + shift[c] + added[c]
        out[c] = least if v < least else v


@_compiled
def _scale_rows(x, mean, var, gamma, beta, eps, more, has_more, least, y, first, last):
    channels, kind = x.shape[1], x.dtype.type
    flat, added, out = x.reshape(-1), more.reshape(-1), y.reshape(-1)
    long = _together(channels) * channels
    center, scale, shift = np.empty(long, x.dtype), np.empty(long, x.dtype), np.empty(long, x.dtype)
    for c in range(channels):
        center[c], scale[c], shift[c] = _line(mean[c], var[c], gamma[c], beta[c], eps, kind)
    for k in range(channels, long, channels):
        center[k : k + channels] = center[:channels]
        scale[k : k + channels] = scale[:channels]
        shift[k : k + channels] = shift[:channels]
    least = kind(least)
    start = first * channels
    for back in range((last * channels - start + long - 1) // long):  # the last ones first
        stop = last * channels - back * long
        at = max(start, stop - long)

        if has_more:
            _scale_and_add_channels(flat[at:stop], added[at:stop], center, scale, shift, least, out[at:stop])
        else:
            _scale_channels(flat[at:stop], center, scale, shift, least, out[at:stop])


def _do_scale_last(kind):
    def scale_last(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = _rows_at(job.x, job, kind), _rows_at(job.y, job, kind), _rows_at(job.more, job, kind)
        mean, var = _channels_at(job.mean, job, np.float64), _channels_at(job.var, job, np.float64)
        gamma, beta = _channels_at(job.gamma, job, np.float64), _channels_at(job.beta, job, np.float64)
        first, last, part = _next(job)
        while part >= 0:
            _scale_rows(x, mean, var, gamma, beta, job.eps, more, job.has_more, job.least, y, first, last)
            first, last, part = _next(job)

    return scale_last


def _backward_last(x, dy, y, mean, var, gamma, beta, dgamma, dbeta, eps, training, relu, **mask):
    rows, channels = x.shape
    parts = max(1, min(torch.get_num_threads(), rows))
    sums = np.zeros((parts, 3, channels))
    center, slant, height, scale, slope, shift = np.empty((6, channels), x.dtype)
    _lines(mean, var, gamma, beta, eps, center, slant, height)
    mask |= {"center": center, "slant": slant, "height": height, "relu": relu}
    _run("sums_last", x, True, parts, x=x, dy=dy, sums=sums, **mask)
    _slopes(sums, rows, mean, var, gamma, eps, training, dgamma, dbeta, scale, slope, shift)
    factors = {"scale": scale, "slope": slope, "shift": shift}
    _run("gradient_last", x, True, parts, x=x, dy=dy, y=y, training=training, **factors, **mask)


@_compiled
def _lines(mean, var, gamma, beta, eps, center, slant, height):
    for c in range(mean.size):
        center[c], slant[c], height[c] = _line(mean[c], var[c], gamma[c], beta[c], eps, center.dtype.type)


@_compiled
def _slopes(sums, m, mean, var, gamma, eps, training, dgamma, dbeta, scale, slope, shift):
    """Gradients of gamma and beta, and the factors of dx = scale * dy + slope * (x - center) + shift."""
    kind = scale.dtype.type
    for c in range(mean.size):
        above, along, away = 0.0, 0.0, 0.0
        for part in range(sums.shape[0]):
            above += sums[part, 0, c]
            along += sums[part, 1, c]
            away += sums[part, 2, c]
        inv_std = 1 / math.sqrt(var[c] + eps)
        # What the mean lost when it was rounded to the dtype: of this batch it is known, of running statistics given.
        rest = away / m if training else mean[c] - float(kind(mean[c]))
        dbeta[c] = above
        dgamma[c] = (along - rest * above) * inv_std
        k = gamma[c] * inv_std
        u = -k * inv_std * dgamma[c] / m if training else 0.0
        scale[c], slope[c], shift[c] = k, u, -k * above / m - u * rest if training else 0.0


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
def _add_row(row, from_above, center, a, b, d):
    for c in range(row.size):
        centered = row[c] - center[c]
        a[c] += from_above[c]
        b[c] += from_above[c] * centered
        d[c] += centered


@_compiled
def _add_rows(row_0, row_1, above_0, above_1, center, a, b, d):
    """Two rows at once: half as much is loaded and stored."""
    for c in range(row_0.size):
        d_0, d_1 = row_0[c] - center[c], row_1[c] - center[c]
        a[c] += above_0[c] + above_1[c]
        b[c] += above_0[c] * d_0 + above_1[c] * d_1
        d[c] += d_0 + d_1


@_compiled
def _sums_of_rows(x, dy, center, more, passed, relu, has_more, slant, height, sums, first, last, part):
    channels = x.shape[1]
    flat, above, added, let = x.reshape(-1), dy.reshape(-1), more.reshape(-1), passed.reshape(-1)
    together = _together(channels)
    long = together * channels
    a, b, d = np.empty(long, x.dtype), np.empty(long, x.dtype), np.empty(long, x.dtype)
    some, folded = np.empty(long, x.dtype), np.empty(channels)
    center, slant, height = _repeated(center, together), _repeated(slant, together), _repeated(height, together)
    tall = ROWS * together
    for r0 in range(first, last, tall):
        start, stop = r0 * channels, min(r0 + tall, last) * channels
        a[:] = 0
        b[:] = 0
        d[:] = 0
        at = start
        while not relu and at + 2 * long <= stop:
            middle, end = at + long, at + 2 * long
            _add_rows(flat[at:middle], flat[middle:end], above[at:middle], above[middle:end], center, a, b, d)
            at = end
        while at < stop:
            end = min(at + long, stop)
            if relu:
                kept = let[at:end] if has_more else some[: end - at]
                _let_through_row(flat[at:end], above[at:end], added[at:end], has_more, center, slant, height, kept)
                _add_row(flat[at:end], kept, center, a, b, d)
            else:
                _add_row(flat[at:end], above[at:end], center, a, b, d)
            at = end
        _folded(a, channels, folded)
        sums[part, 0] += folded
        _folded(b, channels, folded)
        sums[part, 1] += folded
        _folded(d, channels, folded)
        sums[part, 2] += folded


@_compiled
def _repeated(v, times):
    out = np.empty(v.size * times, v.dtype)
    for k in range(times):
        out[k * v.size : (k + 1) * v.size] = v
    return out


def _do_sums_last(kind):
    def sums_last(data):
        job = numba.carray(data, (1,))[0]
        x, dy = _rows_at(job.x, job, kind), _rows_at(job.dy, job, kind)
        more, passed = _rows_at(job.more, job, kind), _rows_at(job.passed, job, kind)
        center, slant = _channels_at(job.center, job, kind), _channels_at(job.slant, job, kind)
        height = _channels_at(job.height, job, kind)
        sums = numba.carray(pointer(job.sums), (job.parts, 3, job.channels), np.float64)
        first, last, part = _next(job)
        while part >= 0:
            _sums_of_rows(
                x, dy, center, more, passed, job.relu, job.has_more, slant, height, sums, first, last, part
            )  # fmt: skip
            first, last, part = _next(job)

    return sums_last


@_compiled
def _gradient_of_channels(row, from_above, center, scale, slope, shift, training, out):
    """As :func:`_gradient_of_row`; each channel has its own factors."""
    if training:
        for c in range(row.size):
            out[c] = from_above[c] * scale[c] + ((row[c] - center[c]) * slope[c] + shift[c])
    else:
        for c in range(row.size):
            out[c] = from_above[c] * scale[c]


@_compiled
def _gradient_of_rows(
    x, dy, center, more, passed, relu, has_more, slant, height, scale, slope, shift, training, dx, first, last
):
    channels = x.shape[1]
    flat, above, let, out = x.reshape(-1), dy.reshape(-1), passed.reshape(-1), dx.reshape(-1)
    together = _together(channels)
    long = together * channels
    center, slant, height = _repeated(center, together), _repeated(slant, together), _repeated(height, together)
    scale, slope, shift = _repeated(scale, together), _repeated(slope, together), _repeated(shift, together)
    some = np.empty(long, x.dtype)
    start = first * channels
    for back in range((last * channels - start + long - 1) // long):
        stop = last * channels - back * long
        at = max(start, stop - long)
        if not relu:
            _gradient_of_channels(flat[at:stop], above[at:stop], center, scale, slope, shift, training, out[at:stop])
        elif has_more:
            _gradient_of_channels(flat[at:stop], let[at:stop], center, scale, slope, shift, training, out[at:stop])
        else:
            kept = some[: stop - at]
            _let_through_row(flat[at:stop], above[at:stop], kept, False, center, slant, height, kept)
            _gradient_of_channels(flat[at:stop], kept, center, scale, slope, shift, training, out[at:stop])


def _do_gradient_last(kind):
    def gradient_last(data):
        job = numba.carray(data, (1,))[0]
        x, dy, dx = _rows_at(job.x, job, kind), _rows_at(job.dy, job, kind), _rows_at(job.y, job, kind)
        more, passed = _rows_at(job.more, job, kind), _rows_at(job.passed, job, kind)
        center, slant = _channels_at(job.center, job, kind), _channels_at(job.slant, job, kind)
        height, scale = _channels_at(job.height, job, kind), _channels_at(job.scale, job, kind)
        slope, shift = _channels_at(job.slope, job, kind), _channels_at(job.shift, job, kind)
        first, last, part = _next(job)
        while part >= 0:
            _gradient_of_rows(
                x, dy, center, more, passed, job.relu, job.has_more, slant, height, scale, slope, shift,
                job.training, dx, first, last,
            )  # fmt: skip
            first, last, part = _next(job)

    return gradient_last
