"""The oracle of the student's own kernel."""

import contextlib
import copy
import importlib
import io
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial, reduce
from types import FrameType
from typing import Any

import numpy as np

from bnlab.checks import borrowed, tensors
from bnlab.checks.oracle import Failure, Handle, Named, Reply

PRINTED_LIMIT = 2_000  # characters of a student's output that a report keeps
MESSAGE_LIMIT = 1_000  # characters of an exception's or a warning's message
WARNINGS_LIMIT = 10
NUMPYS_OWN = np.random.get_state.__self__  # the generator behind np.random.rand and the like
AGAIN = 0.02  # seconds between the signals that end a call which is out of time
OWN_FILES = {__file__, borrowed.__file__, contextlib.__file__}
IMMUTABLE = (bool, int, float, complex, str, np.float64)
MAKERS = ("bnlab", "numpy", "torch")  # whose functions a check may call by name


class InKernel:
    """The oracle of the student's own kernel: it calls the function right here.

    It gives the function copies of its arguments, records what it prints and warns, restores NumPy's error state, and
    stops it after `seconds`. It does not protect against code that wants to cheat: nothing in one process can.

    Parameters
    ----------
    work : callable
        The student's function or class. Of an autograd function, its ``apply`` is called.
    seconds : float
        Time limit of one call. It needs a main thread and SIGALRM (Linux, macOS); elsewhere there is no limit.
    checks : str
        Name under which the problem set's ``checks.py`` was imported here.
    watch : tuple of str
        Library functions whose calls are noted; see `bnlab.checks.borrowed`.
    """

    def __init__(self, work: Callable, seconds: float = 10.0, checks: str = "checks", watch: tuple[str, ...] = ()):
        torch = tensors.loaded_torch()
        is_autograd = torch is not None and isinstance(work, type) and issubclass(work, torch.autograd.Function)
        self.work = work.apply if is_autograd else work
        self.seconds = seconds
        self.watching = True
        self._checks = checks
        self._calls = 0
        self._watch = borrowed.Watch(watch)
        self._objects: list[Any] = []
        self._state_is_kept = False

    @contextlib.contextmanager
    def many_calls(self) -> Iterator[None]:
        """Keep the random generators' state for all the calls that are made meanwhile.

        Putting it back after every one of them takes longer than a small call itself. It must be nobody else's turn
        between those calls.
        """
        with _random_state():
            self._state_is_kept = True
            try:
                yield
            finally:
                self._state_is_kept = False

    def call(self, args: tuple, kwargs: dict) -> Reply:
        return self._run(self.work, args, kwargs)

    def method(self, handle: Handle, name: str, args: tuple, kwargs: dict) -> Reply:
        return self._run(lambda *a, **k: getattr(self._objects[handle.number], name)(*a, **k), args, kwargs)

    def attribute(self, handle: Handle, name: str) -> Reply:
        return self._run(lambda: reduce(getattr, name.split("."), self._objects[handle.number]), (), {})

    def make(self, what: Named, args: tuple, kwargs: dict) -> Reply:
        return self._run(self._find(what), args, kwargs, wrap=self._keep, watched=False)

    def vjp(self, handle: Handle | None, args: tuple, cotangent: Any, directions: tuple | None) -> Reply:
        # torch imports this at its first use of cotangents. It takes seconds, and those are not the student's.
        importlib.import_module("torch.fx.experimental.symbolic_shapes")
        target = self.work if handle is None else self._objects[handle.number]
        cotangent, directions = self._unwrap(cotangent), self._unwrap(directions)
        return self._run(partial(_vjp, target, cotangent, directions), args, {})

    def _run(
        self,
        function: Callable,
        args: tuple,
        kwargs: dict,
        wrap: Callable[[Any], Any] | None = None,
        watched: bool = True,
    ) -> Reply:
        given = {**dict(enumerate(args)), **kwargs}
        sent = {key: self._unwrap(value) for key, value in given.items()}
        printed, self._watch.seen = _Capped(PRINTED_LIMIT), []
        value, failure = None, None
        self._calls += 1
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(record=True) as caught,
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
            tensors.default_state(),
            contextlib.nullcontext() if self._state_is_kept else _random_state(),
        ):
            _seed(self._calls)
            warnings.simplefilter("always")
            try:
                watching = self._watch.watching() if watched and self.watching else contextlib.nullcontext()
                with _time_limit(self.seconds), watching:
                    value = function(
                        *(sent[i] for i in range(len(args))), **{k: v for k, v in sent.items() if isinstance(k, str)}
                    )
                    value = (wrap or self._wrap)(value)
            except NotImplementedError as error:
                failure = Failure("not answered", _names(error), _message(error))
            except _OutOfTime:
                failure = Failure("timeout", message=f"no answer within {self.seconds:g} s")
            except SystemExit as error:
                failure = Failure("exit", _names(error), _message(error))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever the student's code raises is a result, not our error
                failure = Failure("raised", _names(error), _message(error), _student_lines(error))
        changed = tuple(key for key, value_before in given.items() if not _same(value_before, sent[key]))
        return Reply(value, failure, changed, printed.getvalue(), _warnings(caught), tuple(self._watch.seen))

    def _find(self, what: Named) -> Any:
        module, _, name = what.name.partition(":")
        if module != "checks" and module.split(".")[0] not in MAKERS:
            raise ValueError(f"{what.name!r} is neither the checks' own nor of {', '.join(MAKERS)}")
        return reduce(getattr, name.split("."), importlib.import_module(self._checks if module == "checks" else module))

    def _unwrap(self, value: Any) -> Any:
        """What a function is given for a value that a check sends: a copy, or the thing behind a handle or a name."""
        if value is None or type(value) in IMMUTABLE:
            return value
        if type(value) is np.ndarray and value.dtype.kind in "biufc":
            return value.copy(order="K")
        if isinstance(value, Handle):
            return self._objects[value.number]
        if isinstance(value, Named):
            return self._find(value)
        if tensors.is_tensor(value):
            return tensors.fresh_argument(value)
        if type(value) in (list, tuple):
            return type(value)(self._unwrap(item) for item in value)
        if type(value) is dict:
            return {key: self._unwrap(item) for key, item in value.items()}
        return copy.deepcopy(value)

    def _keep(self, value: Any) -> Handle:
        self._objects.append(value)
        return Handle(len(self._objects) - 1, type(value).__name__)

    def _wrap(self, value: Any) -> Any:
        """Copy plain data; keep anything else and give a handle to it."""
        if value is None or type(value) in IMMUTABLE:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return value
        if type(value) is np.ndarray and value.dtype.kind in "biufc":
            return value.copy()
        if tensors.is_tensor(value):
            return tensors.copied(value)
        if isinstance(value, tuple):
            return tuple(self._wrap(item) for item in value)
        if type(value) is list:
            return [self._wrap(item) for item in value]
        if isinstance(value, dict) and all(type(key) is str for key in value):
            return {key: self._wrap(item) for key, item in value.items()}
        return self._keep(value)


