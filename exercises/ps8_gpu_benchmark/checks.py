"""Checks of problem set 8, benchmarking batch normalization.

They are public: reading them shows what is asked, and grading runs them with other random numbers. Nothing here
measures real time: functions are timed on pretend devices with a pretend clock, so the points are the same on every
machine. A named mistake is a wrong value that the hint explains.
"""

import math
import os

import numpy as np
import torch
import torch.fx.experimental.symbolic_shapes  # autograd's first use would import it, which takes a second
from torch.overrides import TorchFunctionMode

from bnlab.checks import ProblemSet, Wrong, agree, holds

problem_set = ProblemSet("ps8_gpu_benchmark")
STEPS = ("eval", "forward", "backward")

EXACT = 1e-9  # difference allowed in counts, relative: any whole number is right or wrong
NEAR = 1e-6  # the same where a right answer may be rounded, by reading a clock or by dividing in another order


def image_shape(rng):
    """(N, C, H, W), all different and none a number of passes or bytes, so that every mix-up shows."""
    return tuple(int(size) for size in rng.choice([7, 9, 11, 13, 17], 4, replace=False))


class Shown:
    """A text in the place of an argument that has none, for "What was tried"."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return f"<{self.text}>"


def tried(student, *args):
    """Note a call again, after questions to pretend devices came in between."""
    student.asks(student.name, student.arguments, args, {})


# ------------------------------------------------------------------------------------------------------ 1. bn_bytes
bn_bytes = problem_set.question("bn_bytes(shape, itemsize, step, streaming) -> tensors, vectors", points=12)
FLOOR = {"eval": 2, "forward": 2, "backward": 3}  # passes over large tensors
AGAIN = {"eval": 0, "forward": 1, "backward": 2}  # tensors that streaming reads a second time
VECTORS = {"eval": 4, "forward": 8, "backward": 5}


def tensors_mistakes(shape, itemsize, step, streaming):
    n, c, h, w = shape
    elements = n * c * h * w
    passes = FLOOR[step] + AGAIN[step] * streaming
    right = passes * elements * itemsize
    return {
        "This forgets what is written: the result has to travel back to the memory, too.": right - elements * itemsize,
        "This counts elements. Each of them has itemsize bytes.": passes * elements,
        "These are bits. A byte has eight of them, and itemsize is in bytes already.": 8 * right,
        "Every element counts as 4 bytes here. Use the itemsize that was given.": passes * elements * 4,
        "This leaves out N: the tensors hold the whole batch.": right // n,
        "This leaves out the channels: E = N*C*H*W.": right // c,
        "This is the number of bytes of one tensor. Count the passes: each reading and each writing.": (
            elements * itemsize
        ),
        "The vectors are in this count. Return them by themselves, as the second value.": (
            right + 4 * c * VECTORS[step]
        ),
        "This number went once round a 32-bit integer. Use Python's own integers, or dtype=np.int64.": (
            (right + 2**31) % 2**32 - 2**31
        ),
    }


@bn_bytes.part("large tensors, at the floor", weight=3)
def _(student, rng):
    for step, itemsize in (("eval", 4), ("forward", 4), ("backward", 2)):
        shape = image_shape(rng)
        tensors, _ = student(shape, itemsize, step, False)
        one = math.prod(shape) * itemsize
        streamed = (
            {}
            if step == "eval"
            else {
                "This is the streaming count. At the floor (streaming=False) nothing is read twice.": (
                    (FLOOR[step] + AGAIN[step]) * one
                )
            }
        )
        agree(
            "tensors",
            tensors,
            FLOOR[step] * one,
            mistakes=tensors_mistakes(shape, itemsize, step, False) | streamed,
            tolerance=EXACT,
            hint=f'Step "{step}" at the floor: one pass for each tensor that the table reads, one for each it writes.',
        )


@bn_bytes.part("large tensors, streaming", weight=4)
def _(student, rng):
    for step, itemsize in (("eval", 4), ("forward", 2), ("backward", int(rng.choice([2, 4])))):
        shape = image_shape(rng)
        tensors, _ = student(shape, itemsize, step, True)
        one = math.prod(shape) * itemsize
        mistakes = tensors_mistakes(shape, itemsize, step, True)
        if step == "eval":
            mistakes = {
                "Evaluation has no sums over the batch, so streaming reads nothing a second time.": 3 * one
            } | mistakes
        else:
            mistakes = {
                "This is the floor. With streaming=True, what went into a sum is read a second time.": FLOOR[step] * one
            } | mistakes
        if step == "backward":
            mistakes = {
                "Only one of the tensors is read again here. Both x and dy go into sums: dy alone, and dy * x_hat.": (
                    4 * one
                )
            } | mistakes
        agree(
            "tensors",
            tensors,
            (FLOOR[step] + AGAIN[step]) * one,
            mistakes=mistakes,
            tolerance=EXACT,
            hint=f'Step "{step}", streaming: the floor, and one more pass for each tensor that went into a sum.',
        )


@bn_bytes.part("tensors of more than 2**31 bytes", weight=1)
def _(student, rng):
    shape = int(rng.integers(200, 400)), int(rng.integers(100, 190)), 224, 192
    itemsize = int(rng.choice([2, 4]))
    tensors, _ = student(shape, itemsize, "eval", False)
    right = 2 * math.prod(shape) * itemsize
    agree(
        "tensors",
        tensors,
        right,
        mistakes=tensors_mistakes(shape, itemsize, "eval", False),
        tolerance=EXACT,
        hint="Integers of 32 bits end at 2**31. Python's own never do; for NumPy's say dtype=np.int64.",
    )


@bn_bytes.part("the vectors are float32", weight=4)
def _(student, rng):
    for step, itemsize in (("eval", 2), ("forward", 2), ("backward", int(rng.choice([2, 4])))):
        shape = image_shape(rng)
        _, vectors = student(shape, itemsize, step, bool(rng.integers(2)))
        n, c = shape[:2]
        count = VECTORS[step]
        mistakes = {
            "The vectors have the itemsize of x here. They are float32, 4 bytes, whatever x is.": count * c * itemsize,
            "This is the number of elements. Each has 4 bytes.": count * c,
            "Each vector is counted once per example. There is one for the whole batch.": 4 * count * c * n,
            "This is one vector. Count all of those in the table's row.": 4 * c,
            "Streaming counts the vectors twice here. They are read or written once in any case.": 8 * count * c,
            "The vectors are counted with the itemsize of float64. They are float32, 4 bytes.": 8 * count * c,
        }
        if step != "eval":
            read = {"forward": 4, "backward": 3}[step]
            mistakes |= {
                "These are the vectors that are read. Those that are written count, too.": 4 * read * c,
                "gamma and beta, or their gradients, are all that is counted here: the table lists statistics, too.": (
                    4 * 2 * c
                ),
            }
        if step == "forward":
            mistakes["mu and sigma2 are missing: the forward pass writes them down for the backward pass."] = 4 * 6 * c
        agree(
            "vectors",
            vectors,
            4 * count * c,
            mistakes=mistakes,
            tolerance=EXACT,
            hint=f'Step "{step}" reads and writes {count} vectors of C numbers of 4 bytes.',
        )


# ------------------------------------------------------------------------------------------------------ 2. bn_flops
bn_flops = problem_set.question("bn_flops(shape, step) -> flops", points=6)


def flops_part(step, right, named):
    @bn_flops.part(f"{step}: operations per element", weight=1)
    def _(student, rng):
        shape = image_shape(rng)
        n, c, h, w = shape
        elements = n * c * h * w
        mistakes = {hint: count * elements for hint, count in named.items()} | {
            "This is the number of operations for one element. There are N*C*H*W of them.": right,
            "This is one example of the batch. There are N.": right * elements // n,
            "This leaves out the channels: E = N*C*H*W.": right * elements // c,
            "The work per channel is in this count. Leave it out.": right * elements + c,
        }
        agree(
            "flops",
            student(shape, step),
            right * elements,
            mistakes=mistakes,
            tolerance=EXACT,
            hint=f"Count the signs in the middle column of the table: {right} for every element.",
        )


flops_part(
    "eval",
    2,
    {"a*b + c is one instruction, but two operations: a multiplication and an addition.": 1},
)
flops_part(
    "forward",
    6,
    {
        "The sums are missing: every x is added to s, and (x - mu)**2 to q.": 2,
        "Each line counts as one operation here. q + (x - mu)**2 has three: subtract, multiply, add.": 3,
        "A multiplication with the addition behind it counts as one here. They are two operations.": 4,
        "Both sums count as one operation here. The second has three: subtract, multiply, add.": 4,
        "The sums are there; y = k*x + t is missing.": 4,
        "The square counts as no operation here. It is a multiplication: (x - mu) * (x - mu).": 5,
        "Only one of the two sums is in this count.": 5,
    },
)
flops_part(
    "backward",
    8,
    {
        "The sums are missing: every dy is added to s, and dy * (x - mu) to q.": 4,
        "Each line counts as one operation here. Count the signs in each.": 3,
        "A multiplication with the addition behind it counts as one here. They are two operations.": 5,
        "Both sums count as one operation here. The second has three: subtract, multiply, add.": 6,
        "The products k*dy and u*x are missing: multiplications count, too.": 6,
        "These are the operations of the forward pass.": 6,
        "Only one of the two sums is in this count.": 7,
    },
)


# ------------------------------------------------------------------------------------------------------ 3. roofline
roofline = problem_set.question("roofline(flops, nbytes, bandwidth, peak) -> intensity, attainable, seconds", points=10)


def computation(rng, memory_bound):
    """flops, nbytes, bandwidth in GB/s and peak in Gflop/s, on the side of the ridge that is asked."""
    bandwidth, ridge = float(rng.uniform(20, 3000)), float(rng.uniform(4, 60))
    peak = ridge * bandwidth
    intensity = ridge * float(rng.uniform(0.01, 0.5) if memory_bound else rng.uniform(10, 60))
    nbytes = int(rng.integers(10**6, 10**9))
    return round(intensity * nbytes), nbytes, bandwidth, peak


@roofline.part("arithmetic intensity", weight=2)
def _(student, rng):
    flops, nbytes, bandwidth, peak = computation(rng, memory_bound=bool(rng.integers(2)))
    intensity, _, _ = student(flops, nbytes, bandwidth, peak)
    mistakes = {
        "This is upside down: bytes per flop. The intensity is flops per byte.": nbytes / flops,
        "These are flops per bit. nbytes counts bytes.": flops / nbytes / 8,
        "These are flops per float32 element. The intensity is flops per byte.": 4 * flops / nbytes,
        "This is where the roof bends, peak / bandwidth: a property of the machine, not of the computation.": (
            peak / bandwidth
        ),
        "This divides whole numbers, and the rest is lost: use / instead of //.": flops // nbytes,
    }
    agree("intensity", intensity, flops / nbytes, mistakes=mistakes, tolerance=NEAR)


def attainable_part(memory_bound):
    where = "memory is the limit" if memory_bound else "the peak is the limit"

    @roofline.part(f"attainable performance where {where}", weight=2)
    def _(student, rng):
        flops, nbytes, bandwidth, peak = computation(rng, memory_bound)
        _, attainable, _ = student(flops, nbytes, bandwidth, peak)
        slope = flops / nbytes * bandwidth
        mistakes = {
            "This is the higher of the two limits. One can't be faster than the slower one allows: take the min.": max(
                peak, slope
            ),
            "This is the peak. Below the bend of the roof, memory sets the limit: intensity times bandwidth.": peak,
            "This is the slope, beyond the peak. No computation is faster than the peak: take the min.": slope,
            "The intensity is upside down in here: flops per byte times bytes per second gives flops per second.": min(
                peak, nbytes / flops * bandwidth
            ),
            "This is in flops per second. Gflop/s are asked, and flop/byte times GB/s gives them directly.": (
                1e9 * min(peak, slope)
            ),
            "This is in Tflop/s. Gflop/s are asked.": min(peak, slope) / 1e3,
            "Here a GB has 2**30 bytes. GB/s are 1e9 bytes per second; 2**30 is a GiB.": min(peak, slope * 2**30 / 1e9),
            "This takes the bandwidth for bits per second. GB are bytes.": min(peak, slope / 8),
            "This adds the two limits up. The stricter one alone decides.": 1 / (1 / peak + 1 / slope),
        }
        agree("attainable", attainable, min(peak, slope), mistakes=mistakes, tolerance=NEAR)


def seconds_part(memory_bound):
    where = "memory is the limit" if memory_bound else "the peak is the limit"

    @roofline.part(f"shortest time where {where}", weight=2)
    def _(student, rng):
        flops, nbytes, bandwidth, peak = computation(rng, memory_bound)
        _, _, seconds = student(flops, nbytes, bandwidth, peak)
        moving, computing = nbytes / (bandwidth * 1e9), flops / (peak * 1e9)
        right = max(moving, computing)
        mistakes = {
            "This is the shorter of the two times. The computation has to wait for the longer one: take the max.": min(
                moving, computing
            ),
            "This adds the two times up. Moving and computing go on at the same time: take the max.": (
                moving + computing
            ),
            "Here a GB has 2**30 bytes. GB/s are 1e9 bytes per second; 2**30 is a GiB.": max(
                nbytes / (bandwidth * 2**30), computing
            ),
            "All prefixes are powers of 2 here. GB/s and Gflop/s are 1e9 per second.": right * 1e9 / 2**30,
            "This takes the bandwidth for bits per second. GB are bytes.": max(8 * moving, computing),
            "This is in nanoseconds: GB/s are 1e9 bytes per second, Gflop/s are 1e9 flops per second.": 1e9 * right,
            "This is in milliseconds. Return seconds.": 1e3 * right,
            "This is in microseconds. Return seconds.": 1e6 * right,
            "This is one divided by the time.": 1 / right,
            "This is the time for computing alone. Memory may take longer.": computing,
            "This is the time for moving the bytes alone. The computing may take longer.": moving,
        }
        agree("seconds", seconds, right, mistakes=mistakes, tolerance=NEAR)


attainable_part(memory_bound=True)
attainable_part(memory_bound=False)
seconds_part(memory_bound=True)
seconds_part(memory_bound=False)


# ------------------------------------------------------------------------------------------------------- 4. measure
class FakeDevice:
    """A pretend device with a pretend clock, on which time passes only by running something.

    Parameters
    ----------
    seconds : sequence of float
        How long the device works on the first call, the second, and so on. The last one holds for all that follow.
    asynchronous : bool
        As a GPU: a call returns when the order is placed, and the device works while the caller goes on. Otherwise, as
        on a processor, a call returns when it is done.
    busy : float
        Seconds of other work that are in the queue at the start.

    Attributes
    ----------
    history : str
        What happened: R for run, S for synchronize, C for a reading of the clock.
    """

    LAUNCH = 1e-5  # seconds that it takes the caller to place an order

    def __init__(self, seconds, asynchronous, busy=0.0):
        self.seconds = [float(s) for s in seconds]
        self.asynchronous = asynchronous
        self.now = 1000.0
        self.busy_until = self.now + busy
        self.history = ""

    def clock(self):
        """The time in seconds."""
        self.history += "C"
        return self.now

    def run(self):
        """The function that is to be timed."""
        seconds = self.seconds[min(self.history.count("R"), len(self.seconds) - 1)]
        self.history += "R"
        self.now += self.LAUNCH
        self.busy_until = max(self.busy_until, self.now) + seconds
        if not self.asynchronous:
            self.now = self.busy_until

    def synchronize(self):
        """Wait until the device has done all its work."""
        self.history += "S"
        self.now = max(self.now, self.busy_until)


measure = problem_set.question("measure(function, clock, synchronize, warmup, repeats) -> low, median, high", points=18)


ORDER_ONLY = {
    "This is the time to place the order: the device hasn't done its work yet. Call synchronize() before you stop the "
    "clock.": 3 * [FakeDevice.LAUNCH]
}


def timed(student, seconds, asynchronous, warmup, repeats, busy=0.0):
    """What the student's stopwatch says about a pretend device, and that device's history."""
    device = student.make("checks:FakeDevice", [float(s) for s in seconds], asynchronous, busy)
    parts = [device.get(name) for name in ("run", "clock", "synchronize")]
    quantiles = student(*parts, warmup, repeats)
    history = device.get("history")
    many = ", ".join(f"{s:.3g}" for s in seconds[:4]) + (", ..." if len(seconds) > 4 else "")
    kind = "asynchronous" if asynchronous else "synchronous"
    takes = Shown(f"takes {many} s on a pretend device, {kind}")
    tried(student, takes, Shown("its clock"), Shown("waits for it"), warmup, repeats)
    return quantiles, history


def agree_quantiles(given, right, mistakes, hint=""):
    """Compare low, median and high. `mistakes`: what each of them would be, by hint."""
    numbers = all(isinstance(value, int | float | np.number) for value in given)
    whole = {text: values for text, values in mistakes.items() if numbers and np.allclose(values, given, NEAR, 0)}
    mistakes = whole or mistakes
    for name, value, expected, k in zip(("low", "median", "high"), given, right, range(3), strict=True):
        named = {text: values[k] for text, values in mistakes.items() if abs(values[k] - expected) > 1e-3 * expected}
        agree(name, value, expected, mistakes=named, tolerance=NEAR, hint=hint)


@measure.part("median and quartiles of the repeats", weight=6)
def _(student, rng):
    repeats = int(rng.choice([5, 9, 13]))
    seconds = rng.uniform(0.001, 0.002, repeats)
    seconds[rng.integers(repeats)] *= 10  # something got in the way
    given, history = timed(student, seconds, False, 0, repeats)
    times = seconds + FakeDevice.LAUNCH
    right = np.quantile(times, [0.25, 0.5, 0.75])
    half = np.diff(right).sum() / 2
    mean, std = times.mean(), times.std()
    mistakes = {
        "This is the mean. One disturbed repeat spoils it: take the median.": 3 * [mean],
        "Mean and standard deviation are spoiled by one disturbed repeat: take the quartiles and the median.": (
            [mean - std, mean, mean + std]
        ),
        "This is the sum of all repeats. The time of one call is asked.": 3 * [times.sum()],
        "This is the shortest time. Return the lower quartile, the median and the upper quartile.": 3 * [times.min()],
        "This is the longest time. Return the lower quartile, the median and the upper quartile.": 3 * [times.max()],
        "These are the shortest and the longest time. The quartiles leave a quarter of the times on each side.": (
            [times.min(), right[1], times.max()]
        ),
        "Quartiles are asked, 0.25 and 0.75. These are the quantiles 0.2 and 0.8.": np.quantile(times, [0.2, 0.5, 0.8]),
        "Quartiles are asked, 0.25 and 0.75. These are the quantiles 0.1 and 0.9.": np.quantile(times, [0.1, 0.5, 0.9]),
        "low and high have swapped their places.": right[::-1],
        "The median comes second: low, median, high.": right[[1, 0, 2]],
        "This is in milliseconds. Return seconds.": 1e3 * right,
        "This is in microseconds. Return seconds.": 1e6 * right,
        "This is in nanoseconds. Return seconds.": 1e9 * right,
        "These values are sums over several calls. Time every call by itself.": repeats * right,
        "This is the time between the quartiles, not the quartiles themselves.": [half, right[1], half],
        "The middle of the times as they came isn't the median: sort them first.": (
            [times[repeats // 4], times[repeats // 2], times[3 * repeats // 4]]
        ),
    }
    hint = "Quantiles 0.25, 0.5 and 0.75 of the times of single calls, each between two readings of the clock."
    if history.count("C") < 2 * repeats:
        hint = f"The clock was read {history.count('C')} times. Time every call by itself: two readings for each."
    agree_quantiles(given, right, mistakes, hint)


@measure.part("waits for the device before it stops the clock", weight=4)
def _(student, rng):
    seconds = float(rng.uniform(0.001, 0.01))
    given, _ = timed(student, [seconds], True, 0, 2)
    right = 3 * [FakeDevice.LAUNCH + seconds]
    hint = (
        "The device works on after the call has returned. Call synchronize() between the call and the second reading."
    )
    agree_quantiles(given, right, ORDER_ONLY, hint)


@measure.part("waits for the device before it starts the clock", weight=3)
def _(student, rng):
    seconds = float(rng.uniform(0.001, 0.01))
    warmup = int(rng.integers(0, 4))
    given, history = timed(student, [seconds], True, warmup, 2, busy=100 * seconds)
    right = 3 * [FakeDevice.LAUNCH + seconds]
    hint = "Every repeat takes the same here. Which work lies between your two readings of the clock?"
    if "S" not in history.partition("C")[0]:
        hint = (
            "The queue wasn't empty when the clock started: its work, and that of the warm-up, was timed as well. Call "
            "synchronize() before the first reading."
        )
    agree_quantiles(given, right, ORDER_ONLY, hint)


@measure.part("leaves the warm-up calls out", weight=3)
def _(student, rng):
    warmup = int(rng.integers(1, 4))
    seconds = float(rng.uniform(0.001, 0.01))
    given, history = timed(student, [*warmup * [300 * seconds], seconds], False, warmup, 2)
    right = 3 * [FakeDevice.LAUNCH + seconds]
    before = history.partition("C")[0].count("R")
    cold = "The first call takes" if warmup == 1 else f"The first {warmup} calls take"
    hint = f"{cold} {300 * seconds:.2g} s here, all others {seconds:.2g} s. "
    if before < warmup:
        hint += (
            f"The clock was read after {before} of them already, and slow calls are among the times: call the function "
            "warmup times before you measure, and ignore these times."
        )
    agree_quantiles(given, right, {}, hint)


@measure.part("calls the function warmup + repeats times", weight=2, counts_alone=False)
def _(student, rng):
    for warmup in (0, int(rng.integers(1, 6))):
        repeats = int(rng.integers(2, 9))
        _, history = timed(student, [0.001], False, warmup, repeats)
        calls = history.count("R")
        holds(
            calls == warmup + repeats,
            f"With warmup={warmup} and repeats={repeats} the function was called {calls} times, expected "
            f"{warmup + repeats}.",
            "The warm-up calls are missing."
            if calls == repeats
            else "Its result isn't needed: call it for the warm-up and once per repeat, nowhere else.",
        )


# ------------------------------------------------------------------------------------------------ 6. copy_bandwidth
class FakeTimer:
    """A pretend timer: it calls the function, notes what PyTorch does in it, and says that it took `seconds`.

    Attributes
    ----------
    copied : list of str
        What was copied by each `copy_`: "whole", "part" or "onto itself".
    reserved : list of str
        Operations that reserved a large piece of memory.
    other : list of str
        Other operations on large tensors.
    """

    def __init__(self, seconds, nbytes):
        self.seconds, self.nbytes = seconds, nbytes
        self.timings, self.copied, self.reserved, self.other = 0, [], [], []

    def __call__(self, function):
        if not callable(function):
            raise TypeError(
                f"a timer is given the function itself, such as lambda: a.copy_(b), and calls it. This is its result, "
                f"a {type(function).__name__}"
            )
        self.timings += 1
        for _ in range(3):
            with _Noted(self):
                function()
        return self.seconds


class _Noted(TorchFunctionMode):
    """Tells a FakeTimer what the calls of PyTorch's functions do to memory."""

    def __init__(self, timer):
        super().__init__()
        self.timer = timer

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.__name__
        known = {_memory(a) for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)}
        result = function(*args, **kwargs)
        if name in ("copy_", "__setitem__"):
            to, source = args[0], args[-1] if len(args) > 1 else kwargs.get("src", kwargs.get("other"))
            size = min(t.numel() * t.element_size() for t in (to, source))
            kind = "whole" if size == self.timer.nbytes else "part" if size < self.timer.nbytes else "more"
            self.timer.copied.append("onto itself" if _memory(to) == _memory(source) else kind)
        elif isinstance(result, torch.Tensor) and result.numel() > 1:
            if _memory(result) not in known:
                self.timer.reserved.append(name)
            elif name.strip("_") + "_" == name or "out" in kwargs:
                self.timer.other.append(name)
        return result


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()


