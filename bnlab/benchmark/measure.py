"""How it is measured: all implementations in turns, beside a copy of the tensor, and none whose result is wrong.

A turn calls every implementation twice, in an order drawn anew each time: what slows the machine for a while slows
them all. The first of the two calls finds the caches full of what another one has left, also where its own program
was; the second finds them as it left them itself, as in a loop. The figure is the median of the second ones over the
turns, and the spread the distance between their quartiles; the first ones have a median of their own. The copy, in
the same turns, gives the bandwidth that the machine has at that time, and so the *floor*: the time that moving the
bytes takes. Where x does not stay on the chip between two passes it is read twice: the streaming floor is higher.

Forward is a call of the layer in training mode, with all that autograd keeps; backward is the gradient with respect to
x, weight and bias; evaluation is a call in evaluation mode without autograd. Each may be followed by a ReLU, or by the
addition of a residual and a ReLU: whoever can does that in the same pass, the others in place.
"""

import ctypes
import gc
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

import torch

import bnlab
from bnlab.backends import eager
from bnlab.benchmark.layers import Contender
from bnlab.benchmark.shapes import Shape

OPERATIONS = ("forward", "backward", "evaluation")
LAYOUTS = ("NCHW", "channels_last")
# How often the tensor's bytes are moved, at least: every input read once, every output written once; and the same where
# x doesn't stay on the chip between two passes.
FLOOR = {"forward": 2, "backward": 3, "evaluation": 2}
STREAMING = {"forward": 3, "backward": 5, "evaluation": 2}
THEN = ("nothing", "relu", "add_relu")
# How often they are moved more, where a residual is added: it is read, and backward its gradient is written (and read
# again instead of dy).
ADDED = {"forward": 1, "backward": 2, "evaluation": 1}
# Largest error allowed, relative to the largest expected value: a rounding of the output; in float32 more, since torch
# sums channels_last in float32 on a CPU, and is 2e-4 off over 1.6 million values. The table shows the error.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 4e-3, torch.bfloat16: 3e-2}
JUDGED = 4  # channels that are compared with float64
NOISY = 0.25  # relative spread of the copy above which the machine is too busy to trust


@dataclass(frozen=True)
class Case:
    """What all implementations are given.

    Attributes
    ----------
    suite : str
    shape : tuple of int
        (N, C, ...).
    layers : int
        How many layers of the network have it.
    operation : str
        One of `OPERATIONS`.
    layout : str
        One of `LAYOUTS`.
    dtype : str
        Such as "float32".
    device : str
    then : str
        What comes after batch normalization; one of `THEN`.
    """

    suite: str
    shape: tuple[int, ...]
    layers: int
    operation: str
    layout: str
    dtype: str
    device: str
    then: str = "nothing"

    @property
    def floor(self) -> int:
        """How often the input's bytes are moved at least."""
        return FLOOR[self.operation] + (ADDED[self.operation] if self.then == "add_relu" else 0)

    @property
    def streaming(self) -> int:
        """The same where x does not stay on the chip."""
        return STREAMING[self.operation] + (ADDED[self.operation] if self.then == "add_relu" else 0)

    @property
    def bytes(self) -> int:
        """Size of the input."""
        return torch.Size(self.shape).numel() * getattr(torch, self.dtype).itemsize


@dataclass
class Timing:
    """What an implementation took in a case.

    Attributes
    ----------
    case : Case
    name : str
    milliseconds : float or None
        Median of the second calls; None where the result is wrong or the call failed.
    first_milliseconds : float or None
        The same of the first calls, which come after somebody else's.
    spread : float
        Distance between the quartiles, of the median.
    of_floor, of_streaming : float
        The time of the floor, as a share of the median: 1 is as fast as memory allows.
    error : float
        Largest error of the outputs, relative to the largest expected value, by float64.
    peak : float or None
        Bytes at the highest point of the call beyond those before it, of the input's; None where unknown.
    turns : int
    problem : str
        Why there is no time.
    """

    case: Case
    name: str
    milliseconds: float | None = None
    first_milliseconds: float | None = None
    spread: float = 0.0
    of_floor: float = 0.0
    of_streaming: float = 0.0
    error: float = 0.0
    peak: float | None = None
    turns: int = 0
    problem: str = ""

    def to_dict(self) -> dict:
        """As plain values."""
        row = asdict(self)
        return {**row.pop("case"), **row}


