"""Prove a problem set: the solution scores full, the untouched stub 0, every right solution full, and every named
mistake loses exactly the parts it says, with a message that names it.

A borrowed answer, one that calls the library's own function, keeps its points and must be flagged; no other may be.

Each submission is the notebook with some solution cells replaced, run from top to bottom: the whole of it where all
should go well, and for the many mistakes without figures and without the tests of the other questions. The checks of
what was replaced then run twice more, with other seeds and as many cases as grading uses.
"""

import ast
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from nbformat import NotebookNode

from bnlab.checks import InKernel, Report
from bnlab.exercises.source import Source, Submission, find_sources, solution_id

GRADING_SEEDS = (20150211, 1502_03167)  # two that no student's copy uses; grading draws its own
GRADING_CASES = 10
STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")  # as nbgrader's ClearSolutions writes it


@dataclass(frozen=True)
class Outcome:
    """What running one submission showed.

    Attributes
    ----------
    problem_set, submission, about : str
    score, points : float
        As the student's copy of the checks counts them. The answers beside a mistake are the instructor's, which the
        solution proves: they count in full.
    seconds : float
        Time in the notebook's cells, its imports apart.
    complaints : tuple of str
        What should not be so. Empty means proven.
    """

    problem_set: str
    submission: str
    about: str
    score: float
    points: float
    seconds: float
    complaints: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> str:
        """ "solution", "stub", "right", "wrong" or "borrowed"."""
        return self.submission.partition("_")[0]


def verify(course: Path, names: list[str] | None = None, jobs: int | None = None) -> Iterator[Outcome]:
    """Run every submission of the named problem sets (default: all) and yield the outcomes in order.

    Parameters
    ----------
    course : Path
    names : list of str, optional
    jobs : int, optional
        Processes at once. Default: the number of cores.
    """
    sources = find_sources(course, names)
    tasks = [(source.directory, submission) for source in sources for submission in _to_prove(source)]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_prove, *zip(*tasks, strict=True))


def count(course: Path, names: list[str] | None = None) -> int:
    """How many outcomes :func:`verify` will yield."""
    return sum(len(_to_prove(source)) for source in find_sources(course, names))


def _to_prove(source: Source) -> list[Submission]:
    stubs = {name: stub(source.notebook, name) for name in source.problem_set.questions}
    return [
        Submission("solution", "the instructor's", {}),
        Submission("stub", "as handed out", stubs),
        *source.submissions,
    ]


def stub(notebook: NotebookNode, question: str) -> str:
    """The solution cell of `question` as students get it."""
    lines, inside = [], False
    for line in _cell(notebook, solution_id(question)).source.splitlines():
        if "### BEGIN SOLUTION" in line:
            inside = True
            lines += [line[: len(line) - len(line.lstrip())] + text for text in STUB]
        if not inside:
            lines.append(line)
        if "### END SOLUTION" in line:
            inside = False
    return "\n".join(lines)


def without_figures(notebook: NotebookNode, tested: Collection[str] | None = None) -> NotebookNode:
    """The notebook's imports (its first code cell), answers and test cells: all tests, or those of some questions."""
    first, *rest = (cell for cell in notebook.cells if cell.cell_type == "code")
    kept = [cell for cell in rest if "nbgrader" in cell.metadata]
    if tested is not None:
        kept = [c for c in kept if not c.metadata.nbgrader.get("grade") or c.metadata.nbgrader.grade_id in tested]
    return NotebookNode(notebook, cells=[first, *kept])