def _vjp(target: Callable, cotangent: Any, directions: tuple | None, *args: Any) -> tuple:
    """The vector-Jacobian product that `Student.vjp` describes."""
    import torch

    for arg in args:
        if tensors.is_tensor(arg) and arg.is_floating_point():
            arg.requires_grad_()
    value = target(*args)
    outputs, cotangents = (tuple(v) if isinstance(v, list | tuple) else (v,) for v in (value, cotangent))
    sources = {str(number): arg for number, arg in enumerate(args) if tensors.is_tensor(arg) and arg.requires_grad}
    if isinstance(target, torch.nn.Module):
        sources |= dict(target.named_parameters())
    if directions is not None:
        cotangents = tuple(c if c is None else c.requires_grad_() for c in cotangents)
    pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=False) if c is not None]
    gradients = _gradients([o for o, _ in pairs], [c for _, c in pairs], sources, create_graph=directions is not None)

    def in_order(found: dict) -> tuple | dict:
        is_module = isinstance(target, torch.nn.Module)
        return found if is_module else tuple(found.get(str(number)) for number in range(len(args)))

    if directions is None:
        return value, in_order(gradients)
    total = [(g * v).sum() for g, v in zip(in_order(gradients), directions, strict=False) if g is not None is not v]
    sources |= {f"cotangent {number}": c for number, c in enumerate(cotangents) if c is not None}
    second = _gradients([sum(total)] if total else [], None, sources, create_graph=False)
    return value, in_order(gradients), (*in_order(second), second.get("cotangent 0"))