@dataclass
class Plan:
    """How much is measured.

    Attributes
    ----------
    device : str
    batch_size : int
    dtypes, layouts, operations : tuple of str
    turns : int
        At most; a case ends earlier after `seconds`, but not before three turns.
    seconds : float
        For one case.
    fresh_memory : bool
        Whether every call pays for getting its memory from the system, as a first step of training does. Else memory
        that is freed is kept and used again, by all: what a training run does from its second step on, at best.
    mean : float
        Of the input, in standard deviations.
    then : str
        One of `THEN`.
    """

    device: str = "cpu"
    batch_size: int = 32
    dtypes: tuple[str, ...] = ("float32",)
    layouts: tuple[str, ...] = LAYOUTS
    operations: tuple[str, ...] = ("forward", "backward")
    turns: int = 15
    seconds: float = 6.0
    fresh_memory: bool = False
    mean: float = 0.5
    then: str = "nothing"
    warm_up: int = field(default=2, repr=False)


def cases(suite: str, shapes: tuple[Shape, ...], plan: Plan) -> list[Case]:
    """Return the cases of a suite; channels_last only where there are positions."""
    return [
        Case(suite, shape.of(plan.batch_size), shape.layers, operation, layout, dtype, plan.device, plan.then)
        for dtype in plan.dtypes
        for layout in plan.layouts
        for shape in shapes
        if layout == "NCHW" or len(shape.positions) in (2, 3)
        for operation in plan.operations
    ]


def measure(case: Case, contenders: list[Contender], plan: Plan) -> list[Timing]:
    """Time all implementations in one case, in turns.

    Parameters
    ----------
    case : Case
    contenders : list of Contender
    plan : Plan

    Returns
    -------
    list of Timing
        One for each, and one named "copy".
    """
    inputs = _inputs(case, plan.mean)
    judge = _Judge(case, *inputs)
    timings, calls = {}, {}
    for one in contenders:
        timings[one.name] = Timing(case, one.name)
        try:
            call = _prepare(case, one, *inputs)
            with _binding(one):
                timings[one.name].error = judge.error(call())
                _synchronize(case.device)
                timings[one.name].peak = _peak(call, case)
        except Exception as error:  # a student's layer may raise anything, and some layouts are refused
            timings[one.name].problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            continue
        if not timings[one.name].error <= judge.tolerance:
            timings[one.name].problem = f"wrong: error {timings[one.name].error:.1e}, allowed {judge.tolerance:.0e}"
            continue
        calls[one.name] = (one, call)
    x, copied = inputs[0], torch.empty_like(inputs[0])
    calls["copy"] = (Contender("copy", None), lambda: copied.copy_(x))
    timings["copy"] = Timing(case, "copy")
    with _kept_memory(plan.fresh_memory or case.device != "cpu"):
        seconds = in_turns(calls, plan, case.device)
    copy = statistics.median(again for _, again in seconds["copy"])
    for name, its in seconds.items():
        firsts, others = zip(*its, strict=True)
        middle = statistics.median(others)
        quartiles = statistics.quantiles(others, n=4)
        timing = timings[name]
        timing.milliseconds, timing.turns = 1e3 * middle, len(its)
        timing.first_milliseconds = 1e3 * statistics.median(firsts)
        timing.spread = (quartiles[2] - quartiles[0]) / middle
        floor, streaming = (2, 2) if name == "copy" else (case.floor, case.streaming)
        timing.of_floor = copy * floor / 2 / middle  # a copy moves the bytes twice
        timing.of_streaming = copy * streaming / 2 / middle
    return list(timings.values())


def _inputs(case: Case, mean: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """x, dy and, where one is added, the residual; laid out as the case says."""
    generator = torch.Generator(case.device).manual_seed(0)
    dtype = getattr(torch, case.dtype)

    def draw(shift):
        v = torch.randn(case.shape, generator=generator, device=case.device, dtype=torch.float32)
        v = v.add_(shift).to(dtype)
        return v.movedim(1, -1).contiguous().movedim(-1, 1) if case.layout == "channels_last" else v

    return draw(mean), draw(0.0), draw(0.0) if case.then == "add_relu" else None


def _prepare(
    case: Case, contender: Contender, x: torch.Tensor, dy: torch.Tensor, residual: torch.Tensor | None
) -> Callable[[], tuple]:
    """A call without arguments that does the operation and returns its results."""
    layer = contender.make(case.shape[1], len(case.shape), case.device, x.dtype)
    with torch.no_grad():
        for v, start in ((layer.weight, 0.5), (layer.bias, -1.0)):
            v.copy_(torch.linspace(start, start + 1, case.shape[1]))
    if case.operation == "evaluation":
        layer.eval()
        mean, var = torch.linspace(-1, 1, case.shape[1]), torch.linspace(0.5, 2, case.shape[1])
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)

        def evaluate():
            with torch.no_grad():
                return (contender.call(layer, x, residual, case.then != "nothing"),)

        return evaluate
    layer.train()
    x = x.detach().requires_grad_()
    residual = residual if residual is None else residual.detach().requires_grad_()
    if case.operation == "forward":
        return lambda: (contender.call(layer, x, residual, case.then != "nothing").detach(),)
    with _binding(contender):
        y = contender.call(layer, x, residual, case.then != "nothing")
    sources = (x, layer.weight, layer.bias, *(() if residual is None else (residual,)))
    return lambda: torch.autograd.grad(y, sources, dy, retain_graph=True)


