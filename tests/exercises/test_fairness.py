"""Fair to everyone: a right answer keeps its points with any random numbers, in any style, in any order, and whatever
state the student's other cells have left behind.

`bnlab exercises verify` proves every answer with three seeds and 23 cases. Here are thirty more, with one case of each
part: all of them for the instructor's solution, every third for each other style; a third of that where torch computes.
"""

import ast
import contextlib
import random
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from nbformat import NotebookNode

from bnlab.checks import InKernel
from bnlab.exercises.source import find_sources, solution_id
from bnlab.exercises.verify import run_notebook, stub, without_figures

EXERCISES = Path(__file__).parents[2] / "exercises"
SOURCES = {source.name: source for source in find_sources(EXERCISES)}
STYLES = [
    (name, style)
    for name, source in SOURCES.items()
    for style in ("solution", *sorted(path.stem for path in source.directory.glob("submissions/right_*.py")))
]
SEEDS = range(1000, 1030)  # the student's copy uses 0, verify uses others, and grading draws its own

MESS = """
import random, warnings
random.seed(0)
np.random.seed(0)
np.seterr(all="raise")
np.set_printoptions(precision=1, threshold=2)
warnings.simplefilter("error")
"""
TORCH_MESS = """
import torch
torch.manual_seed(0)
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
"""

every_set = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(autouse=True)
def one_case(monkeypatch):
    """One case of each part in the test cells: what is tried here is the same in every case."""
    monkeypatch.setenv("BNLAB_CASES", "1")


@pytest.fixture(autouse=True)
def state_is_put_back():
    """What a notebook sets for its own process must not reach the other tests."""
    numpy_state, python_state, options = np.random.get_state(), random.getstate(), np.get_printoptions()  # noqa: NPY002
    with np.errstate(), warnings.catch_warnings():
        yield
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)
    np.set_printoptions(**options)
    torch = sys.modules.get("torch")  # a notebook may have imported it
    if torch is not None:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)


@cache
def notebook(name):
    """Imports, answers and test cells of the solved notebook."""
    pytest.importorskip("jupytext", reason="jupytext is not installed: make test installs it")
    if SOURCES[name].needs_torch:
        pytest.importorskip("torch", reason="torch is not installed: make test installs it")
    return without_figures(SOURCES[name].notebook)


def run(name, cells=None, replaced=None):
    """Run cells of a set (default: all but the figures): what they define, and the reports of the test cells."""
    source = SOURCES[name]
    cells = notebook(name).cells if cells is None else cells
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        return run_notebook(NotebookNode(notebook(name), cells=cells), replaced or {}, source.directory)[:2]


def all_full(reports, names):
    """Whether these questions have all their points; fails with what they lost and why."""
    lost = [f"{name}: no report" for name in names if name not in reports]
    lost += [str(reports[name]) for name in names if name in reports and reports[name].lost]
    assert not lost, "\n\n".join(lost)
    return True


def answers(name, style):
    """The cells that a right solution replaces, by question: of the instructor's none, and all are meant."""
    found = {submission.name: submission.cells for submission in SOURCES[name].submissions}
    return found.get(style, dict.fromkeys(SOURCES[name].problem_set.questions))


@pytest.mark.parametrize("name, style", STYLES)
def test_right_in_any_style_is_right_for_any_seed(name, style):
    problem_set, cells = SOURCES[name].problem_set, answers(name, style)
    namespace, _ = run(name, replaced={question: text for question, text in cells.items() if text})
    number = STYLES.index((name, style))
    step = (1 if style == "solution" else 3) * (3 if SOURCES[name].needs_torch else 1)
    lost = {}
    for question in cells:
        oracle = InKernel(namespace[question], checks=problem_set.module)  # watches for nothing: that takes its time
        for seed in SEEDS[number % step :: step]:
            report = problem_set.questions[question].grade(oracle, seed, cases=1)
            if report.score != report.points:
                lost[question, seed] = str(report)
                break
    assert not lost, "\n\n".join(f"seed {seed}: {text}" for (_, seed), text in lost.items())


@every_set
def test_state_left_by_the_first_cell_costs_nothing(name):
    first, *rest = notebook(name).cells
    mess = MESS + (TORCH_MESS if SOURCES[name].needs_torch else "")
    first = NotebookNode(first, source=f"{first.source}\n{mess}")
    _, reports = run(name, [first, *rest])
    assert all_full(reports, SOURCES[name].problem_set.questions)


@every_set
def test_questions_can_be_answered_in_any_order(name):
    first, *rest = notebook(name).cells
    by_id = {cell.metadata.nbgrader.grade_id: cell for cell in rest}
    questions = SOURCES[name].problem_set.questions
    backwards = [by_id[grade_id] for question in reversed(questions) for grade_id in (solution_id(question), question)]
    _, reports = run(name, [first, *backwards])
    assert all_full(reports, questions)


@every_set
def test_an_unanswered_question_hides_no_other(name):
    source = SOURCES[name]
    questions = list(source.problem_set.questions)
    for start in range(3):  # every third question is left as it was handed out
        unanswered = questions[start::3]
        _, reports = run(name, replaced={question: stub(source.notebook, question) for question in unanswered})
        assert all_full(reports, [question for question in questions if question not in unanswered])
        assert {question: reports[question].status for question in unanswered} == dict.fromkeys(
            unanswered, "not answered"
        )


class _Warns(ast.NodeTransformer):
    """Lets every function of an answer warn, print and write to standard error before it does its work."""

    NOISE = ast.parse(
        "import sys, warnings\n"
        "warnings.warn('an old habit', DeprecationWarning)\n"
        "print('here')\n"
        "sys.stderr.write('there')\n"
    ).body

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        compiled = any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)
        if not compiled:
            docstring = ast.get_docstring(node) is not None
            node.body[docstring:docstring] = self.NOISE
        return node


@every_set
def test_warnings_and_output_cost_nothing(name, capfd):
    cells = [
        NotebookNode(cell, source=ast.unparse(ast.fix_missing_locations(_Warns().visit(ast.parse(cell.source)))))
        if cell.metadata.get("nbgrader", {}).get("solution")
        else cell
        for cell in notebook(name).cells
    ]
    _, reports = run(name, cells)
    assert all_full(reports, SOURCES[name].problem_set.questions)
    for report in reports.values():
        assert any("an old habit" in text for part in report.parts for text in part.warned), report.question
    assert "there" not in capfd.readouterr().err  # nbgrader scores a cell that writes to standard error 0
