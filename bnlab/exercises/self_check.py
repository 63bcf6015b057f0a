"""A student's own run of a notebook, from top to bottom in a fresh kernel, before handing in.

It executes what the grader will execute and reads the reports that the test cells show. It changes no file.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from bnlab.checks import ProblemSet, load_problem_set
from bnlab.checks.report import JSON_MIME
from bnlab.grading.intake import inspect, read_notebook


@dataclass(frozen=True)
class Row:
    """One question as the run left it.

    Attributes
    ----------
    question : str
    points, score : float
    status : str
        "right", "partly right", "wrong", "not answered", "error" (the test cell raised) or "missing" (there is none).
    message : str
        The first thing that was wrong, and what to do.
    """

    question: str
    points: float
    score: float
    status: str
    message: str = ""


def self_check(
    path: Path, seconds: float = 120, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[ProblemSet, list[Row], list[str]]:
    """Run a notebook and tell how each question came out.

    Parameters
    ----------
    path : Path
        The notebook, with its ``checks.py`` beside it.
    seconds : float
        Time limit of one cell.
    progress : callable
        Called with the number of cells run and the number of all cells.

    Returns
    -------
    problem_set : ProblemSet
    rows : list of Row
        One per question, in the problem set's order.
    findings : list of str
        What is wrong with the notebook's cells: renamed, copied, deleted.

    Raises
    ------
    UnreadableNotebook
        It isn't a notebook.
    FileNotFoundError
        There is no ``checks.py`` beside it.
    """
    notebook = read_notebook(path)
    problem_set = load_problem_set(path.parent / "checks.py")
    findings = inspect(notebook, problem_set.questions)
    stopped = _execute(notebook, path.parent, seconds, progress)
    if stopped:
        findings.append(stopped)
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    rows = [_row(name, question.points, cells.get(name)) for name, question in problem_set.questions.items()]
    return problem_set, rows, findings


def _execute(notebook: NotebookNode, directory: Path, seconds: float, progress: Callable[[int, int], None]) -> str:
    """Run every cell, whatever the others do. What stopped the run, or ''."""
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    done = 0
    for cell in notebook.cells:  # what an earlier run left behind is not an answer
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None

    def count(cell: NotebookNode, cell_index: int, **_: object) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    client = NotebookClient(
        notebook,
        timeout=seconds,
        allow_errors=True,
        resources={"metadata": {"path": str(directory)}},
        on_cell_complete=count,
        kernel_name="python3",
    )
    try:
        asyncio.run(client.async_execute())
    except CellTimeoutError:
        return f"A cell ran longer than {seconds:g} s and was stopped; the cells after it were not run."
    except DeadKernelError:
        return "The kernel died, from too little memory perhaps; the cells after that were not run."
    return ""


def _row(question: str, points: float, cell: NotebookNode | None) -> Row:
    if cell is None or cell.cell_type != "code":
        return Row(
            question, points, 0.0, "missing", "Its test cell is gone: copy it from a fresh copy of the notebook."
        )
    for output in cell.outputs:
        report = output.get("data", {}).get(JSON_MIME)
        if report:
            failed = [part for part in report["parts"] if not part["passed"]]
            texts = [failed[0]["message"], failed[0]["hint"]] if failed else []
            return Row(question, points, report["score"], report["status"], "\n".join(filter(None, texts)))
        if output.output_type == "error":
            hint = "Run the cell that defines it?" if output.ename == "NameError" else ""
            return Row(question, points, 0.0, "error", f"{output.ename}: {output.evalue}\n{hint}".strip())
    return Row(
        question,
        points,
        0.0,
        "error",
        f'Its test cell shows no report: its last line is check("{question}", {question}).',
    )
