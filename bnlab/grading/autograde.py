"""What ``nbgrader autograde`` calls in this course, on its command line and from formgrader's buttons.

``nbgrader_config.py`` names these classes. Without them one notebook whose cells were copied or renamed stops the whole
batch or loses its points, and a submission that could not be graded is exported as 0 points. Here every submission is
read and repaired by `intake.py` first. One that cannot be graded keeps no score at all, and the gradebook says why.
"""

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

from bnlab.grading.course import CourseError, check_course
from bnlab.grading.intake import UnreadableNotebook, belongs, read_notebook, repair

COULD_NOT_GRADE = "Could not grade: "  # how the comment in the gradebook begins


class SubmissionExporter(NotebookExporter):
    """Reads a submission, lets nbgrader's preprocessors work on it, and records the reason where that fails.

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

    def from_filename(self, filename: str, resources: dict | None = None, **kwargs: Any) -> tuple[str, dict]:
        """Convert one submission. Whatever goes wrong is recorded, then raised: nbgrader goes on with the next one."""
        try:
            notebook = read_notebook(filename)
            resources["metadata"] = {"name": Path(filename).stem, "path": str(Path(filename).parent)}
            return self.from_notebook_node(notebook, resources, **kwargs)
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
        repaired.metadata.pop("bnlab", None)
        if findings:
            for finding in findings:
                self.log.warning("%s of %s: %s", ids["notebook"], ids["student"], finding)
            repaired.metadata["bnlab"] = {"findings": findings}
            repaired.cells.insert(0, _note(findings))
        return repaired, resources


def _note(findings: list[str]) -> NotebookNode:
    lines = [
        "**About the file that you handed in.** Some of its cells were not as they were handed out. "
        "It was graded all the same:\n",
        *(f"- {finding}" for finding in findings),
        "\nYour own code was not changed.",
    ]
    return nbformat.v4.new_markdown_cell("\n".join(lines), id="note-on-this-file", metadata={"bnlab": {"note": True}})


def _in_words(error: Exception) -> str:
    if isinstance(error, UnreadableNotebook):
        return str(error)
    if isinstance(error, DeadKernelError):
        return "the kernel died while the notebook ran: look for exit(), os._exit(), or too large an array"
    return f"{type(error).__name__}: {error}"