copy_bandwidth = problem_set.question("copy_bandwidth(x, timer) -> bandwidth", points=9)


def copied(student, rng, dtype=torch.float32):
    """The bandwidth that the student found for a random tensor, with the tensor, the seconds and the timer."""
    shape = [int(size) for size in rng.integers(3, 9, rng.integers(1, 5))]
    x = torch.from_numpy(rng.normal(size=shape)).to(dtype)
    nbytes = x.numel() * x.element_size()
    seconds = nbytes / float(rng.uniform(1e10, 1e12))
    timer = student.make("checks:FakeTimer", seconds, nbytes)
    return student(x, timer), x, seconds, timer


@copy_bandwidth.part("bytes read and written per second, in GB/s", weight=4)
def _(student, rng):
    for dtype in (torch.float16, torch.float64, torch.float32):
        bandwidth, x, seconds, _ = copied(student, rng, dtype)
        nbytes = x.numel() * x.element_size()
        right = 2 * nbytes / seconds / 1e9
        mistakes = {
            "This counts what is read only. A copy writes as many bytes: twice the size.": right / 2,
            "These are GiB, of 2**30 bytes. A GB has 1e9.": right * 1e9 / 2**30,
            "This is in bytes per second. Divide by 1e9.": right * 1e9,
            "This is in MB/s. Divide by 1e9 for GB/s.": right * 1e3,
            "These are gigabits. Bytes are asked: 8 bits each.": 8 * right,
            "This counts elements. Each has x.element_size() bytes.": right / x.element_size(),
            "Every element counts as 4 bytes here, but x isn't float32. Ask x.element_size().": (
                right * 4 / x.element_size()
            ),
            "This is upside down: seconds per GB. Divide the bytes by the seconds.": 1 / right,
            "This divides by the length of x alone: x.numel() counts the elements of all axes.": (
                2 * len(x) * x.element_size() / seconds / 1e9
            ),
        }
        agree("bandwidth", bandwidth, right, mistakes=mistakes, tolerance=NEAR)


