"""The table of grades as CSV files that a spreadsheet or a learning platform reads without surprises.

``nbgrader export`` writes with this class (``nbgrader_config.py`` names it). nbgrader's own writes commas in names
unquoted, and 0 points for a submission that never ran.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbgrader.api import Assignment, Grade, Gradebook, MissingEntry, Student, SubmittedAssignment
from nbgrader.plugins import ExportPlugin

from bnlab.grading.course import CourseError, assignments_in, name_problem, students_in
from bnlab.grading.intake import UnreadableNotebook, read_notebook
from bnlab.grading.record import COULD_NOT_GRADE

COLUMNS = (
    "assignment student_id last_name first_name email status score max_score late_penalty submitted remark".split()
)
QUESTION_COLUMNS = "assignment student_id question score max_score".split()


class GradesTable(ExportPlugin):
    """Writes ``grades.csv`` (``--to`` names another), and beside it ``grades_by_question.csv``.

    There is a row for every assignment and every student whom the gradebook knows or who has a folder in
    ``submitted/``. Its `status` is

    - ``graded``: `score` counts,
    - ``needs manual grade``: a person has to look first,
    - ``could not grade``: `remark` says why,
    - ``not graded yet``: handed in, but not autograded,
    - ``missing``: nothing was handed in.

    `score` is empty unless the status is ``graded``. It is the sum of the questions, less a late penalty.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        try:
            assignments_in(self.parent.coursedir.db_url)
        except CourseError as error:  # nbgrader would make an empty gradebook and export nothing
            self.parent.fail("%s", error)

    def export(self, gradebook: Gradebook) -> None:
        path = Path(self.to or "grades.csv")
        by_question = path.with_name(f"{path.stem}_by_question{path.suffix}")
        students = list(gradebook.students)
        known = {student.id for student in students}
        students += [Student(id=name) for name in students_in(self.parent.coursedir) if name not in known]
        pairs = [
            (assignment, student, _find(gradebook, assignment, student))
            for assignment in gradebook.assignments
            for student in students
            if _wanted(assignment.name, self.assignment) and _wanted(student.id, self.student)
        ]
        if not pairs:
            self.log.warning("The gradebook has no grades to export: autograde a problem set first")
        write_csv(path, COLUMNS, (self._row(*pair) for pair in pairs))
        write_csv(by_question, QUESTION_COLUMNS, (row for pair in pairs for row in _question_rows(*pair)))
        self.log.info("Exported to %s and %s", path, by_question)

    def _row(self, assignment: Assignment, student: Student, submission: SubmittedAssignment | None) -> dict:
        status, remark = status_of(submission)
        handed_in = self._directory("submitted", assignment.name, student.id)
        if status == "missing" or (status == "could not grade" and not remark and not handed_in.exists()):
            # An extension makes an entry in the gradebook before anything is handed in.
            status, remark = self._not_recorded(assignment.name, student.id)
        elif status == "could not grade" and not remark:
            remark = self._reason(assignment, student.id)
        elif status in ("graded", "needs manual grade"):
            remark = " ".join(self._findings(assignment, student.id))
        penalty = submission.late_submission_penalty if submission else 0
        return {
            "assignment": assignment.name,
            "student_id": student.id,
            "last_name": student.last_name,
            "first_name": student.first_name,
            "email": student.email,
            "status": status,
            "score": _number(max(0.0, submission.score - penalty)) if status == "graded" else "",
            "max_score": _number(assignment.max_score),
            "late_penalty": _number(penalty) if status == "graded" else "",
            "submitted": submission.timestamp if submission else None,
            "remark": remark,
        }

    def _directory(self, step: str, assignment: str, student: str) -> Path:
        coursedir = self.parent.coursedir
        return Path(coursedir.format_path(getattr(coursedir, f"{step}_directory"), student, assignment))

    def _not_recorded(self, assignment: str, student: str) -> tuple[str, str]:
        """The status of a submission that the gradebook doesn't know, by what lies in its place."""
        directory = self._directory("submitted", assignment, student)
        for place in (directory, directory.parent):
            if place.exists() and not place.is_dir():
                return "missing", f"{place.name} is a file, expected a folder with the notebook"
        if not (directory.is_dir() and any(directory.iterdir())):
            return "missing", ""
        problem = name_problem(student)
        return ("could not grade", problem) if problem else ("not graded yet", f"nbgrader autograde {assignment}")

    def _reason(self, assignment: Assignment, student: str) -> str:
        """Why a submission has no score though nobody noted it: its notebook has another name, or was never run."""
        directory = self._directory("submitted", assignment.name, student)
        names = sorted(path.name for path in directory.glob("*.ipynb"))
        for notebook in assignment.notebooks:
            if f"{notebook.name}.ipynb" not in names:
                return f"{notebook.name}.ipynb is not among the files handed in ({', '.join(names) or 'none'})"
        return f"nbgrader's log says more: nbgrader autograde {assignment.name} --student={student}"

    def _findings(self, assignment: Assignment, student: str) -> Iterator[str]:
        """What was repaired before grading."""
        directory = self._directory("autograded", assignment.name, student)
        for notebook in assignment.notebooks:
            try:
                metadata = read_notebook(directory / f"{notebook.name}.ipynb").metadata
            except UnreadableNotebook:
                continue
            yield from metadata.get("bnlab", {}).get("findings", [])


def status_of(submission: SubmittedAssignment | None) -> tuple[str, str]:
    """The status of a submission, and the reason if it could not be graded and the gradebook knows it.

    A test that nbgrader ran has an automatic score. One without, and without a score by hand, never ran.
    """
    if submission is None:
        return "missing", ""
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    if any(_is_test(grade) and grade.auto_score is None and grade.manual_score is None for grade in grades):
        comments = [comment.auto_comment or "" for notebook in submission.notebooks for comment in notebook.comments]
        reasons = [text.removeprefix(COULD_NOT_GRADE) for text in comments if text.startswith(COULD_NOT_GRADE)]
        return "could not grade", "; ".join(dict.fromkeys(reasons))
    if any(grade.needs_manual_grade for grade in grades):
        return "needs manual grade", ""
    return "graded", ""


def write_csv(path: Path, columns: list[str], rows: Iterator[dict]) -> None:
    """Write rows as CSV in UTF-8: quoted where needed, and no cell that a spreadsheet would take for a formula."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: formula_safe(value) for name, value in row.items()} for row in rows)


def _question_rows(assignment: Assignment, student: Student, submission: SubmittedAssignment | None) -> Iterator[dict]:
    for notebook in submission.notebooks if submission else ():
        for grade in sorted(notebook.grades, key=lambda grade: grade.name):
            settled = grade.auto_score is not None or grade.manual_score is not None
            yield {
                "assignment": assignment.name,
                "student_id": student.id,
                "question": grade.name,
                "score": _number(grade.score) if settled else "",
                "max_score": _number(grade.max_score),
            }


def _find(gradebook: Gradebook, assignment: Assignment, student: Student) -> SubmittedAssignment | None:
    try:
        return gradebook.find_submission(assignment.name, student.id)
    except MissingEntry:
        return None


def _wanted(name: str, only: list) -> bool:
    return not only or name in map(str, only)


def _is_test(grade: Grade) -> bool:
    """Whether nbgrader scores it by running it: code, and not a student's answer that a person reads."""
    answers = {cell.name for cell in grade.notebook.notebook.solution_cells}
    return grade.cell_type == "code" and grade.name not in answers


def _number(value: float) -> str:
    return f"{value:g}"


def formula_safe(value: Any) -> str:
    """A value as the text of a cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
