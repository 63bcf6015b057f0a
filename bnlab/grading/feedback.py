"""The page that a student gets back: their work, the points, the checks' reports, and what the grader wrote.

It is one HTML file that can do nothing but be read (see `pages.py`), where nbgrader expects it:
``feedback/STUDENT/PS/PS.html``. It is made from three things: the executed notebook in ``autograded/``, the record
beside it, and the gradebook. Of code that isn't the student's it shows only what was handed out.

In ``nbgrader_config.py``, so that ``nbgrader generate_feedback`` and formgrader's button make these pages::

    c.GenerateFeedback.exporter_class = "bnlab.grading.feedback.FeedbackExporter"
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory

from bnlab.checks.report import JSON_MIME
from bnlab.grading import pages
from bnlab.grading.anonymous import Pseudonyms
from bnlab.grading.course import CourseError
from bnlab.grading.marks import (
    COULD_NOT_GRADE,
    NEEDS_A_PERSON,
    ClassMarks,
    Mark,
    StudentMarks,
    place_of,
    read_marks,
    released_notebook,
)
from bnlab.grading.record import GRADED, MISSING, QuestionResult

ANONYMOUS_FOLDER = "feedback_anonymous"
NBGRADER_FILES = ("timestamp.txt", "submission_secret.txt")  # nbgrader release_feedback needs them beside the page
COMPANION_LIMIT = 1000  # bytes
STATUS_IN_WORDS = {
    "crashed": "ended the program that ran it",
    "timeout": "took too long",
    "memory": "needed too much memory",
    "missing": "not handed in",
    "unreadable": "could not be read",
}
NOT_SHOWN = "An output of this cell is not shown: feedback has text and PNG images only."


@dataclass(frozen=True)
class Question:
    """A question as the page shows it. All text is the student's or the grader's and is escaped by the template."""

    name: str
    anchor: str
    points: float
    score: float | None
    verdict: str
    color: str
    remark: str = ""
    message: str = ""
    parts: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    printed: str = ""
    comment: str = ""


@dataclass
class Cell:
    """A cell as the page shows it: a heading, words, or code with its outputs; then the questions it decides."""

    kind: str
    text: str = ""
    html: str = ""
    handed_out: bool = False
    outputs: list[dict[str, str]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


def feedback_page(student: StudentMarks, notebook: str, released: NotebookNode, shown_name: str | None = None) -> str:
    """Make the page of one submission.

    Parameters
    ----------
    student : StudentMarks
        With its record.
    notebook : str
        The executed notebook as JSON (`Graded.notebook`), or "" where the submission could not be read.
    released : NotebookNode
        The notebook as it was handed out.
    shown_name : str, optional
        Instead of the student's name.

    Returns
    -------
    str
        HTML.
    """
    record, marks = student.record, student.marks
    results = {result.question: result for result in record.questions}
    questions = {
        mark.question: _question(mark, results.get(mark.question), number) for number, mark in enumerate(marks, start=1)
    }
    failed = _failed(student)
    if failed:
        questions = {}
    cells = list(_cells(notebook, released, questions))
    placed = {question.name for cell in cells for question in cell.questions}
    return pages.render(
        "feedback.html.j2",
        f"Feedback on {record.problem_set}",
        problem_set=record.problem_set,
        student=shown_name or _line(student.person.name),
        total=max(0.0, sum(mark.score or 0.0 for mark in marks) - student.penalty),
        points=sum(mark.points for mark in marks),
        penalty=student.penalty,
        final=student.score is not None,
        pending=_pending(student),
        failed=failed,
        questions=list(questions.values()),
        findings=[pages.plain(finding) for finding in record.findings],
        cells=cells,
        left=[question for name, question in questions.items() if name not in placed],
    )


def _failed(student: StudentMarks) -> str:
    """Why nothing of a submission has a score, where one reason stands for all of it."""
    results = student.record.needs_an_eye
    reasons = {(result.status, result.message) for result in results}
    touched = any(mark.score is not None or mark.comment for mark in student.marks)
    if touched or len(results) != len(student.record.questions) or len(reasons) != 1:
        return ""
    ((status, message),) = reasons
    return pages.plain(message, 2000) or STATUS_IN_WORDS.get(status, status)


def _pending(student: StudentMarks) -> list[str]:
    by_hand = [mark.question for mark in student.marks if mark.waits or mark.score is None]
    stuck = {result.question for result in student.record.needs_an_eye} & set(by_hand)
    waiting = [question for question in by_hand if question not in stuck]
    said = []
    if student.status == COULD_NOT_GRADE and stuck:
        said.append("Some questions could not be graded. They don't count as 0: your instructor looks at them.")
    if student.status in (NEEDS_A_PERSON, COULD_NOT_GRADE) and waiting:
        said.append(f"Still to be read by a person: {', '.join(waiting)}.")
    return said


def _question(mark: Mark, result: QuestionResult | None, number: int) -> Question:
    report = (result.report if result else None) or {}
    verdict, color, remark = _verdict(mark, result)
    graded = result is not None and result.status == GRADED
    parts = [part for part in report.get("parts", ()) if isinstance(part, dict)] if graded else []
    warned = dict.fromkeys(text for part in parts for text in part.get("warned", ()))
    notes = [f"Python warned (this costs nothing): {pages.plain(text, 1000)}" for text in warned]
    if result and result.borrowed:
        notes.append(
            f"Your code calls {pages.plain(result.borrowed[0], 200)}, which already is the answer. The point of this "
            "question is to write it yourself. Your instructor sees it, too."
        )
    return Question(
        mark.question,
        str(number),
        mark.points,
        mark.score,
        verdict,
        color,
        remark,
        pages.plain(result.message, 2000) if result and not graded else "",
        tuple(map(_part, parts)),
        tuple(notes),
        pages.printed(next((part["printed"] for part in parts if part.get("printed")), "")),
        pages.plain(mark.comment),
    )


def _verdict(mark: Mark, result: QuestionResult | None) -> tuple[str, str, str]:
    """What to say in a word, its color class, and what to add."""
    if mark.score is None:
        if result is not None and result.status != GRADED:
            why = STATUS_IN_WORDS.get(result.status, result.status)
            return why, "wait", "This is not 0 points: there is no score until your instructor has looked at it."
        return "to be read by a person", "wait", ""
    added = "A person gave these points." if mark.by_hand and result is not None else ""
    if mark.waits:
        added = f"{added} A person will look at it again.".strip()
    if result is not None and result.status == MISSING and not mark.by_hand:
        return "not handed in", "bad", added
    if mark.score >= mark.points:
        return "right" if result is not None else "full points", "good", added
    if mark.score > 0:
        return "partly right", "part", added
    if result is None:
        return "no points", "bad", added
    return ("not answered" if (result.report or {}).get("status") == "not answered" else "wrong"), "bad", added


def _part(part: dict[str, Any]) -> dict[str, str]:
    if part.get("passed"):
        verdict, color, mark = "passed", "good", "✓"
    elif not part.get("answered", True):
        verdict, color, mark = "not answered", "soft", "○"
    else:
        verdict, color, mark = "failed", "bad", "✗"
    shown = {name: pages.plain(part.get(name, "")) for name in ("name", "message", "hint", "tried")}
    if part.get("passed"):
        shown |= {"message": "", "hint": "", "tried": ""}
    return shown | {"verdict": verdict, "color": color, "mark": mark}


def _cells(notebook: str, released: NotebookNode, questions: dict[str, Question]) -> Iterator[Cell]:
    """The notebook's cells in order. A cell that isn't the student's is shown as it was handed out, or not at all."""
    handed_out = {cell.source.strip() for cell in released.cells}
    marked = {_grade_id(cell): cell for cell in released.cells if _grade_id(cell)}
    room, figures, left = pages.IMAGES_LIMIT, 0, dict(questions)
    for cell in _load(notebook):
        if "bnlab" in cell["metadata"] and _grade_id(cell) == "":
            continue  # the note on the file, which the page has in its own words
        original = marked.get(_grade_id(cell))
        source = cell["source"].strip()
        fixed = original is not None and not original.metadata.nbgrader.get("solution")
        own = [left.pop(_grade_id(cell))] if original is not None and _grade_id(cell) in left else []
        if cell["cell_type"] != "code":
            if fixed or (source in handed_out and original is None):
                title = pages.heading(original.source if original is not None else source)
                if title or own:
                    yield Cell("heading" if title else "", title, questions=own)
                continue
            unanswered = original is not None and source == original.source.strip()
            html = Markup("<p class='soft'>Nothing was written here.</p>") if unanswered else pages.words(source)
            if source or own:
                yield Cell("words", html=html, questions=own)
            continue
        if fixed:  # a test: its report comes from the record
            yield Cell("code", questions=own)
            continue
        shown, room, figures = _outputs(cell["outputs"], room, figures)
        if source or shown or own:
            yield Cell("code", "", pages.code(source), source in handed_out, shown, own)


