"""What a check holds in its hand: the student's function, seen through an oracle.

Calling a :class:`Student` returns the values that the question promises, or raises :class:`Wrong` with a message that
the student can use: it raised, it returned None, it returned one value where two were asked for.
"""

from typing import Any

import numpy as np

from bnlab.checks.compare import Wrong, show
from bnlab.checks.oracle import Failure, Handle, Oracle, Reply


class Student:
    """The student's function as a check calls it: ``mean, var = student(x)``.

    Parameters
    ----------
    oracle : Oracle
    name : str
        Name of the function, for messages.
    arguments, returns : tuple of str
        Names of the arguments and of the returned values, for messages. One name in `returns` means a bare value.
    """

    def __init__(self, oracle: Oracle, name: str, arguments: tuple[str, ...], returns: tuple[str, ...]):
        self.oracle = oracle
        self.name = name
        self.arguments = arguments
        self.returns = returns
        self._last: tuple[str, tuple[str, ...], tuple | None, dict] | None = None
        self.replies: list[Reply] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and return what it promises.

        Raises
        ------
        Wrong
            It raised, returned None, or returned another number of values than promised.
        """
        self.asks(self.name, self.arguments, args, kwargs)
        value = self._value(self.oracle.call(args, kwargs))
        if len(self.returns) > 1:
            return self._several(value)
        return StudentObject(self, value) if isinstance(value, Handle) else value

    def changed_by(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        """Call the function and name the arguments that it changed in place."""
        self(*args, **kwargs)
        changed = self.replies[-1].changed
        return tuple(self.arguments[key] if isinstance(key, int) else key for key in changed)

    def failure(self, *args: Any, **kwargs: Any) -> Failure | None:
        """Call the function where it ought to raise: how it failed, or None where it returned a value.

        Raises
        ------
        Wrong
            The question isn't answered yet or the call never came back: that isn't the error one hopes for.
        """
        self.asks(self.name, self.arguments, args, kwargs)
        reply = self.oracle.call(args, kwargs)
        self.replies.append(reply)
        if reply.failure is not None and reply.failure.kind != "raised":
            raise _failed(self.name, reply.failure)
        return reply.failure

    def _value(self, reply: Reply) -> Any:
        self.replies.append(reply)
        if reply.failure is not None:
            raise _failed(self.name, reply.failure)
        if reply.value is None:
            raise Wrong(
                f"{self.name} returned None, expected {_listed(self.returns)}.",
                hint="Does the function end with a return statement?",
            )
        return reply.value

    def _several(self, value: Any) -> tuple:
        count, names = len(self.returns), _listed(self.returns)
        if isinstance(value, tuple | list) and len(value) == count:
            return tuple(value)
        if isinstance(value, tuple | list):
            raise Wrong(
                f"{self.name} returned {len(value)} values, expected {count}: {names}.",
                hint=f"End it with: return {', '.join(self.returns)}",
            )
        raise Wrong(
            f"{self.name} returned one {kind_of(value)}, expected {count} values: {names}.",
            hint=f"End it with: return {', '.join(self.returns)}",
        )

    def asks(self, name: str, names: tuple[str, ...], args: tuple | None, kwargs: dict) -> None:
        """Note the call that comes next, for `tried`; None for `args` means that an attribute is read."""
        self._last = (name, names, args, kwargs)

    @property
    def tried(self) -> str:
        """The last call, in words."""
        if self._last is None:
            return ""
        name, names, args, kwargs = self._last
        if args is None:
            return name
        pairs = [*zip(names, args, strict=False), *kwargs.items()]
        call = ", ".join([*names[: len(args)], *(f"{key}={key}" for key in kwargs)])
        values = "\n".join(f"  {key} = {show(value)}" for key, value in pairs)
        return f"{name}({call})" + (f"  with\n{values}" if values else "")


class StudentObject:
    """An object on the student's side: its methods and attributes, asked for by name."""

    def __init__(self, student: Student, handle: Handle):
        self._student = student
        self._handle = handle
        self.type_name = handle.type_name

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call ``object.method(*args, **kwargs)``. None is an answer here: ``fit`` may return nothing."""
        names = tuple(f"argument {i + 1}" if len(args) > 1 else "x" for i in range(len(args)))
        self._student.asks(f"{self._student.name}.{method}", names, args, kwargs)
        return self._receive(self._student.oracle.method(self._handle, method, args, kwargs), method)

    def get(self, attribute: str) -> Any:
        """Read ``object.attribute``."""
        self._student.asks(f"{self._student.name}.{attribute}", (), None, {})
        return self._receive(self._student.oracle.attribute(self._handle, attribute), attribute)

    def _receive(self, reply: Reply, name: str) -> Any:
        self._student.replies.append(reply)
        if reply.failure is not None:
            raise _failed(f"{self._student.name}.{name}", reply.failure)
        return StudentObject(self._student, reply.value) if isinstance(reply.value, Handle) else reply.value


def kind_of(value: Any) -> str:
    """The kind of a value in a student's words."""
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}"
    if isinstance(value, StudentObject | Handle):
        return f"object of type {value.type_name}"
    if isinstance(value, float | int | np.generic):
        return "number"
    return type(value).__name__


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _failed(name: str, failure: Failure) -> Wrong:
    if failure.kind == "not answered":
        hint = "Replace the line `raise NotImplementedError()` by your code."
        return Wrong("Not answered yet.", hint, answered=False, final=True)
    if failure.kind == "timeout":
        return Wrong(f"{name} did not finish: {failure.message}.", "Is there a loop that never ends?", final=True)
    if failure.kind == "exit":
        return Wrong(f"{name} called exit().", hint="A function returns its result; it never ends the program.")
    return Wrong(
        f"{name} raised {failure.types[0]}: {failure.message}",
        hint=f"It happened at {failure.where}" if failure.where else "",
    )
