"""What ``nbgrader autograde`` calls in this course, on its command line and from formgrader's buttons.

``nbgrader_config.py`` names these classes. Without them one notebook whose cells were copied or renamed stops the whole
batch or loses its points, and a submission that could not be graded is exported as 0 points. Here every submission is
read and repaired by `intake.py` first. One that cannot be graded keeps no score at all, and the gradebook says why.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_ignored

from bnlab.checks.report import JSON_MIME
from bnlab.grading.course import CourseError, check_course, name_problem, students_in
from bnlab.grading.intake import UnreadableNotebook, belongs, read_notebook, repair

COULD_NOT_GRADE = "Could not grade: "  # how the comment in the gradebook begins


class SubmissionExporter(NotebookExporter):
    """Reads a submission, lets nbgrader's preprocessors work on it, and records the reason where that fails.

    Of a submission's files only its notebooks are used, and ``timestamp.txt``: any other file could stand in for
    ``checks.py``, as a package of the same name does. A test that shows no report of the checks is not paid.

    Attributes
    ----------
    notes : list of str
        Findings about the files of the submission at work.

    Raises
    ------
    NbGraderException
        The course directory isn't ready for grading. It is raised before the first submission.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._coursedir: CourseDirectory = self.parent.coursedir
        try:
            check_course(self._coursedir, self._coursedir.assignment_id)
            if not self.config.Execute.get("enabled", True):  # a test cell without output counts as passed
                raise CourseError("--no-execute would give full points for tests that never ran: leave it out")
        except CourseError as error:
            self.log.error("%s", error)
            raise NbGraderException(str(error)) from None
        self.notes: list[str] = []
        # nbgrader has no hook that may fail around these steps, so they are replaced in this one converter.
        self.parent.init_assignment = self._take_in
        self._coursedir.get_existing_timestamp = self._timestamp
        self._leave_out_unusable_names()

    def _leave_out_unusable_names(self) -> None:
        """Leave out the folders whose names nbgrader can't handle: one of them would stop the whole batch."""
        for student in students_in(self._coursedir):
            problem = name_problem(student)
            if problem:
                self.log.error("Left out the submission of %r: %s", student, problem)
        self.parent.assignments = {
            path: notebooks
            for path, notebooks in self.parent.assignments.items()
            if not name_problem(Path(path).parent.name)
        }

    def _take_in(self, assignment: str, student: str) -> None:
        """nbgrader's `init_assignment`, to which only the usable files of the submission are shown."""
        folder = Path(self._coursedir.format_path(self._coursedir.submitted_directory, student, assignment))
        source = Path(self._coursedir.format_path(self._coursedir.source_directory, ".", assignment))
        usable = {"timestamp.txt", *self.parent.exclude_overwriting.get(assignment, [])}
        usable = {name for name in usable if _is_own_file(folder, name)}
        self.notes = []
        if os.path.lexists(folder / "timestamp.txt") and self._timestamp(str(folder)) is None:
            usable.discard("timestamp.txt")
            self.notes.append("timestamp.txt holds no time: ignored.")
        notebooks = {Path(path).name for path in self.parent.notebooks if (source / Path(path).name).is_file()}
        is_link = folder.is_symlink() or folder.parent.is_symlink()  # refused later; it may lead to the whole disk
        ignored = [
            name
            for name in ([] if is_link else _files(folder, self._coursedir.ignore))
            if name not in usable | notebooks | {"timestamp.txt"} and not (source / name).is_file()
        ]
        if ignored:
            # Names are the student's, and end up in HTML.
            shown = ", ".join(re.sub(r"[^\w ./-]", "?", name) for name in ignored[:5])
            more = f" and {len(ignored) - 5} more" if len(ignored) > 5 else ""
            self.notes.append(f"Other files were ignored: {shown}{more}.")
        self._clear(assignment, student)
        with tempfile.TemporaryDirectory() as room:
            for name in usable:
                (Path(room) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, Path(room) / name)
            self.parent._format_source = lambda *args, **kwargs: room
            try:
                type(self.parent).init_assignment(self.parent, assignment, student)
            finally:
                del self.parent._format_source

    def _clear(self, assignment: str, student: str) -> None:
        """Remove what an earlier run left beside the notebooks, where nbgrader grades one notebook again."""
        dest = Path(self._coursedir.format_path(self._coursedir.autograded_directory, student, assignment))
        for entry in dest.iterdir() if dest.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.suffix != ".ipynb":
                entry.unlink()

    def _timestamp(self, folder: str) -> datetime | None:
        """nbgrader's `get_existing_timestamp`, but None for a file that holds no time."""
        if not _is_own_file(Path(folder), "timestamp.txt"):
            return None
        try:
            return CourseDirectory.get_existing_timestamp(self._coursedir, folder)
        except Exception:  # nbgrader raises whatever comes of a binary file, a wrong date, a year 99999
            self.log.warning("%s/timestamp.txt holds no time: ignored", folder)
            return None

    def from_filename(self, filename: str, resources: dict | None = None, **kwargs: Any) -> tuple[str, dict]:
        """Convert one submission. Whatever goes wrong is recorded, then raised: nbgrader goes on with the next one."""
        try:
            if self.parent._sanitizing:
                _refuse_links(Path(filename))
            notebook = read_notebook(filename)
            resources["metadata"] = {"name": Path(filename).stem, "path": str(Path(filename).parent)}
            output, resources = self.from_notebook_node(notebook, resources, **kwargs)
            if not self.parent._sanitizing:
                executed = nbformat.reads(output, as_version=4)
                _require_reports(executed)
                if _flag_borrowed(executed):
                    output = nbformat.writes(executed)
            return output, resources
        except Exception as error:
            reason = _in_words(error)
            self._withdraw_scores(resources["nbgrader"], reason)
            self.log.error("%s could not be graded: %s", filename, reason)
            raise

    def _withdraw_scores(self, ids: dict, reason: str) -> None:
        """Take back the automatic scores, also those of an earlier submission: they are not this one's."""
        with Gradebook(self._coursedir.db_url, self._coursedir.course_id) as gradebook:
            submission = gradebook.find_submission_notebook(ids["notebook"], ids["assignment"], ids["student"])
            for grade in submission.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
            for comment in submission.comments:
                comment.auto_comment = COULD_NOT_GRADE + reason
            gradebook.db.commit()