@copy_bandwidth.part("times one copy of x, and nothing else", weight=4)
def _(student, rng):
    _, x, _, timer = copied(student, rng)
    timings, moved, reserved, other = (timer.get(name) for name in ("timings", "copied", "reserved", "other"))
    tried(student, x, timer)
    holds(timings == 1, f"The timer was used {timings} times, expected once.")
    holds(
        not reserved,
        f"The function that was timed reserves new memory: {', '.join(sorted(set(reserved)))}.",
        "Reserving memory takes time that isn't copying. Make the destination with torch.empty_like before you start "
        "the timer, and copy into it with destination.copy_(x).",
    )
    holds(
        bool(moved),
        "Nothing was copied while the timer ran.",
        "Give the timer a function that copies each time it is called: lambda: destination.copy_(x).",
    )
    holds(
        "onto itself" not in moved,
        "The copy goes onto x itself, so nothing has to be moved.",
        "b = a gives the same tensor a second name. torch.empty_like(x) makes a new one.",
    )
    holds(
        len(moved) == 3 and set(moved) == {"whole"} and not other,
        f"The timer called the function 3 times, and it ran {len(moved)} copies of sizes {moved}"
        + (f" and {', '.join(sorted(set(other)))}." if other else ", expected one of all of x each time."),
        "One copy_ of the whole tensor, into one of the same shape and dtype, and nothing else in the timed function.",
    )