class _Judge:
    """Knows the result in float64, for some channels."""

    def __init__(self, case: Case, x: torch.Tensor, dy: torch.Tensor, residual: torch.Tensor | None):
        channels = case.shape[1]
        self.tolerance = TOLERANCE[x.dtype]
        self._chosen = sorted({channels * k // JUDGED for k in range(JUDGED)})
        gamma = torch.linspace(0.5, 1.5, channels, dtype=torch.float64, device=x.device)[self._chosen]
        beta = torch.linspace(-1, 0, channels, dtype=torch.float64, device=x.device)[self._chosen]
        wide, above = x[:, self._chosen].double(), dy[:, self._chosen].double()
        mean = var = None
        if case.operation == "evaluation":
            mean = torch.linspace(-1, 1, channels).to(wide)[self._chosen]
            var = torch.linspace(0.5, 2, channels).to(wide)[self._chosen]
        added = None if residual is None else residual[:, self._chosen].double()
        y, mean, var = eager.forward(wide, gamma, beta, mean, var, 1e-5, added, case.then != "nothing")
        self._expected = (y,)
        if case.operation == "backward" and case.then == "nothing":
            self._expected = eager.backward(above, wide, gamma, mean, var, 1e-5, True)
        elif case.operation == "backward":
            grads = eager.backward_relu(above, wide, gamma, beta, mean, var, 1e-5, True, added)
            self._expected = grads if added is not None else grads[:3]

    def error(self, given: tuple) -> float:
        """The largest error of the results, relative to the largest expected value of each."""
        worst = 0.0
        for result, expected in zip(given, self._expected, strict=True):
            chosen = result[self._chosen] if result.dim() == 1 else result[:, self._chosen]
            off = (chosen.double() - expected).abs().max() / expected.abs().max()
            worst = max(worst, off.item()) if off == off else float("nan")
        return worst


def _binding(contender: Contender):
    return bnlab.use_backend(contender.backend)


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def in_turns(calls: dict, plan: Plan, device: str) -> dict[str, list[tuple[float, float]]]:
    """Call everybody in turns, twice each.

    Parameters
    ----------
    calls : dict of str to (Contender, callable)
    plan : Plan
    device : str

    Returns
    -------
    dict of str to list of (float, float)
        Seconds of the first call and of the second, for every turn, by name.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names, order = list(calls), random.Random(0)
    began = perf_counter()
    for turn in range(plan.warm_up + plan.turns):
        if turn >= plan.warm_up + 3 and perf_counter() - began > plan.seconds:
            break
        order.shuffle(names)
        for name in names:
            contender, call = calls[name]
            with _binding(contender):
                taken = _time(call, device), _time(call, device)
            if turn >= plan.warm_up:
                seconds[name].append(taken)
    return seconds


def _time(call: Callable, device: str) -> float:
    """Seconds of one call; what it returns is freed only afterwards."""
    if device.startswith("cuda"):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        kept = call()
        end.record()
        end.synchronize()
        taken = start.elapsed_time(end) / 1e3
    else:
        began = perf_counter()
        kept = call()
        taken = perf_counter() - began
    del kept
    return taken


# --- memory ----------------------------------------------------------------------------------------------------------

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
DEFAULT_TRIM, DEFAULT_MMAPS = 128 * 1024, 65536


def _glibc():
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt.argtypes, library.malloc_trim.argtypes = [ctypes.c_int, ctypes.c_int], [ctypes.c_size_t]
        return library
    return None


@contextmanager
def _kept_memory(is_fresh: bool) -> Iterator[None]:
    """Let freed memory stay with the process, so that nobody pays for pages from the system."""
    library = None if is_fresh or sys.platform != "linux" else _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_MAX, DEFAULT_MMAPS)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM)
        library.malloc_trim(0)


def _peak(call: Callable, case: Case) -> float | None:
    """How much memory a call has at its highest point, beyond what there was before, in sizes of the input."""
    if case.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(case.device)
        before = torch.cuda.memory_allocated(case.device)
        kept = call()
        torch.cuda.synchronize(case.device)
        del kept
        return (torch.cuda.max_memory_allocated(case.device) - before) / case.bytes
    if sys.platform != "linux" or case.bytes < 2**22:  # pages are too coarse to see less
        return None
    gc.collect()
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest point so far is forgotten
    except OSError:
        return None
    before = _status("VmRSS")
    kept = call()
    peak = _status("VmHWM")
    del kept
    return max(0.0, (peak - before) / case.bytes)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")