def _outputs(outputs: list, room: int, figures: int) -> tuple[list[dict[str, str]], int, int]:
    """What of a cell's outputs is shown, the room left for images, and how many figures there were so far."""
    shown: list[dict[str, str]] = []
    for output in outputs:
        if not isinstance(output, dict):
            continue
        kind = output.get("output_type")
        if kind == "stream":
            text, look = pages.printed(output.get("text")), "err" if output.get("name") == "stderr" else "out"
            if shown and shown[-1]["kind"] == look:
                shown[-1]["text"] = pages.plain(shown[-1]["text"] + text)
            elif text:
                shown.append({"kind": look, "text": text})
        elif kind == "error":
            lines = output.get("traceback")
            text = "\n".join(line for line in lines if isinstance(line, str)) if isinstance(lines, list) else ""
            text = text or f"{pages.plain(output.get('ename'), 200)}: {pages.plain(output.get('evalue'), 2000)}"
            shown.append({"kind": "err", "text": pages.printed(text)})
        elif kind in ("execute_result", "display_data"):
            data = output.get("data") if isinstance(output.get("data"), dict) else {}
            if JSON_MIME in data:
                continue  # a report; the record has it
            address, size = pages.image(data.get("image/png"), room)
            text = pages.printed(data.get("text/plain"))
            if address:
                figures, room = figures + 1, room - size
                shown.append(
                    {"kind": "image", "address": address, "text": f"Figure {figures}, drawn by the code above"}
                )
            elif text:
                shown.append({"kind": "out", "text": text})
            if not (address or text) and data:
                shown.append({"kind": "left out", "text": NOT_SHOWN})
    return shown, room, figures


