"""Batch normalization on a CPU in compiled loops, by numba (``pip install 'bnlab[fast]'``).

Time goes into memory here, not into arithmetic, so all is arranged to read memory once:

- Where channels are the outer axis (NCHW), one thread takes a channel from its statistics to its output. A channel of
  most networks fits into the second-level cache of a core, where the second pass finds it.
- Where channels are the innermost axis (channels_last, or plain features), threads take blocks of rows, and the second
  pass goes backwards, from what was read last.
- Sums and factors stay in registers (`bnlab.backends.columns`).
- A large output is written past the caches (`bnlab.backends.stores`).
- A ReLU, and the addition of a residual before it, happen where the output is written. Backward, what the ReLU let
  through is computed again rather than stored.

Both are accurate where a plain sum of squares is not. The moments of a block of values are taken in the dtype of the
input, about the mean of all blocks before it (the first one about its own, or that of its first values), and blocks are
combined in float64 (Chan, Golub & LeVeque, 1983, section 2). If a block lies far from those before it, the variance is
as much larger. And x is centered by the mean as the dtype can hold it, which subtracts exactly; what is left of the
mean goes into the shift.

The loops run in torch's threads, as many as it uses (`torch.get_num_threads`); see `bnlab.backends.threads`. All of
them read one *job*, a record of sizes, numbers and addresses, and each takes the next part until none is left. On small
tensors a call costs as much as the arithmetic, so each operation is one call.
"""

import ctypes
import functools
import itertools
import logging
import math
import struct
from pathlib import Path

import numba
import numpy as np
import torch

from bnlab.backends import columns, threads
from bnlab.backends.running import follow
from bnlab.backends.stores import LINE, PAST_CACHES, fence
from bnlab.backends.threads import add, pointer

BLOCK = 8192  # values whose moments are taken at once: float32 sums them well
ROWS = 256  # values that are summed in the dtype of the input, at most, before that goes into a float64 sum
FEW = 256  # positions up to which the channels of an example are taken together
LONG = 2048  # values of rows that are taken together
TILE = 65536  # values at once there, about: they fit into a second-level cache
ROOM = 16  # rows that a thread has to work in
# Values of an output from which on it is written past the caches, by operation and whether channels are innermost. In
# smaller ones that saves less here than a ReLU, or a product, loses that reads the output next.
LARGE = {
    ("forward", False): 1 << 21,
    ("forward", True): 1 << 21,
    ("backward", False): 1 << 20,
    ("backward", True): 1 << 21,
}
GRAIN = 16384  # values below which a further thread costs more than it saves
PARTS = 4  # for each thread, where channels are outside: who is done early takes over from the others

# Sums may be reordered and multiplications fused; NaN and infinity stay what they are.
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})
_log = logging.getLogger("bnlab")


def forward(x, gamma, beta, mean, var, eps, residual=None, relu=False, running=None):
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
    running : (torch.Tensor of shape (C,), torch.Tensor of shape (C,), float), or None

    Returns
    -------
    y : torch.Tensor, shape (N, C, ...)
    mean, var : torch.Tensor, shape (C,)
        In float64 for a float64 input, else in float32.
    """
    is_last = _has_channels_innermost(x)
    values, added = _dense(x, is_last), None if residual is None else _dense(residual, is_last)
    wide, training = values.dtype, mean is None
    y = _output(x, is_last, wide)
    if training:
        mean, var = _per_channel(x, wide), _per_channel(x, wide)
    else:
        mean, var = _vector(mean, x, wide), _vector(var, x, wide)
    if values.numel():
        gamma, beta = _vector(gamma, x, wide, 1.0), _vector(beta, x, wide, 0.0)
        running_mean, running_var, momentum = running or (mean, var, 0.0)
        follows = running is not None and all(v.dtype == wide and v.is_contiguous() for v in running[:2])
        vectors = mean, var, gamma, beta, running_mean, running_var
        tensors = values, values, y, values if added is None else added, values, *vectors
        numbers = eps, 0.0 if relu else -math.inf, momentum, training, relu, added is not None, follows
        _run("forward", x.shape, is_last, tensors, numbers)
        if not follows:
            follow(running, mean, var, values.numel() // x.shape[1])
    return _like(y, x), mean, var


def takes(x):
    """Whether the loops can read this tensor."""
    return x.is_cpu


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
    is_last = _has_channels_innermost(x)
    values, above = _dense(x, is_last), _dense(dy, is_last)
    wide = values.dtype
    dx, dgamma, dbeta = _output(x, is_last, wide), _per_channel(x, wide), _per_channel(x, wide)
    added, dresidual = values, None
    if residual is not None:  # what the ReLU let through is its gradient
        added, dresidual = _dense(residual, is_last), _output(x, is_last, wide)
    if values.numel():
        mean, var = _vector(mean, x, wide), _vector(var, x, wide)
        gamma = _vector(gamma, x, wide, 1.0)
        beta = _vector(beta, x, wide, 0.0) if relu else gamma  # which nobody reads then
        passed = values if dresidual is None else dresidual
        tensors = values, above, dx, added, passed, mean, var, gamma, beta, dgamma, dbeta
        _run("backward", x.shape, is_last, tensors, (eps, 0.0, 0.0, training, relu, residual is not None, False))
    return _like(dx, x), dgamma, dbeta, None if dresidual is None else _like(dresidual, x)


# --- tensors ---------------------------------------------------------------------------------------------------------


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _has_channels_innermost(x):
    dims = x.dim()
    if x.is_contiguous() or dims not in _CHANNELS_LAST:
        return dims == 2
    return x.is_contiguous(memory_format=_CHANNELS_LAST[dims])


def _dense(x, is_last):
    """The tensor in float32 or float64 without gaps, channels innermost or in their place; itself where it is so."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x.contiguous(memory_format=_CHANNELS_LAST[x.dim()]) if is_last and x.dim() > 2 else x.contiguous()


def _output(x, is_last, wide):
    """A tensor for what comes out, laid out as `_dense` says.

    It is no view: a ReLU may work on it in place, which autograd forbids on views.
    """
    if x.is_contiguous() or (is_last and x.dim() > 2):
        return torch.empty_like(x, dtype=wide)
    return torch.empty(x.shape, dtype=wide)


