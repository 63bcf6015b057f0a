"""The interface between a check and a student's code.

A check asks an :class:`Oracle` to call the student's function and gets a :class:`Reply` of plain data. It never holds
the student's function or objects, so the code behind an oracle may live in this process (:class:`InKernel`) or in
another one. What a check may rely on is what can cross a pipe: numbers, strings, NumPy arrays, torch tensors, and
containers of these. Everything else is an opaque :class:`Handle`, or known by its name (:class:`Named`).
"""

from dataclasses import dataclass
from typing import Any, Protocol


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
class Named:
    """A function or class of the course or of a library, by its name: the student's side looks it up there.

    Attributes
    ----------
    name : str
        ``"module:name"``, such as "bnlab.models:small_vgg". The module is numpy, torch or bnlab, one inside them, or
        ``checks``: the problem set's own ``checks.py``.
    """

    name: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


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
    borrowed : tuple of str
        The library functions called that would be the answer themselves. They are shown and cost nothing.
    """

    value: Any = None
    failure: Failure | None = None
    changed: tuple[int | str, ...] = ()
    printed: str = ""
    warned: tuple[str, ...] = ()
    borrowed: tuple[str, ...] = ()


class Oracle(Protocol):
    """Answers calls about one piece of a student's work.

    Arguments are plain data, handles, things with a name, and lists, tuples and dictionaries of these.

    Attributes
    ----------
    watching : bool
        Whether to note which library functions are called. It takes time, so a check asks for it in its first case.
    """

    watching: bool

    def call(self, args: tuple, kwargs: dict) -> Reply:
        """Call the function (or class) itself; of an autograd function, its ``apply``."""

    def method(self, handle: Handle, name: str, args: tuple, kwargs: dict) -> Reply:
        """Call a method of an object that an earlier call returned."""

    def attribute(self, handle: Handle, name: str) -> Reply:
        """Read an attribute of an object that an earlier call returned; ``"a.b"`` is b of its a."""

    def make(self, what: Named, args: tuple, kwargs: dict) -> Reply:
        """Call a function or class of the course's or a library's. The value is a handle to what it returns."""

    def vjp(self, handle: Handle | None, args: tuple, cotangent: Any, directions: tuple | None) -> Reply:
        """Call the work (or an object that it returned) and go backward through it.

        The value is ``(value, gradients)``, and with `directions` ``(value, gradients, second)``; see `Student.vjp`.
        """
