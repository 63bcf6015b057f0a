"""Notice a library function that would be the answer itself.

Where the task is to implement batch normalization, a call of ``F.batch_norm`` gives right numbers and shows nothing.
It is noticed while the answer runs and reported: to the student as a message, to the instructor as a flag. It costs no
points: whether it matters is for a person to say.

What this isn't: a guard. Code that wants to hide a call can.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

# A name stands for a function, for a class with its methods, or for all functions of a module.
BATCH_NORMS = (
    "bnlab.reference",
    "bnlab.functional",
    "bnlab.modules",
    "bnlab.relatives",
    "bnlab.retrofit",
    "torch.batch_norm",
    "torch.native_batch_norm",
    "torch.nn.functional.batch_norm",
    "torch.nn.functional.instance_norm",
    "torch.nn.modules.batchnorm",
    "sklearn.preprocessing",
)


class Watch:
    """Notes which of the named library functions are called.

    Parameters
    ----------
    names : iterable of str
        Such as "torch.nn.functional.batch_norm", "numpy.cov", "bnlab.reference".

    Attributes
    ----------
    seen : list of str
        Those of the names that were called, in the order of their first call.
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)
        self.seen: list[str] = []
        self._codes: dict[CodeType, str] = {}  # of Python functions, by what they are known as; "" for all others
        self._builtins: dict[Any, str] = {}
        for name in self.names:
            self._look_up(name)

    def _look_up(self, name: str) -> None:
        """Find the function behind a name, which may be defined under another one (``numpy.cov`` is)."""
        module, _, rest = name.rpartition(".")
        found = vars(sys.modules.get(module, object)).get(rest)  # not getattr: it may import what nobody has asked for
        found = getattr(found, "_implementation", found)  # NumPy's functions stand behind a dispatcher
        if hasattr(found, "__code__"):
            self._codes[found.__code__] = name
        elif callable(found) and not isinstance(found, type):
            self._builtins[found] = name

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls made by this thread."""
        if not self.names:
            yield
            return
        earlier = sys.getprofile()
        sys.setprofile(self._notice)
        try:
            yield
        finally:
            sys.setprofile(earlier)

    def _notice(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            code = frame.f_code
            name = self._codes.get(code)
            if name is None:
                name = self._codes[code] = self._name_of(code, frame)
        elif event == "c_call" and self._builtins:
            try:
                name = self._builtins.get(called)
            except TypeError:  # a method of something that has no hash
                return
        else:
            return
        if name and name not in self.seen:
            self.seen.append(name)

    def _name_of(self, code: CodeType, frame: FrameType) -> str:
        """The watched name to which a Python function belongs, or ""."""
        full = f"{frame.f_globals.get('__name__', '')}.{code.co_qualname}"
        return next((name for name in self.names if full == name or full.startswith(f"{name}.")), "")
