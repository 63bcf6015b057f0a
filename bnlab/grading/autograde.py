"""What ``nbgrader autograde`` does in this course, on its command line and from formgrader's button.

nbgrader starts a kernel for every submission, lets it grade itself, and believes it. ``nbgrader_config.py`` names
:class:`TrustedGrading` instead, which hands every submission to the same grader that ``bnlab grade`` uses, and writes
what comes of it in the same places: the executed notebook and ``record.json`` in ``autograded/``, scores and comments
in the gradebook. All that nbgrader does around it stays: it goes through the submissions, skips those that it has
graded, starts again with ``--force``, and lists at the end what went wrong.
"""

import os
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import is_ignored
from traitlets import Bool, Dict, Enum, TraitError, validate

from bnlab.grading.confine import Limits
from bnlab.grading.course import CourseError, check_course, name_problem, students_in
from bnlab.grading.formgrader import bear_bad_timestamps
from bnlab.grading.grade import Grader, with_remarks
from bnlab.grading.material import Material
from bnlab.grading.pages import plain
from bnlab.grading.record import CRASHED, UNPROTECTED, Graded, Record
from bnlab.grading.sandbox import KINDS, Sandbox, SandboxUnavailable


class TrustedGrading(NotebookExporter):
    """Grades what ``nbgrader autograde`` goes through.

    nbgrader calls an exporter of the configuration's choice for every notebook; that is the only way in. This one takes
    the place of the steps around it, too: no file of a submission is copied but its notebook, and no kernel is started.
    So ``c.Autograde.sanitize_preprocessors``, ``c.Autograde.autograde_preprocessors`` and ``c.Execute`` do nothing
    while grading.

    Attributes
    ----------
    sandbox : str
        How students' code is kept apart: "bubblewrap", "container" or "none"; see `bnlab.grading.sandbox.Sandbox`.
    limits : dict of str to float
        What differs from the limits of `bnlab.grading.confine.Limits`, such as ``{"memory": 4 * 2**30}``.
    pictures : bool
        Whether figures are drawn anew. Else the executed notebook shows those that were handed in.

    Raises
    ------
    NbGraderException
        The course directory isn't ready for grading. It is raised before the first submission.
    """

    sandbox = Enum(KINDS, "bubblewrap", help="How students' code is kept apart.").tag(config=True)
    limits = Dict(help="What one submission may use, where it is not the usual.").tag(config=True)
    pictures = Bool(False, help="Whether to draw the figures of submissions anew.").tag(config=True)

    @validate("limits")
    def _check_limits(self, proposal: dict) -> dict:
        known = {field.name for field in fields(Limits)}
        for name, value in proposal["value"].items():
            if name not in known or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise TraitError(
                    f"TrustedGrading.limits has {name!r}: {value!r}, expected a number > 0 for one of "
                    f"{', '.join(sorted(known))}"
                )
        return proposal["value"]

    def __init__(self, **kwargs: Any):
        try:
            super().__init__(**kwargs)
        except TraitError as error:
            kwargs["parent"].log.error("nbgrader_config.py: %s", error)
            raise NbGraderException(str(error)) from None
        self._coursedir: CourseDirectory = self.parent.coursedir
        self._name: str = self._coursedir.assignment_id
        try:
            check_course(self._coursedir, self._name)
            if not self.config.Execute.get("enabled", True):
                raise CourseError("--no-execute would give points for tests that never ran: leave it out")
            self._material = Material.of_course(Path(self._coursedir.root), self._name)
        except CourseError as error:
            self.log.error("%s", error)
            raise NbGraderException(str(error)) from None
        bear_bad_timestamps()
        self._student = ""
        self._troubles: list[str] = []
        self.parent.convert_notebooks = self._grade_all
        self.parent.init_destination = self._is_wanted
        self.parent.init_assignment = self._take_in
        self.parent.convert_single_notebook = self._grade_one
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

    # --- nbgrader's steps, in their order ----------------------------------------------------------------------------

    def _grade_all(self) -> None:
        """Go through the submissions as nbgrader does, with one grader and one writer of the gradebook."""
        from bnlab.grading.gradebook import GradebookError, GradebookWriter

        sandbox = Sandbox(self.sandbox, Limits(**self.limits))
        # nbgrader's own was made before nbgrader_config.py was read: it doesn't know the plugin for late penalties.
        stale = self._coursedir
        coursedir = CourseDirectory(config=self.config, root=stale.root, db_url=stale.db_url, course_id=stale.course_id)
        try:
            if self.parent.assignments:
                sandbox.probe()
            with (
                GradebookWriter(coursedir, self._name) as self._gradebook,
                Grader(self._material, sandbox, self.pictures) as self._grader,
            ):
                type(self.parent).convert_notebooks(self.parent)
        except (SandboxUnavailable, GradebookError) as error:
            self.log.error("%s", error)
            raise NbGraderException(str(error)) from None
        except _SandboxLost as error:
            self.log.error("Stopped, and what is graded stays: %s", error)
            raise NbGraderException(str(error)) from None
        finally:
            for trouble in self._troubles:
                self.log.error("%s", trouble)
        if self._troubles:
            raise NbGraderException(f"{len(self._troubles)} questions could not be graded: the log says which")

    def _is_wanted(self, name: str, student: str) -> bool:
        """nbgrader's `init_destination`: whether to grade a submission. One that could not be read is read again."""
        if type(self.parent).init_destination(self.parent, name, student):
            return True
        is_excluded = student in self._coursedir.student_id_exclude.split(",")
        return not is_excluded and not (self._folder(student) / f"{name}.ipynb").exists()

    def _take_in(self, name: str, student: str) -> None:
        """nbgrader's `init_assignment`: no file is copied, and the notebook is the problem set's."""
        self._student = student
        if not self.parent.create_student:
            with Gradebook(self._coursedir.db_url, self._coursedir.course_id) as gradebook:
                try:
                    gradebook.find_student(student)
                except MissingEntry:
                    raise NbGraderException(f"the gradebook has no student {student!r}: add them first") from None
        self.parent.notebooks = [str(self._submitted / student / name / f"{name}.ipynb")]

    def _grade_one(self, path: str) -> None:
        """nbgrader's `convert_single_notebook`: grade a submission and write what comes of it."""
        from bnlab.grading.class_run import read_submission

        self.log.info("Grading %s", path)
        handed_in = read_submission(self._submitted, self._student, self._name)
        data = handed_in.data if handed_in else None
        graded = self._grade(data)
        if handed_in and data is None:
            graded = Graded(_with_status(graded.record, handed_in.status, handed_in.problem))
        record = graded.record
        remarks = []
        folder = self._submitted / self._student / self._name
        if data is not None:
            remarks += handed_in.remarks
            remarks += self._about_other_files(folder)
        unprotected = [UNPROTECTED[record.sandbox]] if record.sandbox in UNPROTECTED else []
        for finding in (*unprotected, *remarks, *record.findings):
            self.log.warning("%s of %s: %s", self._name, self._student, _line(finding))
        for result in record.needs_an_eye:
            why = f"{result.question} could not be graded, {result.status}: {_line(result.message)}"
            self._troubles.append(f"{self._name} of {self._student}: {why}")
        # The gradebook first: what lies in autograded/ is not graded again.
        self._gradebook.write(record, handed_in.timestamp if handed_in else None)
        files = {"record.json": record.to_json().encode()}
        if graded.notebook:
            files[f"{self._name}.ipynb"] = with_remarks(graded.notebook, remarks).encode()
        if handed_in and handed_in.stamp:
            files["timestamp.txt"] = handed_in.stamp
        self._write(files)

    # -----------------------------------------------------------------------------------------------------------------

    def _grade(self, data: bytes | None) -> Graded:
        """Grade, and never let a submission end more than its own grading."""
        try:
            return self._grader.grade(data, self._student)
        except SandboxUnavailable as error:
            raise _SandboxLost(str(error)) from None
        except Exception as error:
            self.log.exception("The grader failed at the submission of %s", self._student)
            nothing = self._grader.grade(None, self._student).record
            why = f"the grader failed ({type(error).__name__}: {error})"
            return Graded(_with_status(nothing, CRASHED, why))

    def _about_other_files(self, folder: Path) -> list[str]:
        """A remark on the files of a submission that nobody looked at, less those that were handed out."""
        released = self._coursedir.format_path(self._coursedir.release_directory, ".", self._name)
        names = [
            name
            for name in sorted(_files(folder, self._coursedir.ignore))
            if name not in (f"{self._name}.ipynb", "timestamp.txt") and not (Path(released) / name).is_file()
        ]
        if not names:
            return []
        shown = ", ".join(re.sub(r"[^\w ./-]", "?", name) for name in names[:5])  # names are the student's
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return [f"Other files were ignored: {shown}{more}."]

    @property
    def _submitted(self) -> Path:
        return Path(self._coursedir.root) / self._coursedir.submitted_directory

    def _folder(self, student: str) -> Path:
        return Path(self._coursedir.format_path(self._coursedir.autograded_directory, student, self._name))

    def _write(self, files: dict[str, bytes]) -> None:
        """Write the files of a submission, and leave nothing of an earlier one beside them."""
        folder = self._folder(self._student)
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            if not entry.is_dir() or entry.is_symlink():
                entry.unlink()
        for name, data in files.items():
            part = folder / f".{name}.part"  # half a notebook would be taken for a graded one
            part.write_bytes(data)
            part.replace(folder / name)


class _SandboxLost(BaseException):
    """The sandbox worked at first and doesn't any more. Not an Exception: nbgrader would go on to the next one."""


def _line(text: str) -> str:
    """Text of a student's for a log: one line, and nothing that a terminal obeys."""
    return " ".join(plain(text, 500).split())


def _with_status(record: Record, status: str, message: str) -> Record:
    """A record of something that was not graded, with the reason."""
    results = tuple(replace(result, status=status, score=None, message=message) for result in record.questions)
    return replace(record, questions=results)


def _files(folder: Path, ignore: list[str]) -> set[str]:
    """Relative paths of the files in a folder and of its links, less those that nbgrader ignores."""
    found = set()
    for place, directories, names in os.walk(folder):
        linked = [name for name in directories if os.path.islink(os.path.join(place, name))]
        directories[:] = [name for name in directories if not is_ignored(os.path.join(place, name), ignore)]
        for name in names + linked:
            path = os.path.join(place, name)
            if os.path.islink(path) or not is_ignored(path, ignore):
                found.add(os.path.relpath(path, folder))
    return found
