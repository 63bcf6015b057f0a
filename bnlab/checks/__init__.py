"""Checks for the exercises: cases, partial credit, and messages that name the mistake.

A problem set's ``checks.py`` declares its questions and their parts::

    problem_set = ProblemSet("ps2_forward")
    moments = problem_set.question("batch_moments(x) -> mean, var", points=14)

    @moments.part("mean of each feature", weight=2)
    def _(student, rng):
        x = rng.normal(size=(8, 3))
        mean, var = student(x)
        agree("mean", mean, x.mean(axis=0), mistakes={"This is the mean of each example.": x.mean(axis=1)})

    check = problem_set.check

and a test cell of the notebook is one line, ``check("batch_moments", batch_moments)``.

A check never touches the student's function itself. It talks to an :class:`Oracle`, so the same check runs in the
student's own kernel (:class:`InKernel`) and, when it counts, in another process that only exchanges plain data with the
student's code. Nothing here needs more than NumPy and the standard library.
"""

from bnlab.checks.borrowed import BATCH_NORMS
from bnlab.checks.compare import Wrong, agree, holds
from bnlab.checks.in_kernel import InKernel
from bnlab.checks.oracle import Failure, Handle, Named, Oracle, Reply
from bnlab.checks.problem_set import ProblemSet, Question, load_problem_set
from bnlab.checks.report import PartResult, Report
from bnlab.checks.student import Student, StudentObject

__all__ = [
    "BATCH_NORMS",
    "Failure",
    "Handle",
    "InKernel",
    "Named",
    "Oracle",
    "PartResult",
    "ProblemSet",
    "Question",
    "Reply",
    "Report",
    "Student",
    "StudentObject",
    "Wrong",
    "agree",
    "holds",
    "load_problem_set",
]
