"""Problem sets, their questions, and the parts that a question's points are split into.

This module decides what is asked and what it is worth. How to call the student is `student.py`'s business, how to
compare is `compare.py`'s.
"""

import contextlib
import importlib.util
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnlab.checks import tensors
from bnlab.checks.borrowed import BATCH_NORMS
from bnlab.checks.compare import Wrong
from bnlab.checks.in_kernel import InKernel
from bnlab.checks.oracle import Oracle
from bnlab.checks.report import PartResult, Report
from bnlab.checks.student import Student

_SIGNATURE = re.compile(r"^(?P<name>\w+)\((?P<arguments>[\w, ]*)\) -> (?P<returns>[\w, ]+)$")

# Set by the course's grading configuration: another seed and more cases than the student's copy draws.
SEED_VARIABLE, CASES_VARIABLE = "BNLAB_SEED", "BNLAB_CASES"


@dataclass(frozen=True)
class Part:
    """One thing that a question asks of its answer: all its cases must hold."""

    name: str
    weight: float
    run: Callable[[Student, np.random.Generator], None]
    counts_alone: bool = True
    most_cases: int | None = None


class Question:
    """A graded function: its signature, its points, and the parts they are split into.

    Parameters
    ----------
    signature : str
        Such as ``"batch_moments(x) -> mean, var"``. The name is also the `grade_id` of the notebook's test cell.
    points : float
    borrowed : tuple of str
        Library functions that would be the answer themselves: a call is reported, and costs nothing.
    seconds : float
        Time limit of one call.
    """

    def __init__(self, signature: str, points: float, borrowed: tuple[str, ...] = BATCH_NORMS, seconds: float = 10.0):
        match = _SIGNATURE.match(signature)
        if match is None:
            raise ValueError(f"signature {signature!r} does not read like 'name(a, b) -> c, d'")
        self.name = match["name"]
        self.arguments = _names(match["arguments"])
        self.returns = _names(match["returns"])
        self.points = float(points)
        self.borrowed = borrowed
        self.seconds = seconds
        self.parts: list[Part] = []

    def part(
        self, name: str, weight: float = 1, *, counts_alone: bool = True, most_cases: int | None = None
    ) -> Callable[[Callable], Callable]:
        """Declare a part. The function it decorates gets a :class:`Student` and a random generator.

        It is called once per case with a fresh generator and raises :class:`Wrong` (through `agree` and `holds`) where
        the answer is wrong. With ``counts_alone=False`` its points are given only where another part passed: a
        function that returns nonsense should not be paid for leaving its inputs alone. ``most_cases=1`` is for what no
        other numbers can change, such as the names in a state_dict, and for a part that draws several shapes or dtypes
        in every case: one case shows it as well as ten.
        """
        if name in (part.name for part in self.parts):
            raise ValueError(f"question {self.name} has two parts called {name!r}: give each its own name")

        def declare(run: Callable) -> Callable:
            self.parts.append(Part(name, weight, run, counts_alone, most_cases))
            return run

        return declare

    def keeps_its_inputs(self, draw: Callable[[np.random.Generator], tuple], weight: float = 1) -> None:
        """Declare the part that fails where the function changes an argument of ``draw(rng)`` in place."""

        @self.part("leaves its inputs as they were", weight, counts_alone=False)
        def _(student: Student, rng: np.random.Generator) -> None:
            changed = student.changed_by(*draw(rng))
            if changed:
                raise Wrong(
                    f"{self.name} changed its input {' and '.join(changed)} in place.",
                    "The caller still needs those numbers: make a new array, a = a - b instead of a -= b.",
                )

    def grade(self, oracle: Oracle, seed: int = 0, cases: int = 3) -> Report:
        """Run every part and report.

        Parameters
        ----------
        oracle : Oracle
            Answers for the student's function.
        seed, cases : int
            Each part is run `cases` times, unless it needs fewer, on inputs drawn from `seed`, the question, the part
            and the case alone.

        Returns
        -------
        Report
        """
        student = Student(oracle, self.name, self.arguments, self.returns)
        results: list[PartResult] = []
        borrowed: dict[str, None] = {}
        for part in self.parts:
            results.append(self._run(part, student, seed, cases))
            borrowed |= dict.fromkeys(name for reply in student.replies for name in reply.borrowed)
            if results[-1].final:
                break
        alone = {part.name for part in self.parts if part.counts_alone}
        if not any(result.passed for result in results if result.name in alone):
            results = [result if result.name in alone else result.withheld() for result in results]
        weight = sum(part.weight for part in self.parts)
        return Report(self.name, self.points, tuple(results), weight, tuple(borrowed))

    def _run(self, part: Part, student: Student, seed: int, cases: int) -> PartResult:
        student.replies.clear()
        stream = zlib.crc32(f"{self.name}/{part.name}".encode())
        wrong, tried = None, ""
        for case in range(cases if part.most_cases is None else min(cases, part.most_cases)):
            student.oracle.watching = case == 0  # what an answer calls doesn't depend on the numbers drawn
            try:
                with _clean_state():
                    part.run(student, np.random.default_rng([seed, stream, case]))
            except Wrong as found:
                wrong, tried = found, student.tried
                break
            except Exception as error:  # the answer has a form that the check did not foresee
                message = f"The check could not make sense of this answer ({type(error).__name__}: {error})."
                wrong, tried = Wrong(message, "Compare what it returns with what the question asks for."), student.tried
                break
        return PartResult(
            part.name,
            part.weight,
            passed=wrong is None,
            answered=wrong is None or wrong.answered,
            final=wrong is not None and wrong.final,
            message=wrong.message if wrong else "",
            hint=wrong.hint if wrong else "",
            tried=tried,
            printed=next((reply.printed for reply in student.replies if reply.printed), ""),
            warned=tuple(dict.fromkeys(text for reply in student.replies for text in reply.warned)),
        )