def timer_arguments(rng):
    return torch.from_numpy(rng.normal(size=(4, 5)).astype(np.float32))


@copy_bandwidth.part("leaves its inputs as they were", weight=1, counts_alone=False)
def _(student, rng):
    x = timer_arguments(rng)
    timer = student.make("checks:FakeTimer", 1e-6, x.numel() * 4)
    changed = student.changed_by(x, timer)
    holds(
        "x" not in changed,
        "copy_bandwidth changed its input x in place.",
        "a.copy_(b) copies from b into a: x is what is copied from, destination.copy_(x).",
    )


# ---------------------------------------------------------------------------------------------------- 7. batch_norm
batch_norm = problem_set.question("batch_norm(x, gamma, beta, eps) -> y", points=10)


def layer_arguments(rng, dtype=np.float64, mean=3.0):
    n, c, h, w = (int(size) for size in rng.choice(np.arange(2, 7), 4, replace=False))
    x = rng.normal(size=(n, c, h, w)) + rng.normal(size=(n, 1, 1, 1)) + rng.normal(size=(h, w))
    x = x * rng.uniform(1.5, 3, (c, 1, 1)) + mean * rng.uniform(1, 2, (c, 1, 1))
    gamma, beta = rng.uniform(1.5, 3, c), rng.uniform(1, 4, c)
    return *(torch.from_numpy(a.astype(dtype)) for a in (x, gamma, beta)), float(rng.uniform(0.2, 0.5))