def _gradients(outputs: list, cotangents: list | None, sources: dict, create_graph: bool) -> dict:
    """`torch.autograd.grad` by name, with None for everything where the outputs have no graph to go back along."""
    import torch

    kept = [number for number, output in enumerate(outputs) if tensors.is_tensor(output) and output.requires_grad]
    if not kept or not sources:
        return dict.fromkeys(sources)
    found = torch.autograd.grad(
        [outputs[number] for number in kept],
        list(sources.values()),
        None if cotangents is None else [cotangents[number] for number in kept],
        create_graph=create_graph,
        allow_unused=True,
    )
    return dict(zip(sources, found, strict=True))


@contextlib.contextmanager
def _random_state() -> Iterator[None]:
    """Give the global generators back afterwards in the state they had."""
    torch = tensors.loaded_torch()
    kept = random.getstate(), NUMPYS_OWN.get_state(), torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(kept[0])
        NUMPYS_OWN.set_state(kept[1])
        if torch:
            torch.set_rng_state(kept[2])


def _seed(seed: int) -> None:
    """Seed the global generators: an answer that draws from them comes out the same every time it is graded."""
    torch = tensors.loaded_torch()
    random.seed(seed)
    NUMPYS_OWN.seed(seed)
    if torch:
        torch.random.default_generator.manual_seed(seed)


class _OutOfTime(BaseException):
    """Not an Exception, so that a student's ``except Exception`` does not swallow it."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    fired = 0

    def stop(signum, frame):
        nonlocal fired
        if fired and frame.f_code.co_filename in OWN_FILES:
            return  # the call is over already, and we are putting things away
        if fired:  # something like `while True: try: ... except: pass` swallowed it
            _raise_in_a_later_line(frame, fired)
        fired += 1
        raise _OutOfTime

    earlier, tracer = signal.signal(signal.SIGALRM, stop), sys.gettrace()
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        sys.settrace(tracer)


def _raise_in_a_later_line(frame: FrameType, count: int) -> None:
    """Raise in the `count`-th line from here. The first is the one that says `except:`, where nothing catches again."""

    def trace(frame, event, arg):
        nonlocal count
        if frame.f_code.co_filename in OWN_FILES:
            return None
        count -= event == "line"
        if count == 0:
            raise _OutOfTime
        return trace

    sys.settrace(trace)
    while frame is not None and frame.f_code.co_filename not in OWN_FILES:
        frame.f_trace = trace
        frame = frame.f_back


class _Capped(io.StringIO):
    """Keeps the first `limit` characters written to it and drops the rest, however much that is; can't be closed."""

    def __init__(self, limit: int):
        super().__init__()
        self._room = limit

    def close(self) -> None:
        """Stay open: a student's ``sys.stdout.close()`` is no reason to lose what was written."""

    def write(self, text: str) -> int:
        if self._room > 0:
            super().write(text[: self._room])
            if len(text) > self._room:
                super().write(" [...]")
        self._room -= len(text)
        return len(text)


def _same(a: Any, b: Any) -> bool:
    """Whether an argument is what it was. What lies behind a handle or a name may change: that's what it is for."""
    if a is None or type(a) in IMMUTABLE or isinstance(a, Handle | Named):
        return True
    if tensors.is_tensor(a):
        return tensors.is_tensor(b) and tensors.same(a, b)
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.shape == b.shape
            and a.dtype == b.dtype
            and (bool((a == b).all()) or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # of a class of the student's own
        return "(its message can't be shown)"
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]} [...]"


def _warnings(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(f"{w.category.__name__}: {_message(w.message)}" for w in caught))
    more = [f"and {len(distinct) - WARNINGS_LIMIT} more"] if len(distinct) > WARNINGS_LIMIT else []
    return tuple(distinct[:WARNINGS_LIMIT] + more)


def _names(error: BaseException) -> tuple[str, ...]:
    return tuple(cls.__name__ for cls in type(error).__mro__)


def _student_lines(error: BaseException) -> str:
    """The traceback's lines from the student's cells: not this package's, not the libraries'."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    return "\n".join(f"line {f.lineno} in {f.name}: {f.line or ''}".rstrip(": ") for f in own[-3:])