def _like(y, x):
    """The output in the dtype of `x`; in channels_last also where `x` is that with gaps."""
    if y.dtype != x.dtype:
        y = y.to(x.dtype)
    layout = _CHANNELS_LAST.get(x.dim())
    if layout is None or x.stride(1) != 1 or y.stride(1) == 1:
        return y
    return y.contiguous(memory_format=layout)


def _per_channel(x, wide):
    """One value per channel, to be written; 0 if nobody will."""
    return (torch.empty if x.numel() else torch.zeros)(x.shape[1], dtype=wide)


def _vector(v, x, wide, default=None):
    """One value per channel, without gaps."""
    if v is None:
        return torch.full(x.shape[1:2], default, dtype=wide)
    return v if v.dtype == wide and v.is_contiguous() else v.to(wide).contiguous()


# --- jobs for threads ------------------------------------------------------------------------------------------------

_FIELDS = [(name, "i8") for name in "taken done ready rooms address past".split()]
_FIELDS += [(name, "i8") for name in "parts length examples channels positions together count width".split()]
_FIELDS += [(name, "f8") for name in "eps least momentum".split()]
_FIELDS += [(name, "i8") for name in "training relu has_more follows".split()]
# Addresses of arrays in the dtype of the input, and of one in float64. The last two that have a value per channel are
# the running statistics, or backward the gradients of gamma and beta.
_FIELDS += [(name, "i8") for name in "x dy y more passed mean var gamma beta last_0 last_1".split()]
_FIELDS += [(name, "i8") for name in "sums lines room".split()]
DONE, READY, ROOMS = 8, 16, 24  # bytes behind the job's address; at the address itself: how many parts are taken


_job = struct.Struct("=" + "".join("q" if kind == "i8" else "d" for _, kind in _FIELDS))


