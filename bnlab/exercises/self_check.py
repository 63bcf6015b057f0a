"""A student's own run of a notebook, from top to bottom in a fresh kernel, before handing in.

It executes what the grader will execute and reads the reports that the test cells show. It changes no file.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

from bnlab.checks import ProblemSet, load_problem_set
from bnlab.checks.report import JSON_MIME
from bnlab.grading.intake import EMPTY_ANSWER, inspect, read_notebook


@dataclass(frozen=True)
class Row:
    """One question as the run left it.

    Attributes
    ----------
    question : str
    points, score : float
    status : str
        "right", "partly right", "wrong", "not answered", "error" (the test cell raised), "missing" (there is none),
        "not run", or "by hand" for an answer in words, which no check can grade.
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
    findings = inspect(notebook, problem_set.questions, problem_set.written_answers)
    stopped = _execute(notebook, path.parent, seconds, progress)
    if stopped:
        findings.append(stopped)
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    rows = [
        _row(name, question.points, cells.get(name), cells.get(f"{name}-solution"))
        for name, question in problem_set.questions.items()
    ]
    rows += [_written_row(name, points, cells.get(name)) for name, points in problem_set.written_answers.items()]
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
        interrupt_on_timeout=True,
        on_cell_complete=count,
        kernel_name="python3",
    )
    client.log.setLevel(logging.CRITICAL)  # a cell that is interrupted is in the findings
    client.extra_arguments = ["--log-level=ERROR"]  # the kernel's own remarks would alarm a beginner
    try:
        asyncio.run(client.async_execute())
    except DeadKernelError:
        return "The kernel died (exit(), os._exit(), or too large an array?). The cells after that were not run."
    stopped = [
        cell for cell in notebook.cells if any(o.get("ename") == "KeyboardInterrupt" for o in cell.get("outputs", []))
    ]
    if stopped:
        first = stopped[0].source.strip().splitlines()[0]
        return f"A cell ran longer than {seconds:g} s and was interrupted, an endless loop perhaps: {first}"
    return ""


def _row(question: str, points: float, cell: NotebookNode | None, answer: NotebookNode | None) -> Row:
    if cell is None or cell.cell_type != "code":
        message = (
            "Its test cell is gone, so this run shows no score; the grader puts it back.\n"
            "Better move your answers into a fresh copy of the notebook."
        )
        return Row(question, points, 0.0, "missing", message)
    for output in cell.outputs:
        report = output.get("data", {}).get(JSON_MIME)
        if report:
            return Row(question, points, report["score"], report["status"], _remark(report))
        if output.output_type == "error":
            return Row(question, points, 0.0, "error", _error(question, output, answer))
    if cell.execution_count is None:
        return Row(question, points, 0.0, "not run", "The run was stopped before this cell.")
    message = f'Its test cell shows no report: its last line is check("{question}", {question}).'
    return Row(question, points, 0.0, "error", message)


def _written_row(name: str, points: float, cell: NotebookNode | None) -> Row:
    text = cell.source.strip() if cell is not None else EMPTY_ANSWER
    if text == EMPTY_ANSWER:
        return Row(name, points, 0.0, "not answered", "A sentence or two, in its text cell.")
    return Row(name, points, 0.0, "by hand", "Read and graded by a person.")


def _remark(report: dict) -> str:
    """The first part that failed, and which library functions were called that already are the answer."""
    failed = [part for part in report["parts"] if not part["passed"]]
    borrowed = f"It calls {', '.join(report['borrowed'])}: write that yourself." if report.get("borrowed") else ""
    if not failed:
        return borrowed
    more = f"And {len(failed) - 1} more: run its cell to see them." if len(failed) > 1 else ""
    return "\n".join(filter(None, [failed[0]["message"], failed[0]["hint"], more, borrowed]))


def _error(question: str, output: NotebookNode, answer: NotebookNode | None) -> str:
    """What went wrong in a test cell. That the function isn't there has its cause in the answer's cell."""
    text = f"{output.ename}: {output.evalue}"
    if output.ename != "NameError" or f"'{question}'" not in output.evalue:
        return text
    if answer is None:
        return f"{text}\nIts answer cell is gone."
    for failed in answer.get("outputs", []):
        if failed.output_type == "error":
            return f"Its answer cell fails: {failed.ename}: {failed.evalue}"
    return f"{text}\nDoes its answer cell define a function of exactly this name?"