def run_notebook(
    notebook: NotebookNode, replaced: dict[str, str], directory: Path
) -> tuple[dict, dict[str, Report], float]:
    """Run a notebook's cells with some solution cells replaced, in this process.

    Parameters
    ----------
    notebook : NotebookNode
    replaced : dict of str to str
        New source of the solution cell, by question.
    directory : Path
        Its files (``checks.py``) can be imported by the notebook.

    Returns
    -------
    namespace : dict
        What the cells defined.
    reports : dict of str to Report
        The values of the test cells. One whose cell raised is missing.
    seconds : float
        Time spent in all cells but the first, which imports.
    """
    import sys

    import matplotlib

    matplotlib.use("Agg")
    new = {solution_id(question): source for question, source in replaced.items()}
    namespace: dict = {"__name__": "__main__"}
    reports: dict[str, Report] = {}
    seconds = 0.0
    sys.path.insert(0, str(directory))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
                grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
                started = time.perf_counter()
                with contextlib.suppress(Exception):  # as a notebook: the next cell runs all the same
                    value = _run_cell(new.get(grade_id, cell.source), namespace)
                    if isinstance(value, Report):
                        reports[grade_id] = value
                seconds += (time.perf_counter() - started) if number else 0.0
    finally:
        sys.path.remove(str(directory))
        sys.modules.pop("checks", None)
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
    return namespace, reports, seconds


def _run_cell(source: str, namespace: dict):
    """Run a cell; the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace) if last else None


def _prove(directory: Path, submission: Submission) -> Outcome:
    source = Source(directory.resolve())  # the cells run in another directory
    problem_set, questions = source.problem_set, source.problem_set.questions
    whole = submission.kind in ("solution", "stub", "right")
    asked = list(questions) if whole else list(submission.cells)
    notebook = source.notebook if whole else without_figures(source.notebook, asked)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        namespace, reports, seconds = run_notebook(notebook, submission.cells, source.directory)
    complaints = [f"{name}: its test cell shows no report" for name in asked if name not in reports]

    def graded(name: str, seed: int) -> Report:  # unwatched: what is borrowed has shown in the test cell
        oracle = InKernel(namespace[name], questions[name].seconds, problem_set.module)
        with oracle.many_calls():
            return questions[name].grade(oracle, seed, GRADING_CASES)

    again = [name for name in reports if name in (submission.cells or questions)]
    rounds = [reports, *({name: graded(name, seed) for name in again} for seed in GRADING_SEEDS)]
    for number, found in enumerate(rounds):
        where = "" if number == 0 else f" (seed {GRADING_SEEDS[number - 1]})"
        complaints += [f"{text}{where}" for name in found for text in _complaints(submission, name, found[name])]
        complaints += [] if number else [text for name in found for text in _flags(submission, name, found[name])]
    others = sum(question.points for name, question in questions.items() if name not in asked)
    return Outcome(
        source.name,
        submission.name,
        submission.about,
        score=round(sum(r.score for r in reports.values()) + others, 2),
        points=problem_set.checked_points,
        seconds=seconds,
        complaints=tuple(dict.fromkeys(complaints)),
    )


def _complaints(submission: Submission, question: str, report: Report) -> list[str]:
    if submission.name == "stub":
        return (
            [] if report.status == "not answered" and report.score == 0 else [f"{question}: the stub scores {report!r}"]
        )
    expected = submission.loses if question in submission.cells else frozenset()
    if report.lost != expected:
        return [
            f"{question}: loses {sorted(report.lost) or 'nothing'}, expected {sorted(expected) or 'nothing'}"
            + (f"; it says: {' / '.join(report.messages.split(chr(10)))}" if report.lost else "")
        ]
    if expected and submission.says.lower() not in report.messages.lower():
        return [f"{question}: no message says {submission.says!r}; it says: {' / '.join(report.messages.splitlines())}"]
    return []


def _flags(submission: Submission, question: str, report: Report) -> list[str]:
    if submission.flags and question in submission.cells and submission.flags not in report.borrowed:
        return [f"{question}: {submission.flags} is not reported as borrowed; reported: {report.borrowed or 'nothing'}"]
    if report.borrowed and not submission.flags:
        return [f"{question}: {', '.join(report.borrowed)} is reported as borrowed, expected nothing"]
    return []


def _cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)
