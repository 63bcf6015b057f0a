"""The interface between a check and a student's code.

A check asks an :class:`Oracle` to call the student's function and gets a :class:`Reply` of plain data. It never holds
the student's function or objects, so the code behind an oracle may live in this process (:class:`InKernel`) or in
another one. What a check may rely on is what can cross a pipe: numbers, strings, NumPy arrays, and containers of these.
Everything else is an opaque :class:`Handle`.
"""

import contextlib
import copy
import io
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

PRINTED_LIMIT = 2_000  # characters of a student's output that a report keeps


@dataclass(frozen=True)
class Failure:
    """Why a call gave no value.

    Attributes
    ----------
    kind : str
        "raised", "not answered" (NotImplementedError), "timeout", or "exit" (the code called exit()).
    types : tuple of str
        Names of the exception's class and its bases, most derived first.
    message : str
        The exception's message.
    where : str
        The student's lines in the traceback, or "".
    """

    kind: str
    types: tuple[str, ...] = ()
    message: str = ""
    where: str = ""


@dataclass(frozen=True)
class Handle:
    """An object that stays on the student's side: all a check knows is a number and the name of its type."""

    number: int
    type_name: str


@dataclass(frozen=True)
class Reply:
    """What came of one call.

    Attributes
    ----------
    value : plain data or Handle
        What was returned; None where `failure` is set.
    failure : Failure or None
    changed : tuple of int or str
        Positions and names of the arguments that the call changed in place.
    printed : str
        What the code wrote to standard output or error, shortened to `PRINTED_LIMIT` characters.
    warned : tuple of str
        The distinct warnings that Python issued. They are shown and cost nothing.
    """

    value: Any = None
    failure: Failure | None = None
    changed: tuple[int | str, ...] = ()
    printed: str = ""
    warned: tuple[str, ...] = ()


class Oracle(Protocol):
    """Answers calls about one piece of a student's work. Arguments are plain data or handles."""

    def call(self, args: tuple, kwargs: dict) -> Reply:
        """Call the function (or class) itself."""

    def method(self, handle: Handle, name: str, args: tuple, kwargs: dict) -> Reply:
        """Call a method of an object that an earlier call returned."""

    def attribute(self, handle: Handle, name: str) -> Reply:
        """Read an attribute of an object that an earlier call returned."""


class InKernel:
    """The oracle of the student's own kernel: it calls the function right here.

    It gives the function copies of its arguments, records what it prints and warns, restores NumPy's error state, and
    stops it after `seconds`. It does not protect against code that wants to cheat: nothing in one process can.

    Parameters
    ----------
    work : callable
        The student's function or class.
    seconds : float
        Time limit of one call. It needs a main thread and SIGALRM (Linux, macOS); elsewhere there is no limit.
    """

    def __init__(self, work: Callable, seconds: float = 10.0):
        self.work = work
        self.seconds = seconds
        self._objects: list[Any] = []

    def call(self, args: tuple, kwargs: dict) -> Reply:
        return self._run(self.work, args, kwargs)

    def method(self, handle: Handle, name: str, args: tuple, kwargs: dict) -> Reply:
        return self._run(lambda *a, **k: getattr(self._objects[handle.number], name)(*a, **k), args, kwargs)

    def attribute(self, handle: Handle, name: str) -> Reply:
        return self._run(lambda: getattr(self._objects[handle.number], name), (), {})

    def _run(self, function: Callable, args: tuple, kwargs: dict) -> Reply:
        given = {**dict(enumerate(args)), **kwargs}
        sent = {key: self._unwrap(value) for key, value in given.items()}
        before = {key: value for key, value in given.items() if not isinstance(value, Handle)}
        printed = _Capped(PRINTED_LIMIT)
        value, failure = None, None
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(record=True) as caught,
            np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        ):
            warnings.simplefilter("always")
            try:
                with _time_limit(self.seconds):
                    value = function(
                        *(sent[i] for i in range(len(args))), **{k: v for k, v in sent.items() if isinstance(k, str)}
                    )
                    value = self._wrap(value)
            except NotImplementedError as error:
                failure = Failure("not answered", _names(error), str(error))
            except _OutOfTime:
                failure = Failure("timeout", message=f"no answer within {self.seconds:g} s")
            except SystemExit as error:
                failure = Failure("exit", _names(error), str(error))
            except Exception as error:  # whatever the student's code raises is a result, not our error
                failure = Failure("raised", _names(error), str(error), _student_lines(error))
        changed = tuple(key for key, value_before in before.items() if not _same(value_before, sent[key]))
        warned = tuple(dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught))
        return Reply(value, failure, changed, printed.getvalue(), warned)

    def _unwrap(self, value: Any) -> Any:
        return self._objects[value.number] if isinstance(value, Handle) else copy.deepcopy(value)

    def _wrap(self, value: Any) -> Any:
        """Copy plain data; keep anything else and give a handle to it."""
        if value is None or type(value) in (bool, int, float, complex, str):
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufc":
            return value
        if type(value) is np.ndarray and value.dtype.kind in "biufc":
            return value.copy()
        if isinstance(value, tuple):
            return tuple(self._wrap(item) for item in value)
        if type(value) is list:
            return [self._wrap(item) for item in value]
        if type(value) is dict and all(type(key) is str for key in value):
            return {key: self._wrap(item) for key, item in value.items()}
        self._objects.append(value)
        return Handle(len(self._objects) - 1, type(value).__name__)


class _OutOfTime(BaseException):
    """Not an Exception, so that a student's ``except Exception`` does not swallow it."""


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum, frame):
        raise _OutOfTime

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


class _Capped(io.StringIO):
    """Keeps the first `limit` characters written to it and drops the rest, however much that is."""

    def __init__(self, limit: int):
        super().__init__()
        self._room = limit

    def write(self, text: str) -> int:
        if self._room > 0:
            super().write(text[: self._room])
            if len(text) > self._room:
                super().write(" [...]")
        self._room -= len(text)
        return len(text)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.shape == b.shape
            and a.dtype == b.dtype
            and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b


def _names(error: BaseException) -> tuple[str, ...]:
    return tuple(cls.__name__ for cls in type(error).__mro__)


def _student_lines(error: BaseException) -> str:
    """The traceback's lines from the student's cells: not this package's, not the libraries'."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    return "\n".join(f"line {f.lineno} in {f.name}: {f.line or ''}".rstrip(": ") for f in own[-3:])
