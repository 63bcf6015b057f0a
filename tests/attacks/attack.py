"""What an attack is: a submission, and what at most may come of it.

The modules of `corpus` declare attacks with :func:`attack`. Nothing in this package ever runs an attack's code: it is
text that goes into a notebook, and the notebook goes to the grader.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import nbformat

from bnlab.grading.record import CRASHED, GRADED, MEMORY, MISSING, STATUSES, TIMEOUT, UNREADABLE

from .scene import Scene


@dataclass(frozen=True)
class Expected:
    """What may come of one question.

    Attributes
    ----------
    statuses : frozenset of str
    least, most : float
        Share of the points that a "graded" question gets: 1 is what honest work earns.
    """

    statuses: frozenset[str]
    least: float = 0.0
    most: float = 0.0

    def problem(self, question: str, status: str, share: float) -> str:
        """What is wrong with a result, or ""."""
        if status not in self.statuses:
            return f"{question} is {status}, expected {' or '.join(sorted(self.statuses))}"
        if status == GRADED and not self.least <= share <= self.most:
            return f"{question} earns {share:.0%} of its points, expected {self.least:.0%} to {self.most:.0%}"
        return ""


def either(*statuses: str, most: float = 0.0) -> Expected:
    """One of these statuses; where it is "graded", at most this share of the points."""
    return Expected(frozenset(statuses), 0.0, most)


FULL = Expected(frozenset({GRADED}), 1.0, 1.0)  # honest work, which the attack must not harm
NOTHING = either(GRADED)
LOST = either(CRASHED)
LATE = either(TIMEOUT)
TOO_BIG = either(MEMORY)
BROKEN = either(GRADED, CRASHED, TIMEOUT, MEMORY)  # no points, in whatever way it ends
AT_BEST = either(GRADED, CRASHED, TIMEOUT, MEMORY, most=1.0)  # honest work that the attack may spoil for itself
ILLEGIBLE = either(UNREADABLE)
ABSENT = either(GRADED, MISSING)
ANYTHING = either(*STATUSES, most=1.0)


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    Attributes
    ----------
    name, theme : str
    tries : str
        What it tries, in a sentence.
    victim : str
        The problem set: "arrays" or "tensors".
    build : callable
        Makes the notebook (or the bytes of the file) from the :class:`Scene`.
    expected : dict of str to Expected
        By question; those not named must be graded with full points.
    others : Expected
        What holds for the questions not named.
    forbidden : tuple of str
        Patterns that nothing the grader gives out may match.
    student : str
        The name under which it is handed in.
    """

    name: str
    theme: str
    tries: str
    victim: str
    build: Callable[[Scene], nbformat.NotebookNode | bytes | str]
    expected: dict[str, Expected] = field(default_factory=dict)
    others: Expected = FULL
    forbidden: tuple[str, ...] = ()
    student: str = "mallory"

    def data(self, scene: Scene) -> bytes:
        """The file as handed in."""
        made = self.build(scene)
        if isinstance(made, bytes):
            return made
        return (made if isinstance(made, str) else nbformat.writes(made)).encode("utf-8", "surrogatepass")


ATTACKS: dict[str, Attack] = {}


def attack(
    victim: str = "arrays",
    *,
    others: Expected = FULL,
    forbidden: Iterable[str] = (),
    student: str = "mallory",
    **expected: Expected,
) -> Callable[[Callable], Callable]:
    """Declare an attack; see :class:`Attack`. The function's docstring says what it tries."""

    def declare(build: Callable) -> Callable:
        name = build.__name__
        if name in ATTACKS:
            raise ValueError(f"two attacks are called {name}")
        theme = build.__module__.rpartition(".")[2]
        tries = re.sub(r"\s+", " ", build.__doc__).strip()
        ATTACKS[name] = Attack(name, theme, tries, victim, build, expected, others, tuple(forbidden), student)
        return build

    return declare


def load_corpus() -> list[Attack]:
    """All attacks, by theme."""
    package = importlib.import_module(f"{__package__}.corpus")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return sorted(ATTACKS.values(), key=lambda found: found.theme)