def transformed(x, gamma, beta, eps, axes=(0, 2, 3), detach=False, correction=0, form="root"):
    """BN by its formula in float64, or with one of the mistakes that are looked for."""
    x, gamma, beta = x.double(), gamma.double().reshape(1, -1, 1, 1), beta.double().reshape(1, -1, 1, 1)
    mean, var = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=correction)
    if detach:
        mean, var = mean.detach(), var.detach()
    scale = {
        "root": (var + eps).sqrt(),
        "variance": var + eps,
        "outside": var.sqrt() + eps,
        "without": var.sqrt(),
        "1e-5": (var + 1e-5).sqrt(),
    }[form]
    return gamma * (x - mean) / scale + beta


def output_mistakes(x, gamma, beta, eps):
    one, zero = torch.ones_like(gamma), torch.zeros_like(beta)
    return {
        "This divides by the variance. Divide by its square root.": transformed(x, gamma, beta, eps, form="variance"),
        "eps was added outside the root. It belongs to the variance, inside.": (
            transformed(x, gamma, beta, eps, form="outside")
        ),
        "eps has no effect here. Add the eps that was given to the variance.": (
            transformed(x, gamma, beta, eps, form="without")
        ),
        "eps is fixed at 1e-5 here. Add the eps that was given.": transformed(x, gamma, beta, eps, form="1e-5"),
        "This divides by m - 1, the unbiased variance. Normalize with the biased one: correction=0.": (
            transformed(x, gamma, beta, eps, correction=1)
        ),
        "These are statistics of each pixel, over the batch alone. A channel has one mean, over N, H and W.": (
            transformed(x, gamma, beta, eps, axes=(0,))
        ),
        "These are statistics of each image by itself, over H and W. Average over N, too.": (
            transformed(x, gamma, beta, eps, axes=(2, 3))
        ),
        "These are statistics of each example over all its channels. A statistic belongs to a channel.": (
            transformed(x, gamma, beta, eps, axes=(1, 2, 3))
        ),
        "This is one mean for all channels together. Each has its own.": (
            transformed(x, gamma, beta, eps, axes=(0, 1, 2, 3))
        ),
        "gamma and beta are missing.": transformed(x, one, zero, eps),
        "beta is missing.": transformed(x, gamma, zero, eps),
        "gamma is missing.": transformed(x, one, beta, eps),
    }


@batch_norm.part("y, in float64 and float32", weight=4)
def _(student, rng):
    for dtype in (np.float64, np.float32):
        arguments = layer_arguments(rng, dtype)
        y = student(*arguments)
        agree("y", y, transformed(*arguments), mistakes=output_mistakes(*arguments), tolerance=NEAR_TENSOR)


NEAR_TENSOR = 2e-4  # a right computation in float32 stays well within it


@batch_norm.part("gradients flow to x, gamma and beta", weight=4)
def _(student, rng):
    x, gamma, beta, eps = layer_arguments(rng)
    dy = torch.from_numpy(rng.normal(size=x.shape))
    y, gradients = student.vjp((x, gamma, beta, eps), dy)
    holds(
        isinstance(y, torch.Tensor),
        f"batch_norm returned a {type(y).__name__}, expected a torch tensor.",
        "Autograd needs tensors from beginning to end.",
    )

    def by_autograd(**mistake):
        leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]
        return torch.autograd.grad(transformed(*leaves, eps, **mistake), leaves, dy)

    right, constants, unbiased = by_autograd(), by_autograd(detach=True), by_autograd(correction=1)
    for name, found, expected, constant, other in zip(
        ("dx", "dgamma", "dbeta"), gradients, right, constants, unbiased, strict=False
    ):
        holds(
            found is not None,
            f"No gradient arrives: {name} is None.",
            "Something on the way cuts it off: detach(), .data, .item(), .numpy(), torch.tensor(...) or "
            "torch.no_grad(). Use tensor operations on the arguments themselves.",
        )
        mistakes = {
            "The mean and the variance count as constants here: no gradient flows through them. Look for detach(), "
            ".data or torch.no_grad().": constant,
            "This is the gradient with the unbiased variance. BN normalizes with the biased one: correction=0.": other,
        }
        agree(
            name,
            found,
            expected,
            mistakes=mistakes if name == "dx" else None,
            tolerance=NEAR_TENSOR,
            hint="Is y right? Its check is the part above.",
        )


@batch_norm.part("a variance that survives a large mean", weight=1)
def _(student, rng):
    x, gamma, beta, eps = layer_arguments(rng, np.float32)
    x = torch.round(x * 256) / 256 + 4096 * torch.sign(x.mean((0, 2, 3), keepdim=True))  # exact in float32
    hint = (
        "The channel's mean is near 4000 and its spread near 3. The mean of x**2 minus the square of the mean leaves "
        "nothing of that in float32: subtract the mean from x first, then square."
    )
    y = student(x, gamma, beta, eps)
    agree("y", y, transformed(x, gamma, beta, eps), mistakes=None, tolerance=5e-3, hint=hint)


batch_norm.keeps_its_inputs(lambda rng: layer_arguments(rng))


# ------------------------------------------------------------------------------------------------------- 8. why_not
class Returns:
    """An implementation that always returns the same tensors."""

    def __init__(self, *values):
        self.values = values

    def __call__(self):
        return tuple(value.clone() for value in self.values)


class Raises:
    """An implementation that can't run here."""

    def __init__(self, kind, message):
        self.error = {"RuntimeError": RuntimeError, "ImportError": ImportError, "ValueError": ValueError}[kind](message)

    def __call__(self):
        raise self.error