@functools.lru_cache(maxsize=1024)
def _sizes(shape, is_last, itemsize, threads):
    """The layout, how many threads work on it, the job's sizes, and where sums, lines and room begin behind it.

    On small tensors a call costs as much as the arithmetic, so what is the same in every call is kept.
    """
    examples, channels = shape[:2]
    values = math.prod(shape)
    positions = values // (examples * channels)
    if is_last:
        examples, positions = examples * positions, 1
    length = examples if is_last else channels
    count = max(1, min(threads, length, values // GRAIN))
    parts = count if is_last else min(length, count * PARTS)
    layout = "last" if is_last else "few" if positions <= FEW and channels > 1 else "first"
    together = _channels_together(-(-channels // parts), examples, positions, itemsize)
    width = {"last": max(LONG, channels), "few": together * positions, "first": columns.STRIPE // itemsize}[layout]
    sizes = parts, length, examples, channels, positions, together, count, width
    bytes_of = _job.size, 8 * parts * 3 * channels, 8 * 3 * channels, itemsize * count * ROOM * width
    return layout, count, sizes, tuple(itertools.accumulate(bytes_of))


def _channels_together(channels, examples, positions, itemsize):
    """How many of these channels are taken at once: about `TILE` values, and whole stripes if that isn't too many."""
    values = examples * positions
    stripe, line = columns.STRIPE // itemsize, LINE // itemsize
    even = line // math.gcd(line, positions)  # channels whose positions are whole lines
    while even * positions % stripe and even * values <= TILE:
        even *= 2
    blocks = max(1, -(-channels * values // TILE))
    return min(channels, -(-channels // blocks // even) * even)


def _run(operation, shape, is_last, tensors, numbers):
    """Let threads do an operation in parts of the channels, or of the rows if `is_last`.

    The tensors are those of which the job has the addresses, in this order; the numbers those that come before.
    """
    dtype = tensors[0].dtype
    layout, count, sizes, (sums, lines, room, end) = _sizes(shape, is_last, dtype.itemsize, torch.get_num_threads())
    scratch = torch.empty(end, dtype=torch.uint8)
    at = scratch.data_ptr()
    addresses = [v.data_ptr() for v in tensors]
    past = PAST_CACHES and shape.numel() >= LARGE[operation, is_last]
    job = _job.pack(0, 0, 0, 0, at, past, *sizes, *numbers, *addresses, at + sums, at + lines, at + room)
    ctypes.memmove(at, job, len(job))
    threads.run(*_entry(operation, layout, dtype), at, count)


def compile_all():
    """Compile all loops now and keep them on this machine, so that no later call has to."""
    for operation in ("forward", "backward"):
        for layout in ("first", "few", "last"):
            for dtype in (torch.float32, torch.float64):
                _entry(operation, layout, dtype)


_is_announced = False


@functools.cache
def _entry(operation, layout, dtype):
    """The C function that does a job's parts until none is left, compiled for a dtype; and its address."""
    global _is_announced
    name = f"{operation}_{layout}"
    make = globals()[f"_do_{name}"]
    if not _is_announced and not any(Path(_line.stats.cache_path).glob(f"*{name}-*.nbi")):
        _is_announced = True
        _log.warning("compiling loops for batch normalization: some seconds, once on this machine")
    job = numba.types.CPointer(numba.from_dtype(np.dtype(_FIELDS)))
    kind = np.float64 if dtype == torch.float64 else np.float32
    compiled = numba.cfunc(numba.void(job), cache=True)(make(kind))
    return compiled.ctypes, compiled.address


@numba.njit
def _bounds(job, part):
    """The first place of a part, and the one behind its last."""
    return job.length * part // job.parts, job.length * (part + 1) // job.parts


@numba.njit
def _next(job):
    """The bounds of the next part and its number, which is -1 where none is left."""
    part = add(job.address, 1)
    if part >= job.parts:
        return 0, 0, -1
    first, last = _bounds(job, part)
    return first, last, part


@numba.njit
def _values_at(address, job, kind):
    return numba.carray(pointer(address), (job.examples, job.channels, job.positions), kind)


@numba.njit
def _room_of(job, kind):
    """Rows to work in, of this thread alone.

    Not np.empty: numba counts who uses an array that it made, and each count waits until all stores have arrived.
    """
    mine = add(job.address + ROOMS, 1)
    return numba.carray(pointer(job.room), (job.count, ROOM, job.width), kind)[mine]


@numba.njit
def _sums_at(job, part):
    """Three sums of each channel."""
    return numba.carray(pointer(job.sums), (job.parts, 3, job.channels), np.float64)[part]


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


# A channel of an example is gone along as a matrix with as many columns as a vector has lanes, then by lines, and then,
# where its positions are no whole lines, by values.


@_compiled
def _lanes(x):
    """How many values the vectors of the loops down columns have, and those of a line."""
    return columns.STRIPE // x.itemsize, LINE // x.itemsize


@_compiled
def _add_moments_of_examples(x, c, n0, n1, s0, s1, center, first, second):
    """Add the moments of x[n0:n1, c, s0:s1] about `center`, the same value in each lane, lane by lane."""
    lanes, line = _lanes(x)
    times, step = n1 - n0, x.shape[1] * x.shape[2]
    rows = (s1 - s0) // lanes
    columns.add_moments(x[n0, c, s0:], center, first, second, rows, lanes, times, step)
    s0 += rows * lanes
    rows = (s1 - s0) // line
    columns.add_moments_of_line(x[n0, c, s0:], center, first, second, rows, line, times, step)
    s0 += rows * line
    for n in range(n0, n1 if s0 < s1 else n0):
        _add_moments_of_row(first, second, center, x[n, c, s0:s1])


@_compiled
def _moments_of_channel(x, c, room):
    """Mean and biased variance of x[:, c], in float64."""
    examples, _, positions = x.shape
    lanes = columns.STRIPE // x.itemsize
    center, first, second = room[0, :lanes], room[1, :lanes], room[2, :lanes]
    zero = x.dtype.type(0)
    count, mean, squares = 0.0, 0.0, 0.0
    width = min(positions, BLOCK)
    group = BLOCK // width  # examples taken together where each has few positions
    for n0 in range(0, examples, group):
        n1 = min(n0 + group, examples)
        for s0 in range(0, positions, width):
            s1 = min(s0 + width, positions)
            size = (n1 - n0) * (s1 - s0)
            if count == 0.0:
                total = zero
                for n in range(n0, n1):
                    total += _sum_of_row(x[n, c, s0:s1])
                center[:] = total / size
            else:
                center[:] = mean
            first[:] = zero
            second[:] = zero
            _add_moments_of_examples(x, c, n0, n1, s0, s1, center, first, second)
            total, total_of_squares = 0.0, 0.0
            for k in range(lanes):
                total += first[k]
                total_of_squares += second[k]
            rest = total / size
            delta = float(center[0]) + rest - mean
            share = size / (count + size)
            squares += total_of_squares - total * rest + delta * delta * count * share
            mean += delta * share
            count += size
    return mean, max(squares / count, 0.0) if squares == squares else squares


@numba.njit
def _follow(job, c, mean, var, running_mean, running_var):
    """As `bnlab.backends.running.follow`, for the channel c."""
    if job.follows:
        m, old, new = job.examples * job.positions, 1.0 - job.momentum, job.momentum
        running_mean[c] = old * running_mean[c] + new * mean
        running_var[c] = old * running_var[c] + new * var * (m / (m - 1))


@_compiled
def _line(mean, var, gamma, beta, eps, kind):
    """Center, scale and shift by which a channel is normalized: (x - center) * scale + shift."""
    k = gamma / math.sqrt(var + eps)
    center = kind(mean)
    return center, kind(k), kind(beta - (mean - float(center)) * k)


@_compiled
def _scale_channel(x, c, line, more, has_more, least, y, past, room):
    """y[:, c] = gamma * (x[:, c] - mean) / sqrt(var + eps) + beta, and what follows; what was read last comes first."""
    lanes, values = _lanes(x)
    center, scale, shift = room[0, :lanes], room[1, :lanes], room[2, :lanes]
    center[:], scale[:], shift[:] = line
    least = x.dtype.type(least)
    times, step, at = x.shape[0], -x.shape[1] * x.shape[2], x.shape[0] - 1
    rows = x.shape[2] // lanes
    columns.scale(
        x[at, c], more[at, c], has_more, center, scale, shift, least, y[at, c], past, rows, lanes, times, step
    )  # fmt: skip
    start = rows * lanes
    rows = (x.shape[2] - start) // values
    columns.scale_of_line(
        x[at, c, start:], more[at, c, start:], has_more, center, scale, shift, least, y[at, c, start:], past, rows,
        values, times, step,
    )  # fmt: skip
    start += rows * values
    for n in range(times if start < x.shape[2] else 0):
        _scale_row(x[n, c, start:], more[n, c, start:], has_more, center, scale, shift, least, y[n, c, start:])


@_compiled
def _has_whole_lines(x):
    """Whether each channel of each example is so many lines of the cache, and nothing else."""
    return (x.ctypes.data | x.shape[2] * x.itemsize) % LINE == 0


def _do_forward_first(kind):
    def forward_first(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = _values_at(job.x, job, kind), _values_at(job.y, job, kind), _values_at(job.more, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        running_mean, running_var = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        past = job.past and _has_whole_lines(y)
        first, last, part = _next(job)
        room = _room_of(job, kind)
        while part >= 0:
            for c in range(first, last):
                mu, sigma2 = float(mean[c]), float(var[c])
                if job.training:
                    mu, sigma2 = _moments_of_channel(x, c, room)
                    mean[c], var[c] = mu, sigma2
                    _follow(job, c, mu, sigma2, running_mean, running_var)
                line = _line(mu, sigma2, gamma[c], beta[c], job.eps, kind)
                _scale_channel(x, c, line, more, job.has_more, job.least, y, past, room)
            first, last, part = _next(job)
        fence()

    return forward_first


@_compiled
def _add_products_of_examples(
    x, dy, more, c, n0, n1, s0, s1, center, slant, height, relu, has_more, passed, let, a, b, d
):  # fmt: skip
    """Add dy, dy * (x - center) and x - center in [n0:n1, c, s0:s1], lane by lane; of dy what a ReLU let through."""
    lanes, line = _lanes(x)
    times, step = n1 - n0, x.shape[1] * x.shape[2]
    rows = (s1 - s0) // lanes
    columns.add_products(
        x[n0, c, s0:], dy[n0, c, s0:], more[n0, c, s0:], center, slant, height, relu, has_more, passed[n0, c, s0:],
        a, b, d, rows, lanes, times, step,
    )  # fmt: skip
    s0 += rows * lanes
    rows = (s1 - s0) // line
    columns.add_products_of_line(
        x[n0, c, s0:], dy[n0, c, s0:], more[n0, c, s0:], center, slant, height, relu, has_more, passed[n0, c, s0:],
        a, b, d, rows, line, times, step,
    )  # fmt: skip
    s0 += rows * line
    for n in range(n0, n1 if s0 < s1 else n0):
        _add_products_of_row(
            x[n, c, s0:s1], dy[n, c, s0:s1], more[n, c, s0:s1], center, slant, height, relu, has_more,
            passed[n, c, s0:s1], let, a, b, d,
        )  # fmt: skip


@_compiled
def _gradient_of_channel(x, dy, c, center, slant, height, relu, scale, slope, shift, training, let, dx, past):
    """dx[:, c] = dy * scale + (x - center) * slope + shift; what was read last comes first."""
    lanes, line = _lanes(x)
    times, step, at = x.shape[0], -x.shape[1] * x.shape[2], x.shape[0] - 1
    rows = x.shape[2] // lanes
    columns.gradient(
        x[at, c], dy[at, c], center, slant, height, relu, scale, slope, shift, training, dx[at, c], past, rows, lanes,
        times, step,
    )  # fmt: skip
    start = rows * lanes
    rows = (x.shape[2] - start) // line
    columns.gradient_of_line(
        x[at, c, start:], dy[at, c, start:], center, slant, height, relu, scale, slope, shift, training,
        dx[at, c, start:], past, rows, line, times, step,
    )  # fmt: skip
    start += rows * line
    for n in range(times if start < x.shape[2] else 0):
        _gradient_of_row(
            x[n, c, start:], dy[n, c, start:], center, slant, height, relu, scale, slope, shift, training, let,
            dx[n, c, start:],
        )  # fmt: skip


@_compiled
def _backward_channel(
    x, dy, c, mean, var, gamma, eps, training, beta, more, passed, relu, has_more, dx, dgamma, dbeta, past, room
):  # fmt: skip
    kind = x.dtype.type
    examples, _, positions = x.shape
    m = examples * positions
    lanes, _ = _lanes(x)
    center, slant, height = room[0, :lanes], room[1, :lanes], room[2, :lanes]
    scale, slope, shift = room[3, :lanes], room[4, :lanes], room[5, :lanes]
    a, b, d, let = room[6, :lanes], room[7, :lanes], room[8, :lanes], room[9, :lanes]
    center[:], slant[:], height[:] = _line(mean[c], var[c], gamma[c], beta[c], eps, kind)
    above, along, away = 0.0, 0.0, 0.0
    width = min(positions, BLOCK)
    group = BLOCK // width
    for n0 in range(0, examples, group):
        n1 = min(n0 + group, examples)
        for s0 in range(0, positions, width):
            s1 = min(s0 + width, positions)
            a[:] = 0
            b[:] = 0
            d[:] = 0
            _add_products_of_examples(
                x, dy, more, c, n0, n1, s0, s1, center, slant, height, relu, has_more, passed, let, a, b, d
            )  # fmt: skip
            for k in range(lanes):
                above += a[k]
                along += b[k]
                away += d[k]
    inv_std = 1 / math.sqrt(var[c] + eps)
    # What the mean lost when it was rounded to the dtype: of this batch it is known, of running statistics given.
    rest = away / m if training else mean[c] - float(center[0])
    slope_of_gamma = (along - rest * above) * inv_std
    dgamma[c], dbeta[c] = slope_of_gamma, above
    k = gamma[c] * inv_std
    u = -k * inv_std * slope_of_gamma / m if training else 0.0
    scale[:], slope[:], shift[:] = k, u, -k * above / m - u * rest if training else 0.0
    if has_more:  # what the ReLU let through is there already
        dy, relu = passed, False
    _gradient_of_channel(x, dy, c, center, slant, height, relu, scale, slope, shift, training, let, dx, past)


def _do_backward_first(kind):
    def backward_first(data):
        job = numba.carray(data, (1,))[0]
        x, dy, dx = _values_at(job.x, job, kind), _values_at(job.dy, job, kind), _values_at(job.y, job, kind)
        more, passed = _values_at(job.more, job, kind), _values_at(job.passed, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        dgamma, dbeta = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        past = job.past and _has_whole_lines(dx)
        first, last, part = _next(job)
        room = _room_of(job, kind)
        while part >= 0:
            for c in range(first, last):
                _backward_channel(
                    x, dy, c, mean, var, gamma, job.eps, job.training, beta, more, passed, job.relu, job.has_more,
                    dx, dgamma, dbeta, past, room,
                )  # fmt: skip
            first, last, part = _next(job)
        fence()

    return backward_first


# --- matrices whose columns belong to channels -----------------------------------------------------------------------


# Down some columns of a matrix, which begin in a row at a column, and are as many as there are factors: by stripes,
# then by lines, then by values.


@_compiled
def _is_by_stripes(x, width, past):
    """Whether an output is written stripe by stripe.

    Where it goes into the caches, and is a part of long rows, it is written row by row: stripes would take their lines
    from as many pages as there are rows, a few from each.
    """
    return past or width == x.shape[1] or width < LONG


@_compiled
def _widths(x, width):
    """How many values a stripe and a line have, and how many columns of so many are whole stripes, and whole lines."""
    stripe, line = _lanes(x)
    return stripe, line, width // stripe * stripe, width // line * line


@_compiled
def _add_moments_down(x, row, column, rows, center, first, second):
    """Add the moments about `center`."""
    stripe, line, stripes, lines = _widths(x, center.size)
    for k in range(0, stripes, stripe):
        at = x[row, column + k :]
        columns.add_moments(at, center[k:], first[k:], second[k:], rows, x.shape[1], 1, 0)
    for k in range(stripes, lines, line):
        at = x[row, column + k :]
        columns.add_moments_of_line(at, center[k:], first[k:], second[k:], rows, x.shape[1], 1, 0)
    for n in range(row, row + rows if lines < center.size else row):
        _add_moments_of_row(first[lines:], second[lines:], center[lines:], x[n, column + lines : column + center.size])


@_compiled
def _scale_down(x, more, has_more, row, column, rows, center, scale, shift, least, y, past):
    """Write (x - center) * scale + shift, and what follows."""
    stripe, line, stripes, lines = _widths(x, center.size if _is_by_stripes(x, center.size, past) else 0)
    for k in range(0, stripes, stripe):
        at = column + k
        columns.scale(
            x[row, at:], more[row, at:], has_more, center[k:], scale[k:], shift[k:], least, y[row, at:], past, rows,
            x.shape[1], 1, 0,
        )  # fmt: skip
    for k in range(stripes, lines, line):
        at = column + k
        columns.scale_of_line(
            x[row, at:], more[row, at:], has_more, center[k:], scale[k:], shift[k:], least, y[row, at:], past, rows,
            x.shape[1], 1, 0,
        )  # fmt: skip
    at, end = column + lines, column + center.size
    for n in range(row, row + rows if at < end else row):
        _scale_row(
            x[n, at:end], more[n, at:end], has_more, center[lines:], scale[lines:], shift[lines:], least, y[n, at:end]
        )  # fmt: skip


@_compiled
def _add_products_down(
    x, dy, more, row, column, rows, center, slant, height, relu, has_more, passed, let, a, b, d
):  # fmt: skip
    """Add dy, dy * (x - center) and x - center; of dy what a ReLU let through."""
    stripe, line, stripes, lines = _widths(x, center.size)
    for k in range(0, stripes, stripe):
        at = column + k
        columns.add_products(
            x[row, at:], dy[row, at:], more[row, at:], center[k:], slant[k:], height[k:], relu, has_more,
            passed[row, at:], a[k:], b[k:], d[k:], rows, x.shape[1], 1, 0,
        )  # fmt: skip
    for k in range(stripes, lines, line):
        at = column + k
        columns.add_products_of_line(
            x[row, at:], dy[row, at:], more[row, at:], center[k:], slant[k:], height[k:], relu, has_more,
            passed[row, at:], a[k:], b[k:], d[k:], rows, x.shape[1], 1, 0,
        )  # fmt: skip
    at, end = column + lines, column + center.size
    for n in range(row, row + rows if at < end else row):
        _add_products_of_row(
            x[n, at:end], dy[n, at:end], more[n, at:end], center[lines:], slant[lines:], height[lines:], relu, has_more,
            passed[n, at:end], let, a[lines:], b[lines:], d[lines:],
        )  # fmt: skip


@_compiled
def _gradient_down(
    x, dy, row, column, rows, center, slant, height, relu, scale, slope, shift, training, let, dx, past
):  # fmt: skip
    """Write dy * scale + (x - center) * slope + shift; of dy what a ReLU let through."""
    stripe, line, stripes, lines = _widths(x, center.size if _is_by_stripes(x, center.size, past) else 0)
    for k in range(0, stripes, stripe):
        at = column + k
        columns.gradient(
            x[row, at:], dy[row, at:], center[k:], slant[k:], height[k:], relu, scale[k:], slope[k:], shift[k:],
            training, dx[row, at:], past, rows, x.shape[1], 1, 0,
        )  # fmt: skip
    for k in range(stripes, lines, line):
        at = column + k
        columns.gradient_of_line(
            x[row, at:], dy[row, at:], center[k:], slant[k:], height[k:], relu, scale[k:], slope[k:], shift[k:],
            training, dx[row, at:], past, rows, x.shape[1], 1, 0,
        )  # fmt: skip
    at, end = column + lines, column + center.size
    for n in range(row, row + rows if at < end else row):
        _gradient_of_row(
            x[n, at:end], dy[n, at:end], center[lines:], slant[lines:], height[lines:], relu, scale[lines:],
            slope[lines:], shift[lines:], training, let, dx[n, at:end],
        )  # fmt: skip


# The same along a row.


@_compiled
def _add_row(total, v):
    for c in range(v.size):
        total[c] += v[c]


@_compiled
def _add_moments_of_row(first, second, center, v):
    for c in range(v.size):
        d = v[c] - center[c]
        first[c] += d
        second[c] += d * d


@_compiled
def _scale_row(row, added, has_more, center, scale, shift, least, out):
    if has_more:
        for c in range(row.size):
            v = (row[c] - center[c]) * scale[c] + shift[c] + added[c]
            out[c] = least if v < least else v
    else:
        for c in range(row.size):
            v = (row[c] - center[c]) * scale[c] + shift[c]
            out[c] = least if v < least else v


@_compiled
def _let_through(row, from_above, added, has_more, center, slant, height, out):
    """The gradient from above where (x - center) * slant + height, and what was added, is positive; else 0."""
    zero = row.dtype.type(0)
    if has_more:
        for c in range(row.size):
            out[c] = zero if (row[c] - center[c]) * slant[c] + height[c] + added[c] <= zero else from_above[c]
    else:
        for c in range(row.size):
            out[c] = zero if (row[c] - center[c]) * slant[c] + height[c] <= zero else from_above[c]


@_compiled
def _add_products_of_row(row, from_above, added, center, slant, height, relu, has_more, passed, let, a, b, d):
    if relu:
        kept = passed if has_more else let[: row.size]
        _let_through(row, from_above, added, has_more, center, slant, height, kept)
        from_above = kept
    for c in range(row.size):
        centered = row[c] - center[c]
        a[c] += from_above[c]
        b[c] += from_above[c] * centered
        d[c] += centered


@_compiled
def _gradient_of_row(row, from_above, center, slant, height, relu, scale, slope, shift, training, let, out):
    if relu:
        kept = let[: row.size]
        _let_through(row, from_above, row, False, center, slant, height, kept)
        from_above = kept
    if training:
        for c in range(row.size):
            out[c] = from_above[c] * scale[c] + ((row[c] - center[c]) * slope[c] + shift[c])
    else:
        for c in range(row.size):
            out[c] = from_above[c] * scale[c]


# --- channels outside, few positions: (N, C * S) ---------------------------------------------------------------------

# A channel is many short rows here, far from each other in memory. So some channels are taken together, as many as fit
# into a second-level cache: then rows are long, and what belongs to a channel stands in them once for each position.


@_compiled
def _fill(v, positions, out):
    """Put the value of each channel into each of its positions."""
    for c in range(v.size):
        out[c * positions : (c + 1) * positions] = v[c]


@_compiled
def _add_gathered(long, positions, out):
    """Add to each channel, in float64, what stands in its positions."""
    for c in range(out.size):
        total = 0.0
        for s in range(c * positions, (c + 1) * positions):
            total += long[s]
        out[c] += total


@_compiled
def _moments_of_block(x, start, stop, positions, mean, var, room):
    """Moments of the channels in the columns from `start` to `stop`, about the mean of the first examples."""
    examples, width, m = x.shape[0], stop - start, x.shape[0] * positions
    first, second, center, rounded = room[0, :width], room[1, :width], room[2, :width], room[3, : mean.size]
    some = min(examples, 8)
    first[:] = 0
    for n in range(some):
        _add_row(first, x[n, start:stop])
    mean[:] = 0.0
    _add_gathered(first, positions, mean)
    for c in range(mean.size):
        rounded[c] = mean[c] / (some * positions)
    _fill(rounded, positions, center)
    mean[:] = 0.0
    var[:] = 0.0
    for n0 in range(0, examples, ROWS):
        first[:] = 0
        second[:] = 0
        _add_moments_down(x, n0, start, min(ROWS, examples - n0), center, first, second)
        _add_gathered(first, positions, mean)
        _add_gathered(second, positions, var)
    for c in range(mean.size):
        rest = mean[c] / m
        v = (var[c] - mean[c] * rest) / m
        mean[c] = float(rounded[c]) + rest
        var[c] = max(v, 0.0) if v == v else v


@_compiled
def _is_on_lines(out, start):
    """Whether the columns from `start` on begin a cache line in every row."""
    return (out[0, start:].ctypes.data | out.shape[1] * out.itemsize) % LINE == 0


@_compiled
def _scale_block(x, start, stop, positions, mean, var, gamma, beta, eps, more, has_more, least, y, past, room):
    width = stop - start
    center, scale, shift = room[0, :width], room[1, :width], room[2, :width]
    short = room[3:6, : gamma.size]
    _lines(mean, var, gamma, beta, eps, short[0], short[1], short[2])
    _fill(short[0], positions, center)
    _fill(short[1], positions, scale)
    _fill(short[2], positions, shift)
    past = past and _is_on_lines(y, start)
    _scale_down(x, more, has_more, 0, start, x.shape[0], center, scale, shift, x.dtype.type(least), y, past)


@_compiled
def _backward_block(
    x, dy, start, stop, positions, mean, var, gamma, eps, training, beta, more, passed, relu, has_more, dx,
    dgamma, dbeta, past, room, sums,
):  # fmt: skip
    examples, width, channels = x.shape[0], stop - start, mean.size
    center, slant, height = room[0, :width], room[1, :width], room[2, :width]
    scale, slope, shift = room[3, :width], room[4, :width], room[5, :width]
    a, b, d, let = room[6, :width], room[7, :width], room[8, :width], room[9, :width]
    short = room[10:16, :channels]
    _lines(mean, var, gamma, beta, eps, short[0], short[1], short[2])
    _fill(short[0], positions, center)
    _fill(short[1], positions, slant)
    _fill(short[2], positions, height)
    sums[:] = 0.0
    for n0 in range(0, examples, ROWS):
        rows = min(ROWS, examples - n0)
        a[:] = 0
        b[:] = 0
        d[:] = 0
        _add_products_down(
            x, dy, more, n0, start, rows, center, slant, height, relu, has_more, passed, let, a, b, d
        )  # fmt: skip
        _add_gathered(a, positions, sums[0, 0])
        _add_gathered(b, positions, sums[0, 1])
        _add_gathered(d, positions, sums[0, 2])
    _slopes(sums, examples * positions, mean, var, gamma, eps, training, dgamma, dbeta, short[3], short[4], short[5])
    _fill(short[3], positions, scale)
    _fill(short[4], positions, slope)
    _fill(short[5], positions, shift)
    if has_more:  # what the ReLU let through is there already
        dy, relu = passed, False
    past = past and _is_on_lines(dx, start)
    _gradient_down(
        x, dy, 0, start, examples, center, slant, height, relu, scale, slope, shift, training, let, dx, past
    )  # fmt: skip


@numba.njit
def _columns_at(address, job, kind):
    return numba.carray(pointer(address), (job.examples, job.channels * job.positions), kind)


def _do_forward_few(kind):
    def forward_few(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = _columns_at(job.x, job, kind), _columns_at(job.y, job, kind), _columns_at(job.more, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        running_mean, running_var = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        first, last, part = _next(job)
        room, sums = _room_of(job, kind), _sums_at(job, part)
        while part >= 0:
            for c0 in range(first, last, job.together):
                c1 = min(c0 + job.together, last)
                start, stop = c0 * job.positions, c1 * job.positions
                mu, sigma2 = sums[0, : c1 - c0], sums[1, : c1 - c0]
                if job.training:
                    _moments_of_block(x, start, stop, job.positions, mu, sigma2, room)
                    mean[c0:c1] = mu
                    var[c0:c1] = sigma2
                    for c in range(c0, c1):
                        _follow(job, c, mu[c - c0], sigma2[c - c0], running_mean, running_var)
                else:
                    mu[:] = mean[c0:c1]
                    sigma2[:] = var[c0:c1]
                _scale_block(
                    x, start, stop, job.positions, mu, sigma2, gamma[c0:c1], beta[c0:c1], job.eps, more,
                    job.has_more, job.least, y, job.past, room,
                )  # fmt: skip
            first, last, part = _next(job)
        fence()

    return forward_few


def _do_backward_few(kind):
    def backward_few(data):
        job = numba.carray(data, (1,))[0]
        x, dy, dx = _columns_at(job.x, job, kind), _columns_at(job.dy, job, kind), _columns_at(job.y, job, kind)
        more, passed = _columns_at(job.more, job, kind), _columns_at(job.passed, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        dgamma, dbeta = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        first, last, part = _next(job)
        room, sums = _room_of(job, kind), _sums_at(job, part)
        while part >= 0:
            for c0 in range(first, last, job.together):
                c1 = min(c0 + job.together, last)
                _backward_block(
                    x, dy, c0 * job.positions, c1 * job.positions, job.positions, mean[c0:c1], var[c0:c1],
                    gamma[c0:c1], job.eps, job.training, beta[c0:c1], more, passed, job.relu, job.has_more, dx,
                    dgamma[c0:c1], dbeta[c0:c1], job.past, room, sums[None, :, : c1 - c0],
                )  # fmt: skip
            first, last, part = _next(job)
        fence()

    return backward_few


# --- channels innermost: (rows, C) -----------------------------------------------------------------------------------


# Each thread sums up its rows; the last one to be done puts the sums together; then each goes over its rows again.


@_compiled
def _combine(moments, rows, mean, var):
    """Moments of all rows by those of parts of them (Chan, Golub & LeVeque, 1983, equations 2.1)."""
    parts, _, channels = moments.shape
    for c in range(channels):
        count, first, square = 0.0, 0.0, 0.0
        for part in range(parts):
            size = rows * (part + 1) // parts - rows * part // parts
            if size > 0:
                delta = moments[part, 0, c] - first
                share = size / (count + size)
                square += moments[part, 1, c] + delta * delta * (count * share)
                first += delta * share
                count += size
        mean[c], var[c] = first, square / count


@_compiled
def _together(channels, stripe):
    """How many rows are taken as one long row: so many that it is whole stripes, if that isn't too long."""
    together = stripe // math.gcd(channels, stripe)
    return together if together * channels <= LONG else max(1, LONG // channels)


@_compiled
def _as_long_rows(v, first, last, long):
    """Rows of (rows, C) as a matrix of long rows, and what is left of them as a row that is shorter."""
    channels = v.shape[1]
    flat = v.reshape(-1)[first * channels : last * channels]
    rows = flat.size // long
    return flat[: rows * long].reshape(rows, long), flat[rows * long :]


@_compiled
def _repeat(long, channels):
    """Let the first values of a long row, one for each channel, follow again and again."""
    for k in range(channels, long.size, channels):
        long[k : k + channels] = long[:channels]


@_compiled
def _repeated(v, long):
    """The values of the channels, again and again in a long row."""
    long[: v.size] = v
    _repeat(long, v.size)
    return long


@_compiled
def _fold(long, channels, out):
    """Add up what belongs to each channel in a long row, in float64."""
    out[:] = 0.0
    _add_folded(long, channels, out)


@_compiled
def _add_folded(long, channels, out):
    """Add to each channel, in float64, what belongs to it in a long row."""
    for k in range(long.size // channels):
        _add_row(out, long[k * channels : (k + 1) * channels])


@_compiled
def _moments_of_rows(x, moments, first, last, part, room):
    """Put the mean of each column, and the sum of squares about it, into `moments`."""
    channels = x.shape[1]
    mean, square, count = moments[part, 0], moments[part, 1], 0.0
    mean[:] = 0.0
    square[:] = 0.0
    together = _together(channels, _lanes(x)[0])
    long = together * channels
    center, sums, sums_of_squares = room[0, :long], room[1, :long], room[2, :long]
    folded, folded_squares = np.empty(channels), np.empty(channels)
    rows, rest = _as_long_rows(x, first, last, long)
    for r0 in range(0, max(1, rows.shape[0]), ROWS):
        r1 = min(r0 + ROWS, rows.shape[0])
        is_last = r1 == rows.shape[0]
        size = (r1 - r0) * together + (rest.size // channels if is_last else 0)
        left = rest[: rest.size if is_last else 0]
        if r0 == 0:  # about their own mean the first ones, the others about the mean of those before
            center[:] = 0
            _sum_moments(rows, r0, r1, left, center, sums, sums_of_squares)
            _fold(sums, channels, folded)
            for c in range(channels):
                center[c] = folded[c] / size
        else:
            for c in range(channels):
                center[c] = mean[c]
        _repeat(center, channels)
        _sum_moments(rows, r0, r1, left, center, sums, sums_of_squares)
        _fold(sums, channels, folded)
        _fold(sums_of_squares, channels, folded_squares)
        share = size / (count + size)
        for c in range(channels):
            beyond = folded[c] / size
            delta = float(center[c]) + beyond - mean[c]
            square[c] += folded_squares[c] - folded[c] * beyond + delta * delta * (count * share)
            mean[c] += delta * share
        count += size


@_compiled
def _sum_moments(rows, r0, r1, rest, center, sums, squares):
    sums[:] = 0
    squares[:] = 0
    _add_moments_down(rows, r0, 0, r1 - r0, center, sums, squares)
    _add_moments_of_row(sums, squares, center, rest)


@_compiled
def _scale_rows(x, center, scale, shift, more, has_more, least, y, past, room, first, last):
    channels = x.shape[1]
    together = _together(channels, _lanes(x)[0])
    long = together * channels
    center, scale = _repeated(center, room[0, :long]), _repeated(scale, room[1, :long])
    shift, least = _repeated(shift, room[2, :long]), x.dtype.type(least)
    rows, rest = _as_long_rows(x, first, last, long)
    added, rest_added = _as_long_rows(more, first, last, long)
    out, rest_out = _as_long_rows(y, first, last, long)
    _scale_row(rest, rest_added, has_more, center, scale, shift, least, rest_out)
    past = past and rows.size > 0 and _is_on_lines(out, 0)
    for r1 in range(rows.shape[0], 0, -ROWS):  # the last ones first
        r0 = max(0, r1 - ROWS)
        _scale_down(rows, added, has_more, r0, 0, r1 - r0, center, scale, shift, least, out, past)


def _do_forward_last(kind):
    def forward_last(data):
        job = numba.carray(data, (1,))[0]
        x, y, more = _rows_at(job.x, job, kind), _rows_at(job.y, job, kind), _rows_at(job.more, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        running_mean, running_var = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        moments = numba.carray(pointer(job.sums), (job.parts, 3, job.channels), np.float64)
        lines = numba.carray(pointer(job.lines), (3, job.channels), kind)
        mine, done, room = np.empty(job.parts, np.int64), 0, _room_of(job, kind)
        first, last, part = _next(job)
        while part >= 0:
            if job.training:
                _moments_of_rows(x, moments, first, last, part, room)
            mine[done] = part
            done += 1
            if add(job.address + DONE, 1) == job.parts - 1:
                mu, sigma2 = mean.astype(np.float64), var.astype(np.float64)
                if job.training:
                    _combine(moments, job.length, mu, sigma2)
                    mean[:] = mu
                    var[:] = sigma2
                    for c in range(job.channels):
                        _follow(job, c, mu[c], sigma2[c], running_mean, running_var)
                _lines(mu, sigma2, gamma, beta, job.eps, lines[0], lines[1], lines[2])
                add(job.address + READY, 1)
            first, last, part = _next(job)
        while add(job.address + READY, 0) == 0:
            pass
        while done > 0:  # what a thread has read last may still be in its cache
            done -= 1
            first, last = _bounds(job, mine[done])
            _scale_rows(
                x, lines[0], lines[1], lines[2], more, job.has_more, job.least, y, job.past,
                room, first, last,
            )  # fmt: skip
        fence()

    return forward_last


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
        slope_of_gamma = (along - rest * above) * inv_std
        dgamma[c], dbeta[c] = slope_of_gamma, above
        k = gamma[c] * inv_std
        u = -k * inv_std * slope_of_gamma / m if training else 0.0
        scale[c], slope[c], shift[c] = k, u, -k * above / m - u * rest if training else 0.0


@_compiled
def _sums_of_rows(x, dy, center, more, passed, relu, has_more, slant, height, sums, first, last, part, room):
    channels = x.shape[1]
    together = _together(channels, _lanes(x)[0])
    long = together * channels
    a, b, d, let = room[0, :long], room[1, :long], room[2, :long], room[3]
    center, slant = _repeated(center, room[4, :long]), _repeated(slant, room[5, :long])
    height = _repeated(height, room[6, :long])
    sums[part] = 0.0
    rows, rest = _as_long_rows(x, first, last, long)
    above, rest_above = _as_long_rows(dy, first, last, long)
    added, rest_added = _as_long_rows(more, first, last, long)
    through, rest_through = _as_long_rows(passed, first, last, long)
    for r0 in range(0, max(1, rows.shape[0]), ROWS):
        r1 = min(r0 + ROWS, rows.shape[0])
        a[:] = 0
        b[:] = 0
        d[:] = 0
        _add_products_down(
            rows, above, added, r0, 0, r1 - r0, center, slant, height, relu, has_more, through, let, a, b, d
        )  # fmt: skip
        if r1 == rows.shape[0]:
            _add_products_of_row(
                rest, rest_above, rest_added, center, slant, height, relu, has_more, rest_through, let, a, b, d
            )  # fmt: skip
        _add_folded(a, channels, sums[part, 0])
        _add_folded(b, channels, sums[part, 1])
        _add_folded(d, channels, sums[part, 2])


@_compiled
def _gradient_of_rows(
    x, dy, center, more, passed, relu, has_more, slant, height, scale, slope, shift, training, dx, past, room, first,
    last,
):  # fmt: skip
    channels = x.shape[1]
    if has_more:  # what the ReLU let through is there already
        dy, relu = passed, False
    together = _together(channels, _lanes(x)[0])
    long = together * channels
    center, slant = _repeated(center, room[0, :long]), _repeated(slant, room[1, :long])
    height, scale = _repeated(height, room[2, :long]), _repeated(scale, room[3, :long])
    slope, shift = _repeated(slope, room[4, :long]), _repeated(shift, room[5, :long])
    let = room[6]
    rows, rest = _as_long_rows(x, first, last, long)
    above, rest_above = _as_long_rows(dy, first, last, long)
    out, rest_out = _as_long_rows(dx, first, last, long)
    _gradient_of_row(rest, rest_above, center, slant, height, relu, scale, slope, shift, training, let, rest_out)
    past = past and rows.size > 0 and _is_on_lines(out, 0)
    for r1 in range(rows.shape[0], 0, -ROWS):  # the last ones first
        r0 = max(0, r1 - ROWS)
        _gradient_down(
            rows, above, r0, 0, r1 - r0, center, slant, height, relu, scale, slope, shift, training, let, out, past
        )  # fmt: skip


def _do_backward_last(kind):
    def backward_last(data):
        job = numba.carray(data, (1,))[0]
        x, dy, dx = _rows_at(job.x, job, kind), _rows_at(job.dy, job, kind), _rows_at(job.y, job, kind)
        more, passed = _rows_at(job.more, job, kind), _rows_at(job.passed, job, kind)
        mean, var = _channels_at(job.mean, job, kind), _channels_at(job.var, job, kind)
        gamma, beta = _channels_at(job.gamma, job, kind), _channels_at(job.beta, job, kind)
        dgamma, dbeta = _channels_at(job.last_0, job, kind), _channels_at(job.last_1, job, kind)
        sums = numba.carray(pointer(job.sums), (job.parts, 3, job.channels), np.float64)
        lines = numba.carray(pointer(job.lines), (3, job.channels), kind)
        center, slant, height = np.empty(job.channels, kind), np.empty(job.channels, kind), np.empty(job.channels, kind)
        _lines(mean, var, gamma, beta, job.eps, center, slant, height)
        mine, done, room = np.empty(job.parts, np.int64), 0, _room_of(job, kind)
        first, last, part = _next(job)
        while part >= 0:
            _sums_of_rows(
                x, dy, center, more, passed, job.relu, job.has_more, slant, height, sums, first, last, part,
                room,
            )  # fmt: skip
            mine[done] = part
            done += 1
            if add(job.address + DONE, 1) == job.parts - 1:
                _slopes(
                    sums, job.examples, mean, var, gamma, job.eps, job.training, dgamma, dbeta,
                    lines[0], lines[1], lines[2],
                )  # fmt: skip
                add(job.address + READY, 1)
            first, last, part = _next(job)
        while add(job.address + READY, 0) == 0:
            pass
        while done > 0:
            done -= 1
            first, last = _bounds(job, mine[done])
            _gradient_of_rows(
                x, dy, center, more, passed, job.relu, job.has_more, slant, height, lines[0], lines[1], lines[2],
                job.training, dx, job.past, room, first, last,
            )  # fmt: skip
        fence()

    return backward_last