class RepairCells(NbGraderPreprocessor):
    """Repairs a submission against the released notebook; first in ``c.Autograde.sanitize_preprocessors``.

    Findings go to the log, into the autograded notebook's metadata (``bnlab.findings``), and into a note above it that
    the student reads in the feedback.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        ids = resources["nbgrader"]
        coursedir = self.parent.parent.coursedir
        released = Path(coursedir.format_path(coursedir.release_directory, ".", ids["assignment"]))
        source = read_notebook(released / f"{ids['notebook']}.ipynb")
        if not belongs(nb, source):
            raise UnreadableNotebook(
                f"{ids['notebook']}.ipynb has none of this problem set's cells: is it another notebook, renamed? "
                f"Ask for the right file"
            )
        repaired, findings = repair(nb, source)
        findings = self.parent.notes + findings
        repaired.metadata.pop("bnlab", None)
        if findings:
            for finding in findings:
                self.log.warning("%s of %s: %s", ids["notebook"], ids["student"], finding)
            repaired.metadata["bnlab"] = {"findings": findings}
            repaired.cells.insert(0, _note(findings))
        return repaired, resources


def _note(findings: list[str]) -> NotebookNode:
    lines = [
        "**About the file that you handed in.** Not everything was as it was handed out. It was graded all the same:\n",
        *(f"- {finding}" for finding in findings),
        "\nYour own code was not changed.",
    ]
    return nbformat.v4.new_markdown_cell("\n".join(lines), id="note-on-this-file", metadata={"bnlab": {"note": True}})


def _refuse_links(path: Path) -> None:
    """Raise where a submission's notebook, or a folder of it, points elsewhere: it could be someone else's work."""
    for place in (path, path.parent, path.parent.parent):
        if place.is_symlink():
            raise UnreadableNotebook(f"{place.name} is a link, expected the file itself: ask for the file")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UnreadableNotebook(f"{path.name} is no ordinary file: ask for the file")


def _require_reports(notebook: NotebookNode) -> None:
    """Raise where a test that ran shows no report: nbgrader pays full points for one without a result."""
    silent = []
    for cell in notebook.cells:
        mark = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code" or not mark.get("grade") or mark.get("solution"):
            continue
        results = [output for output in cell.outputs if output.output_type == "execute_result"]
        failed = any(output.output_type == "error" for output in cell.outputs)
        # nbgrader takes the first result for the score, even before an error.
        if not (all(JSON_MIME in result.data for result in results) if results else failed):
            silent.append(mark["grade_id"])
    if silent:
        raise UnreadableNotebook(
            f"its test cells showed no report ({', '.join(silent)}): look for code that replaces check, "
            f"the module checks, or how results are displayed"
        )


def _flag_borrowed(notebook: NotebookNode) -> bool:
    """Add to the findings which answers call a library function that already is the answer. Whether any does."""
    flags = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            report = output.get("data", {}).get(JSON_MIME) or {}
            if report.get("borrowed"):
                flags.append(
                    f"{report['question']} calls {', '.join(report['borrowed'])}, which already is the answer."
                )
    if flags:
        earlier = notebook.metadata.get("bnlab", {}).get("findings", [])
        notebook.metadata["bnlab"] = {"findings": [*earlier, *flags]}
    return bool(flags)


def _is_own_file(folder: Path, name: str) -> bool:
    """Whether `name` is an ordinary file in `folder`, reached through no link inside it."""
    return (folder / name).is_file() and (folder / name).resolve() == folder.resolve() / name


def _files(folder: Path, ignore: list[str]) -> Iterator[str]:
    """Relative paths of the files in a folder and of its links, less those that nbgrader ignores."""
    for place, directories, names in os.walk(folder):
        linked = [name for name in directories if os.path.islink(os.path.join(place, name))]
        directories[:] = sorted(name for name in directories if not is_ignored(os.path.join(place, name), ignore))
        for name in sorted(names + linked):
            path = os.path.join(place, name)
            if os.path.islink(path) or not is_ignored(path, ignore):
                yield os.path.relpath(path, folder)


def _in_words(error: Exception) -> str:
    if isinstance(error, UnreadableNotebook):
        return str(error)
    if isinstance(error, DeadKernelError):
        return "the kernel died while the notebook ran: look for exit(), os._exit(), or too large an array"
    return f"{type(error).__name__}: {error}"