def _load(notebook: str) -> Iterator[dict[str, Any]]:
    """The cells of a notebook as plain data of known types."""
    try:
        cells = json.loads(notebook)["cells"] if notebook else []
    except (ValueError, KeyError, TypeError, RecursionError):
        cells = []
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") in ("code", "markdown", "raw"):
            source, outputs, metadata = cell.get("source", ""), cell.get("outputs", []), cell.get("metadata", {})
            if isinstance(source, list):
                source = "".join(line for line in source if isinstance(line, str))
            yield {
                "cell_type": cell["cell_type"],
                "source": source if isinstance(source, str) else "",
                "outputs": outputs if isinstance(outputs, list) else [],
                "metadata": metadata if isinstance(metadata, dict) else {},
            }


def _grade_id(cell: Any) -> str:
    mark = cell["metadata"].get("nbgrader")
    grade_id = mark.get("grade_id") if isinstance(mark, dict) else None
    return grade_id if isinstance(grade_id, str) else ""


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", pages.plain(text, 300)).strip()


# --- files -----------------------------------------------------------------------------------------------------------


def write_feedback(
    coursedir: CourseDirectory, marks: ClassMarks, pseudonyms: Pseudonyms | None = None
) -> Iterator[tuple[StudentMarks, Path | None]]:
    """Write the pages of a class, one after the other.

    Parameters
    ----------
    coursedir : CourseDirectory
    marks : ClassMarks
        The students who get a page.
    pseudonyms : Pseudonyms, optional
        With them the pages carry a pseudonym instead of a name and go to ``feedback_anonymous/PSEUDONYM/``, for someone
        who is not to know whose work it is. Names that students wrote into their notebooks stay.

    Yields
    ------
    student : StudentMarks
    path : Path or None
        None for who has nothing graded, and so gets no page.

    Raises
    ------
    CourseError
        The released notebook is missing.
    """
    name = marks.problem_set
    released = released_notebook(coursedir, name)
    for student in marks.students:
        if student.record is None:
            yield student, None
            continue
        shown_name = pseudonyms(student.person.id) if pseudonyms else None
        autograded = place_of(coursedir, "autograded", student.person.id, name)
        try:
            notebook = (autograded / f"{name}.ipynb").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            notebook = ""
        place = place_of(coursedir, "feedback", student.person.id, name)
        if pseudonyms:
            place = Path(coursedir.root) / ANONYMOUS_FOLDER / shown_name / name
        place.mkdir(parents=True, exist_ok=True)
        _write(place / f"{name}.html", feedback_page(student, notebook, released, shown_name))
        if not pseudonyms:
            _copy_companions(coursedir, student.person.id, name, place)
        yield student, place / f"{name}.html"


def _copy_companions(coursedir: CourseDirectory, student: str, name: str, place: Path) -> None:
    """Copy what ``nbgrader release_feedback`` needs beside the page. Of a submission's files only small ones."""
    for companion in NBGRADER_FILES:
        for step in ("autograded", "submitted"):
            path = place_of(coursedir, step, student, name) / companion
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= COMPANION_LIMIT:
                shutil.copyfile(path, place / companion)
                break


def _write(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


class FeedbackExporter(Exporter):
    """Makes these pages inside ``nbgrader generate_feedback``."""

    file_extension = ".html"
    output_mimetype = "text/html"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._coursedir: CourseDirectory = self.parent.coursedir
        self.parent.init_assignment = self._prepare  # nbgrader's own copies all that lies beside the notebook

    def _prepare(self, assignment: str, student: str) -> None:
        place = place_of(self._coursedir, "feedback", student, assignment)
        place.mkdir(parents=True, exist_ok=True)
        _copy_companions(self._coursedir, student, assignment, place)

    def from_filename(self, filename: str, resources: dict | None = None, **kwargs: Any) -> tuple[str, dict]:
        """The page for one executed notebook."""
        ids = resources["nbgrader"]
        (student,) = read_marks(self._coursedir, ids["assignment"], [ids["student"]]).students
        if student.record is None:
            raise CourseError(f"{filename} has no record.json beside it: grade it: bnlab grade {ids['assignment']}")
        notebook = Path(filename).read_text(encoding="utf-8", errors="replace")
        resources["output_extension"] = self.file_extension
        return feedback_page(student, notebook, released_notebook(self._coursedir, ids["assignment"])), resources
