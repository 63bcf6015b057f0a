"""What a check holds in its hand: the student's function, seen through an oracle.

Calling a :class:`Student` returns the values that the question promises, or raises :class:`Wrong` with a message that
the student can use: it raised, it returned None, it returned one value where two were asked for.
"""

from typing import Any

import numpy as np

from bnlab.checks import tensors
from bnlab.checks.compare import Wrong, show
from bnlab.checks.oracle import Failure, Handle, Named, Oracle, Reply


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
        value = self.receive(self.value_of(self.oracle.call(*sent(args, kwargs))))
        return self._several(value) if len(self.returns) > 1 else value

    def vjp(self, args: tuple, cotangent: Any, directions: tuple | None = None) -> tuple:
        """Call the function and go backward through it with torch's autograd.

        Parameters
        ----------
        args : tuple
            Every floating tensor among them becomes a leaf that requires grad.
        cotangent : tensor, or tuple of tensors and None
            The gradient of some loss with respect to the returned value (or values).
        directions : tuple of (tensor or None), optional
            One per argument. Asks for second derivatives.

        Returns
        -------
        value
            What the function returned.
        gradients : tuple
            The gradient with respect to each argument: cotangent times Jacobian. None where there is none.
        second : tuple
            Only with `directions`: the gradients of ``sum_i (gradients[i] * directions[i]).sum()`` with respect to
            each argument and, as the last one, to the (first) cotangent.

        Raises
        ------
        Wrong
            It raised or returned None.
        """
        self.asks(self.name, self.arguments, args, {})
        (plain,), _ = sent((args,), {})
        return self.receive(self.value_of(self.oracle.vjp(None, plain, cotangent, directions)))

    def make(self, name: str, *args: Any, **kwargs: Any) -> "StudentObject":
        """Make an object where the student's code lives, by a function or class of the course or a library.

        ``student.make("bnlab.models:small_vgg", width=4)`` is a model to pass to the student's function.

        Parameters
        ----------
        name : str
            See :class:`Named`.
        """
        reply = self.oracle.make(Named(name), *sent(args, kwargs))
        if reply.failure is not None:
            raise RuntimeError(f"{name} raised {reply.failure.types[0]}: {reply.failure.message}")
        return StudentObject(self, reply.value, name.rpartition(":")[2], made=True)

    @staticmethod
    def the(name: str) -> Named:
        """A function or class to pass as an argument: ``student(student.the("checks:cubic"), x)``."""
        return Named(name)

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
        reply = self.oracle.call(*sent(args, kwargs))
        self.replies.append(reply)
        if reply.failure is not None and reply.failure.kind != "raised":
            raise _failed(self.name, reply.failure)
        return reply.failure

    def receive(self, value: Any) -> Any:
        """The value with objects in the place of handles."""
        if isinstance(value, Handle):
            return StudentObject(self, value, self.name)
        if isinstance(value, tuple | list):
            return type(value)(self.receive(item) for item in value)
        if isinstance(value, dict):
            return {key: self.receive(item) for key, item in value.items()}
        return value

    def value_of(self, reply: Reply) -> Any:
        """What was returned; raises :class:`Wrong` where nothing was."""
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
    """An object on the student's side: its methods and attributes, asked for by name.

    Attributes
    ----------
    type_name : str
    name : str
        What it is called in messages.
    made : bool
        Whether a check had it made. What is asked of such an object is not what the student's work was tried on.
    """

    def __init__(self, student: Student, handle: Handle, name: str, made: bool = False):
        self._student = student
        self.handle = handle
        self.type_name = handle.type_name
        self.name = name
        self.made = made

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call ``object.method(*args, **kwargs)``. None is an answer here: ``fit`` may return nothing."""
        names = tuple(f"argument {i + 1}" if len(args) > 1 else "x" for i in range(len(args)))
        name = self.name if method == "__call__" else f"{self.name}.{method}"
        self._asks(name, names, args, kwargs)
        return self._receive(self._student.oracle.method(self.handle, method, *sent(args, kwargs)), name)

    def get(self, attribute: str) -> Any:
        """Read ``object.attribute``; ``"weight.requires_grad"`` reads an attribute of an attribute."""
        self._asks(f"{self.name}.{attribute}", (), None, {})
        return self._receive(self._student.oracle.attribute(self.handle, attribute), f"{self.name}.{attribute}")

    def vjp(self, args: tuple, cotangent: Any) -> tuple[Any, dict]:
        """Call the object, a torch module, and go backward through it; see `Student.vjp`.

        Returns
        -------
        value
        gradients : dict
            By name: of the parameters, and "0", "1", ... for the floating tensors among the arguments.
        """
        self._asks(self.name, ("x",) if len(args) == 1 else (), args, {})
        (plain,), _ = sent((args,), {})
        return self._receive(self._student.oracle.vjp(self.handle, plain, cotangent, None), self.name)

    def _asks(self, *what: Any) -> None:
        if not self.made:
            self._student.asks(*what)

    def _receive(self, reply: Reply, name: str) -> Any:
        self._student.replies.append(reply)
        if reply.failure is not None:
            raise _failed(name, reply.failure)
        return self._student.receive(reply.value)


def sent(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Arguments as an oracle takes them: handles in the place of objects."""

    def plain(value: Any) -> Any:
        if isinstance(value, StudentObject):
            return value.handle
        if type(value) in (list, tuple):
            return type(value)(map(plain, value))
        if type(value) is dict:
            return {key: plain(item) for key, item in value.items()}
        return value

    return plain(args), plain(kwargs)


def kind_of(value: Any) -> str:
    """The kind of a value in a student's words."""
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}"
    if tensors.is_tensor(value):
        return f"tensor of shape {tuple(value.shape)}"
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