class ProblemSet:
    """The questions of one problem set, in the order of its notebook.

    Attributes
    ----------
    name : str
    questions : dict of str to Question
        The graded functions and classes.
    written_answers : dict of str to float
        Points of the answers in words, by `grade_id`. A person grades them.
    module : str
        Name under which its ``checks.py`` was imported.
    """

    def __init__(self, name: str):
        self.name = name
        self.questions: dict[str, Question] = {}
        self.written_answers: dict[str, float] = {}
        self.module = "checks"  # as notebooks import it

    def question(
        self, signature: str, points: float, *, borrowed: tuple[str, ...] = BATCH_NORMS, seconds: float = 10.0
    ) -> Question:
        """Declare a question; see :class:`Question`."""
        question = Question(signature, points, borrowed, seconds)
        if question.name in self.questions:
            raise ValueError(f"{self.name} has two questions called {question.name!r}")
        self.questions[question.name] = question
        return question

    def written(self, grade_id: str, points: float) -> None:
        """Declare an answer in words: a markdown cell of the notebook, graded by a person."""
        if grade_id in self.written_answers or grade_id in self.questions:
            raise ValueError(f"{self.name} has two questions called {grade_id!r}")
        self.written_answers[grade_id] = float(points)

    @property
    def checked_points(self) -> float:
        """Points that the checks give."""
        return sum(question.points for question in self.questions.values())

    @property
    def points(self) -> float:
        """Points of everything: of the checks and of the answers in words."""
        return self.checked_points + sum(self.written_answers.values())

    def oracle(self, grade_id: str, work: Callable) -> InKernel:
        """The oracle in front of a piece of work that lives in this process."""
        question = self.questions[grade_id]
        return InKernel(work, question.seconds, self.module, question.borrowed)

    def check(self, grade_id: str, work: Any) -> Report:
        """Check one answer in the student's own kernel; the last line of a test cell.

        Parameters
        ----------
        grade_id : str
            Name of the question.
        work : callable
            The student's function or class.

        Returns
        -------
        Report
            Shown as a report; its plain text is the score, as nbgrader reads it.

        Raises
        ------
        ValueError
            There is no such question.
        """
        question = self.questions.get(grade_id)
        if question is None:
            raise ValueError(f"{self.name} has no question {grade_id!r}; its questions are {', '.join(self.questions)}")
        if not callable(work):
            message = f"{grade_id} is a {type(work).__name__}, expected a function."
            failed = PartResult(
                "can be called", 1, passed=False, message=message, hint=f"Define it: def {grade_id}(...)"
            )
            return Report(question.name, question.points, (failed,), weight=1)
        seed, cases = int(os.environ.get(SEED_VARIABLE, 0)), int(os.environ.get(CASES_VARIABLE, 3))
        oracle = self.oracle(grade_id, work)
        with oracle.many_calls():
            return question.grade(oracle, seed, cases)


def load_problem_set(checks: Path) -> ProblemSet:
    """Load the problem set that a ``checks.py`` declares.

    Parameters
    ----------
    checks : Path
        The file. It is run, so load only your own.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It declares no `problem_set`.
    """
    checks = Path(checks)
    if not checks.is_file():
        raise FileNotFoundError(f"{checks} does not exist: the checks lie in a file checks.py beside the notebook")
    name = f"_checks_{zlib.crc32(str(checks.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, checks)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    problem_set = getattr(module, "problem_set", None)
    if not isinstance(problem_set, ProblemSet):
        raise ValueError(f"{checks} declares no problem_set: it needs a line problem_set = ProblemSet(...)")
    problem_set.module = name
    return problem_set


@contextlib.contextmanager
def _clean_state() -> Iterator[None]:
    """Run a check's own code apart from what a student has switched off or turned into errors in some other cell."""
    with (
        tensors.default_state(),
        np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _names(listed: str) -> tuple[str, ...]:
    names: Iterable[str] = (name.strip() for name in listed.split(","))
    return tuple(name for name in names if name)