why_not = problem_set.question("why_not(run, expected, tolerance) -> reason", points=9)
DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SCALES = (1e-3, 1.0, 300.0)
ROUNDING = {"float64": 1e-12, "float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}


def results_of(rng, scale=1.0):
    """Right results in float64, of different shapes, as y and three gradients have them."""
    n, c, h, w = (int(size) for size in rng.choice(np.arange(2, 7), 4, replace=False))
    shapes = ((n, c, h, w), (n, c, h, w), (c,), (c,))
    return [scale * torch.from_numpy(rng.normal(size=shape) + 1.5) for shape in shapes]


def judged(student, results, expected, tolerance):
    """The student's reason for or against an implementation that returns `results`."""
    reason = text(student(student.make("checks:Returns", *results), expected, tolerance))
    tried(student, listed(results), listed(expected), tolerance)
    return reason


def listed(tensors):
    kinds = (f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in tensors)
    return Shown(f"{len(tensors)} tensors: {', '.join(kinds)}")


def text(reason):
    holds(
        isinstance(reason, str),
        f"why_not returned a {type(reason).__name__}, expected a text.",
        'Return a sentence, or "" where there is nothing to say against it.',
    )
    return reason


def admits(reason, message, hint):
    holds(not reason, f"{message} It was refused: {reason!r}.", hint)


def refuses(reason, message, hint):
    holds(bool(reason), f"{message} It was admitted.", hint)


@why_not.part("admits what is right up to rounding", weight=2, counts_alone=False)
def _(student, rng):
    for scale in SCALES:
        name = str(rng.choice(list(DTYPES)))
        expected = results_of(rng, scale)
        results = [t.to(DTYPES[name]) for t in expected]
        admits(
            judged(student, results, expected, ROUNDING[name]),
            f"These results (near {scale:g}) are right up to the rounding of {name}, and the tolerance is "
            f"{ROUNDING[name]:g}.",
            "The error is relative to the largest absolute value of what is expected in the same result.",
        )
    expected[0].flatten()[0] = 0  # an element may be 0: no error is relative to it
    results = [t + 0.9e-3 * t.abs().max() for t in expected]
    admits(
        judged(student, results, expected, 1e-3),
        "The largest error is 0.9 times the tolerance, relative to the largest expected value.",
        "Divide the largest error by the largest absolute value that is expected. Not relative to each element: one of "
        "them is 0 here. And the tolerance is no bound for the error as it is.",
    )


@why_not.part("refuses what is off", weight=2)
def _(student, rng):
    for number, scale in enumerate([*SCALES, float(rng.choice(SCALES))]):
        expected = results_of(rng, scale)
        results = [t.clone() for t in expected]
        off = results[number].flatten()
        sign = float(rng.choice([-1.0, 1.0]))
        off[rng.integers(len(off))] += sign * 1.5e-3 * float(expected[number].abs().max())
        refuses(
            judged(student, results, expected, 1e-3),
            f"One element of result {number} is {'too large' if sign > 0 else 'too small'} by 1.5 times the tolerance "
            f"(the values are near {scale:g}).",
            "The largest error decides, of every result, in both directions, relative to the largest expected value. A "
            "mean error hides a single wrong element.",
        )


@why_not.part("compares in float64", weight=1)
def _(student, rng):
    name = str(rng.choice(["float16", "bfloat16"]))
    expected = results_of(rng)
    rounded = [t.to(DTYPES[name]) for t in expected]
    refuses(
        judged(student, rounded, expected, 1e-5),
        f"These results are rounded to {name}, which is off by more than the tolerance of 1e-05.",
        "If the truth is rounded to the same format, the error vanishes: convert the result to float64, not the truth "
        f"to {name}.",
    )


@why_not.part("refuses NaN and infinity", weight=1)
def _(student, rng):
    expected = results_of(rng)
    for bad in (math.nan, math.inf, -math.inf):
        number = int(rng.integers(4))
        results = [t.clone() for t in expected]
        results[number].flatten()[rng.integers(results[number].numel())] = bad
        refuses(
            judged(student, results, expected, 1e-3),
            f"There is a {bad} in result {number}.",
            "Every comparison with NaN is false, also `error > tolerance`. Ask torch.isfinite, or refuse unless "
            "`error <= tolerance`.",
        )


@why_not.part("refuses other shapes and a missing result", weight=2)
def _(student, rng):
    expected = results_of(rng)
    c = expected[2].shape[0]
    hint = "Broadcasting fits a shape to another one without an error. Compare the shapes before the values."
    constant = [torch.full_like(t, 2.0) for t in expected]
    lower = [*constant[:2], torch.full((1, c), 2.0), constant[3]]
    refuses(judged(student, lower, constant, 1e-3), f"Result 2 has shape (1, {c}), expected ({c},).", hint)
    single = [torch.full((1,), 2.0), *constant[1:]]
    refuses(
        judged(student, single, constant, 1e-3),
        f"Result 0 has shape (1,), expected {tuple(constant[0].shape)}.",
        hint,
    )
    message = "It returns 3 results, expected 4."
    hint = "zip stops at the shorter one: compare the lengths first."
    refuses(judged(student, expected[:3], expected, 1e-3), message, hint)
    refuses(judged(student, [*expected, expected[0]], expected, 1e-3), "It returns 5 results, expected 4.", hint)


@why_not.part("refuses what raises, and goes on", weight=1)
def _(student, rng):
    kind = str(rng.choice(["RuntimeError", "ImportError", "ValueError"]))
    run = student.make("checks:Raises", kind, "no compiler found")
    failure = student.failure(run, results_of(rng), 1e-3)
    holds(
        failure is None,
        f"The implementation raised {kind}, and so did why_not.",
        "A benchmark goes on without that contestant: try: results = run(), and except Exception as error: return a "
        "text.",
    )
    refuses(text(student(run, results_of(rng), 1e-3)), f"It raises {kind}.", "Return a text that says so.")


# ---------------------------------------------------------------------------------------------------------- 9. race
class Track:
    """A pretend machine whose implementations get slower and faster with its moods.

    Parameters
    ----------
    seconds : dict of str to float
        What each implementation takes, by name, on a good day.
    moods : list of float
        By how much the first timing takes longer, the second one, and so on. The last one holds for all that follow.

    Attributes
    ----------
    names : list of str
        Who was timed, in order.
    times : list of float
        What the timer said.
    """

    def __init__(self, seconds, moods):
        self.seconds, self.moods = seconds, moods
        self.names, self.times, self._called = [], [], []

    def function(self, name):
        """The implementation of this name."""
        return lambda: self._called.append(name)

    def timer(self, function):
        """Seconds of one call of the function."""
        if not callable(function):
            raise TypeError(
                "a timer is given the function itself, without parentheses, and calls it. This is a "
                f"{type(function).__name__}"
            )
        self._called.clear()
        function()
        if len(self._called) != 1:
            raise ValueError(f"the function to be timed called {len(self._called)} implementations, expected one")
        mood = self.moods[min(len(self.times), len(self.moods) - 1)]
        self.names.append(self._called[0])
        self.times.append(self.seconds[self._called[0]] * mood)
        return self.times[-1]


COSTS = (1e-3, 2e-3, 3e-3, 5e-3, 8e-3)  # seconds
race = problem_set.question("race(functions, timer, rounds) -> seconds, speedup", points=12)


def raced(student, rng):
    """What the student's race says, and what was timed: names and times, in order."""
    names = [str(name) for name in rng.permutation(["torch", "bnlab", "own", "fused", "compiled"])]
    names = names[: rng.integers(3, 6)]
    rounds = int(rng.choice([5, 7, 9]))
    count = rounds * len(names)
    cost = {name: float(cost) for name, cost in zip(names, rng.permutation(COSTS)[: len(names)], strict=True)}
    moods = np.linspace(1, rng.uniform(2, 3), count) * rng.uniform(1, 1.15, count)
    start = int(rng.integers(rounds - 1)) * len(names)
    moods[start : start + len(names)] *= 6  # a round in which something got in the way
    track = student.make("checks:Track", cost, moods.tolist())
    functions = {name: track.call("function", name) for name in names}
    seconds, speedup = student(functions, track.get("timer"), rounds)
    timed_names, times = track.get("names"), track.get("times")
    tried(student, {name: Shown(f"takes {cost[name]:g} s") for name in names}, Shown("of a moody machine"), rounds)
    return names, rounds, seconds, speedup, timed_names, times


def by_name(what, given, names):
    holds(
        isinstance(given, dict) and sorted(given) == sorted(names),
        f"{what} is a {type(given).__name__}"
        + (f" with the keys {sorted(map(str, given))}" if isinstance(given, dict) else "")
        + f", expected a dictionary with the keys {sorted(names)}.",
        "One entry for every implementation, the baseline included.",
    )
    return given


def orderly(names, rounds, timed_names):
    """Raise unless each round times each implementation once."""
    k = len(names)
    first = timed_names[:rounds]
    hint = "The loop over rounds is the outer one, and the loop over implementations the inner one."
    if len(timed_names) == k * rounds and len(first) == rounds and len(set(first)) == 1:
        raise Wrong(
            f"All {rounds} timings of {first[0]} came before the first of another one.",
            "Not in rounds: if the machine slows down meanwhile, whoever comes later looks slow. " + hint,
        )
    holds(
        len(timed_names) == k * rounds,
        f"With {k} implementations and {rounds} rounds there were {len(timed_names)} timings, expected {k * rounds}.",
        "Each implementation is timed once in each round, the baseline as well, and never outside the rounds.",
    )
    for number in range(rounds):
        block = timed_names[number * k : (number + 1) * k]
        holds(
            sorted(block) == sorted(names),
            f"Timings {number * k + 1} to {(number + 1) * k} should be one round, and were of {', '.join(block)}.",
            hint,
        )


@race.part("in every round, everyone once", weight=4)
def _(student, rng):
    names, rounds, _, _, timed_names, _ = raced(student, rng)
    orderly(names, rounds, timed_names)


@race.part("seconds: the median over the rounds", weight=3)
def _(student, rng):
    names, _, seconds, _, timed_names, times = raced(student, rng)
    by_name("seconds", seconds, names)
    for name in names:
        own = np.array([t for other, t in zip(timed_names, times, strict=True) if other == name])
        holds(len(own) > 0, f"{name} was never timed.")
        mistakes = {
            "This is the mean. One round with a disturbance spoils it: take the median.": own.mean(),
            "This is the shortest of the rounds. The median is asked.": own.min(),
            "This is the longest of the rounds. The median is asked.": own.max(),
            "This is the sum of all rounds.": own.sum(),
            "This is the time in the last round. The median of all is asked.": own[-1],
            "This is the time in the first round. The median of all is asked.": own[0],
            "This is in milliseconds. Return seconds.": 1e3 * np.median(own),
        }
        agree(f'seconds["{name}"]', seconds[name], np.median(own), mistakes=mistakes, tolerance=NEAR)


@race.part("speedup: the median of the ratios within a round", weight=5)
def _(student, rng):
    names, rounds, _, speedup, timed_names, times = raced(student, rng)
    by_name("speedup", speedup, names)
    orderly(names, rounds, timed_names)
    k = len(names)
    blocks = [dict(zip(timed_names[i : i + k], times[i : i + k], strict=True)) for i in range(0, rounds * k, k)]
    table = {name: np.array([block[name] for block in blocks]) for name in names}
    base = table[names[0]]
    for number, name in enumerate(names):
        own = table[name]
        ratios = base / own
        right = np.median(ratios)
        mistakes = {
            "This is the ratio of two medians, which may come from different rounds. First the ratio in every round, "
            "then the median of these.": np.median(base) / np.median(own),
            "This is upside down: it says how many times slower. The baseline's time stands on top.": (
                np.median(own / base)
            ),
            "This is upside down, and the ratio of two medians: divide the baseline's time by that of the "
            "implementation, in every round.": np.median(own) / np.median(base),
            "This is the mean of the ratios. The median is asked.": ratios.mean(),
            "This is the ratio of two means. First the ratio in every round, then the median of these.": (
                base.mean() / own.mean()
            ),
            "This is the ratio of the two shortest times, which come from different rounds. First the ratio in every "
            "round.": base.min() / own.min(),
            "This is the largest ratio of the rounds. The median is asked.": ratios.max(),
            "The baseline is the first implementation, not the last.": np.median(table[names[-1]] / own),
            "The baseline is the first implementation, not the slowest.": np.median(
                table[max(names, key=lambda other: np.median(table[other]))] / own
            ),
            "The baseline is the first implementation, not the fastest.": np.median(
                table[min(names, key=lambda other: np.median(table[other]))] / own
            ),
            "This compares with the implementation before it. The baseline is the first one, for all.": np.median(
                table[names[max(number - 1, 0)]] / own
            ),
            "This is the gain in percent. The ratio itself is asked, 1 for the baseline.": 100 * (right - 1),
            "This divides by the baseline of the first round only. Each round has its own.": np.median(base[0] / own),
        }
        mistakes = {hint: value for hint, value in mistakes.items() if abs(value - right) > 1e-4 * right}
        agree(f'speedup["{name}"]', speedup[name], right, mistakes=mistakes, tolerance=NEAR)


# ----------------------------------------------------------------------------------------------- 10. time_to_target
time_to_target = problem_set.question(
    "time_to_target(errors, target, steps_per_epoch, seconds_per_step) -> epochs, seconds", points=7
)


def training_run(rng, arrival):
    """Errors that fall below 0.3 for the first time after `arrival` epochs (None: never) and then bounce."""
    length = int(rng.integers(12, 20))
    errors = rng.uniform(0.35, 0.9, length)
    if arrival is not None:
        errors[arrival - 1] = rng.uniform(0.2, 0.28)
        errors[arrival + 1] = rng.uniform(0.32, 0.5)
        errors[arrival + 2 :: 2] = rng.uniform(0.1, 0.19, len(errors[arrival + 2 :: 2]))
    return errors, 0.3, int(rng.integers(50, 900)), float(rng.uniform(0.001, 0.2))


def agree_time(given, arrival, arguments, also=None):
    errors, target, steps, seconds = arguments
    epochs_given, seconds_given = given
    step = steps * seconds
    below = np.flatnonzero(errors <= target) + 1
    best = int(np.argmin(errors)) + 1
    last_above = int(np.flatnonzero(errors > target)[-1]) + 2
    named = {
        "This is one epoch too few: errors[0] is the error after one epoch of training.": arrival - 1,
        "This is the epoch with the smallest error. Asked is the first one at or below the target.": best,
        "This is the last epoch at or below the target. Asked is the first one.": int(below[-1]),
        "This counts how many epochs are at or below the target. Asked is the first of them.": len(below),
        "This counts the epochs above the target. The curve bounces: stop at the first one at or below it.": (
            int((errors > target).sum()) + 1
        ),
        "This is where the error stays below the target. Asked is the first time that it is at or below.": last_above,
        "These are all epochs of the run. Stop at the first one at or below the target.": len(errors),
    }
    named = {hint: value for hint, value in ((also or {}) | named).items() if value != arrival}
    agree("epochs", epochs_given, arrival, mistakes=named, tolerance=NEAR)
    mistakes = {
        "This is the time of one epoch. Multiply by the number of epochs.": step,
        "This is the number of steps. Multiply by the seconds per step.": arrival * steps,
        "The steps per epoch are missing: an epoch is many steps.": arrival * seconds,
        "This divides by the seconds per step. More seconds per step make it longer: multiply.": (
            arrival * steps / seconds
        ),
        "This is in milliseconds. Return seconds.": 1e3 * arrival * step,
        "This is in minutes. Return seconds.": arrival * step / 60,
    } | {hint: value * step for hint, value in named.items()}
    agree("seconds", seconds_given, arrival * step, mistakes=mistakes, tolerance=NEAR)


@time_to_target.part("epochs and seconds to the target", weight=3)
def _(student, rng):
    arrival = int(rng.integers(3, 8))
    errors, *rest = training_run(rng, None)
    errors = np.sort(errors)[::-1].copy()
    errors[arrival - 1 :] = np.sort(rng.uniform(0.1, 0.29, len(errors) - arrival + 1))[::-1]
    agree_time(student(errors, *rest), arrival, (errors, *rest))


@time_to_target.part("a curve that bounces", weight=1)
def _(student, rng):
    arrival = int(rng.integers(3, 8))
    arguments = training_run(rng, arrival)
    agree_time(student(*arguments), arrival, arguments)


@time_to_target.part("exactly at the target, and in the first epoch", weight=1)
def _(student, rng):
    arrival = int(rng.integers(3, 8))
    errors, target, *rest = training_run(rng, arrival)
    errors[arrival - 1] = target
    later = {
        "An error equal to the target has reached it: compare with <=.": int(np.flatnonzero(errors < target)[0]) + 1
    }
    agree_time(student(errors, target, *rest), arrival, (errors, target, *rest), later)
    arguments = training_run(rng, 1)
    agree_time(student(*arguments), 1, arguments)


@time_to_target.part("a target that is never reached", weight=2)
def _(student, rng):
    arguments = training_run(rng, None)
    failure = student.failure(*arguments)
    hint = 'Never is longer than any number of epochs: return float("inf") for both.'
    if failure is not None:
        raise Wrong(f"time_to_target raised {failure.types[0]} where the target is never reached.", hint)
    given = student(*arguments)
    for name, value in zip(("epochs", "seconds"), given, strict=True):
        holds(
            isinstance(value, int | float | np.number | np.ndarray) and np.ndim(value) == 0 and np.isposinf(value),
            f"{name} is {value} where the target is never reached, expected inf.",
            hint,
        )


# -------------------------------------------------------------------------------------------------- written answers
problem_set.written("too_fast", points=3)
problem_set.written("cost_and_gain", points=4)


# ----------------------------------------------------------------------------------- optional: a fused Triton kernel
def fused_batch_norm(kernel, x, gamma, beta, eps):
    """Launch a fused kernel for the forward pass of BN in training: one program for each channel.

    Parameters
    ----------
    kernel : Triton kernel
        With the arguments ``x_ptr, y_ptr, gamma_ptr, beta_ptr, eps, C, HW, M, BLOCK``.
    x : torch.Tensor of shape (N, C, H, W)
        float32, contiguous.
    gamma, beta : torch.Tensor of shape (C,)
    eps : float

    Returns
    -------
    y : torch.Tensor of shape (N, C, H, W)
    """
    n, c, h, w = x.shape
    y = torch.empty_like(x)
    block = 2048 if x.is_cuda else 64
    kernel[(c,)](x, y, gamma, beta, eps, C=c, HW=h * w, M=n * h * w, BLOCK=block)
    return y


def check_fused(kernel):
    """Try the optional kernel on small batches, and say what came out. It has no points.

    Runs on a GPU where there is one, else in Triton's interpreter (the environment variable TRITON_INTERPRET=1).
    """
    if kernel is None:
        print(
            "Triton isn't installed here, so there is nothing to try, and nothing is lost: this part has no points. It "
            "comes with PyTorch for NVIDIA GPUs on Linux. Elsewhere on Linux, pip install triton is enough to run "
            "small examples in its interpreter, without a GPU."
        )
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        print(
            "There is no GPU, and Triton's interpreter is off: set the environment variable TRITON_INTERPRET=1 before "
            "the first cell imports Triton."
        )
        return
    rng = np.random.default_rng(0)
    cases = {
        "ordinary data": ((3, 2, 8, 8), 0.0, 1e-5),
        "sizes that don't fit a block": ((3, 5, 7, 11), 3.0, 0.5),
        "one position per image": ((70, 3, 1, 1), -2.0, 1e-5),
        "a large mean": ((4, 2, 9, 9), 4096.0, 1e-5),
    }
    for name, (shape, mean, eps) in cases.items():
        x = torch.from_numpy(np.round(rng.normal(size=shape) * 64) / 64 + mean).float()
        gamma, beta = (torch.from_numpy(rng.uniform(0.5, 2, shape[1])).float() for _ in range(2))
        try:
            y = fused_batch_norm(kernel, *(t.to(device) for t in (x, gamma, beta)), eps).cpu()
        except Exception as error:
            if "NotImplementedError" in f"{type(error).__name__} {error} {error.__cause__!r}":
                print("Not written yet. It is optional: no points depend on it.")
            else:
                print(f"{name}: it raises {type(error).__name__}: {str(error)[-600:]}")
            return
        exact = transformed(x, gamma, beta, eps)
        off = float((y.double() - exact).abs().max() / exact.abs().max())
        verdict = "right" if off <= 2e-3 else f"off by {off:.1e}, relative to the largest value"
        print(f"{name}, shape {shape}: {verdict}")


check = problem_set.check
