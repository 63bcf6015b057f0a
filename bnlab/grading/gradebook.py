"""Write records into nbgrader's gradebook: one writer for a whole run, one transaction for a submission.

Everything goes through nbgrader's own tables (`nbgrader.api`), so formgrader, feedback and export show it. nbgrader's
``add_submission`` and ``find_grade`` are not used: they commit at every step, so that a failure leaves a submission
without grades, and they search all grades of the course for every question. Here every query goes through an index of
the database, and the work for a submission does not grow with the number of submissions.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    MissingEntry,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import load_only

from bnlab.grading.record import COULD_NOT_GRADE, GRADED, MISSING, UNREADABLE, Record

NO_RESPONSE = "No response."  # nbgrader's comment on an answer that is as empty as it was handed out
COMMENT_LIMIT = 2000  # characters


class GradebookError(Exception):
    """A record could not be written: why. Nothing of it is in the gradebook."""


@dataclass(frozen=True)
class _Cells:
    """The cells of one notebook that the gradebook knows.

    Attributes
    ----------
    notebook : str
        The notebook's id in the gradebook.
    name : str
    graded, commented : dict of str to str
        Ids of the cells that have a grade, and of those that have a comment, by `grade_id`.
    """

    notebook: str
    name: str
    graded: dict[str, str]
    commented: dict[str, str]


class GradebookWriter:
    """The one writer of a run. Use it as a context manager.

    Parameters
    ----------
    coursedir : CourseDirectory
        nbgrader's settings; the late penalties configured there are assigned.
    problem_set : str
        It must have been released with ``nbgrader generate_assignment``.

    Raises
    ------
    GradebookError
        The gradebook cannot be opened, or does not know the problem set.
    """

    def __init__(self, coursedir: CourseDirectory, problem_set: str):
        self._penalties = _penalties(coursedir)
        self._problem_set = problem_set
        try:
            self._gradebook = Gradebook(coursedir.db_url, coursedir.course_id)
        except SQLAlchemyError as error:
            raise GradebookError(f"the gradebook cannot be opened ({_in_words(error)})") from error
        self._db = self._gradebook.db
        try:
            assignment = self._gradebook.find_assignment(problem_set)
            self._assignment = assignment.id
            self._notebooks = [_cells(notebook) for notebook in assignment.notebooks]
        except MissingEntry:
            self.close()
            raise GradebookError(f"the gradebook does not know {problem_set}: {self._release}") from None
        finally:
            self._db.remove()

    @property
    def _release(self) -> str:
        return f"release it: nbgrader generate_assignment {self._problem_set}"

    def close(self) -> None:
        """Close the connection to the database."""
        self._gradebook.close()

    def __enter__(self) -> "GradebookWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, record: Record, timestamp: datetime | None) -> frozenset[str]:
        """Write what came of one submission, all of it or nothing.

        Scores and comments by hand stay. As in nbgrader, a question with a score by hand is flagged again for a look.

        Parameters
        ----------
        record : Record
            Only its questions and written answers are touched.
        timestamp : datetime or None
            When it was handed in, UTC without a time zone. It decides about a late penalty.

        Returns
        -------
        frozenset of str
            The questions that have points by a person.

        Raises
        ------
        GradebookError
        """
        with self._transaction(record.student), self._db.no_autoflush:
            if self._db.get(Student, record.student) is None:
                self._db.add(Student(id=record.student))
            submission = self._submission(record.student)
            submission.timestamp = timestamp
            by_hand: frozenset[str] = frozenset()
            for cells in self._notebooks:
                notebook, grades, comments = self._rows(submission, cells)
                if cells.name == self._problem_set:
                    _fill_in(record, grades, comments, self._release)
                    self._assign_penalty(submission, notebook, cells)
                    by_hand = frozenset(name for name, grade in grades.items() if grade.manual_score is not None)
            return by_hand

    def find(self, record: Record, timestamp: datetime | None) -> frozenset[str] | None:
        """Look whether the gradebook has this submission, with these automatic scores and this time.

        Returns
        -------
        frozenset of str or None
            The questions that have points by a person; None where the gradebook has something else, or nothing.

        Raises
        ------
        GradebookError
        """
        cells = next((cells for cells in self._notebooks if cells.name == self._problem_set), None)
        if cells is None:
            return None
        with self._transaction(record.student):
            found = self._db.execute(
                select(Grade.cell_id, Grade.auto_score, Grade.manual_score, SubmittedAssignment.timestamp)
                .join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
                .join(SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id)
                .where(
                    SubmittedAssignment.assignment_id == self._assignment,
                    SubmittedAssignment.student_id == record.student,
                    SubmittedNotebook.notebook_id == cells.notebook,
                    Grade.cell_id.in_(cells.graded.values()),
                )
            ).all()
        scores = {cell: score for cell, score, *_ in found}
        wanted = {cells.graded.get(result.question): result.score for result in record.questions}
        is_same = all(cell in scores and scores[cell] == score for cell, score in wanted.items())
        if not is_same or any(found_time != timestamp for *_, found_time in found):
            return None
        names = {cell: name for name, cell in cells.graded.items()}
        return frozenset(names[cell] for cell, _, by_hand, _ in found if by_hand is not None)

    @contextlib.contextmanager
    def _transaction(self, student: str) -> Iterator[None]:
        """Commit at the end, or take everything back. What was loaded is forgotten, so memory stays flat."""
        try:
            yield
            self._db.commit()
        except SQLAlchemyError as error:
            raise GradebookError(f"the gradebook refused the record of {student} ({_in_words(error)})") from error
        finally:
            self._db.remove()  # rolls back what was not committed

    # load_only: some of nbgrader's computed columns would read whole tables.

    def _submission(self, student: str) -> SubmittedAssignment:
        submission = self._db.scalars(
            select(SubmittedAssignment)
            .where(SubmittedAssignment.assignment_id == self._assignment, SubmittedAssignment.student_id == student)
            .options(load_only(SubmittedAssignment.timestamp, SubmittedAssignment.extension))
        ).one_or_none()
        if submission is None:
            submission = SubmittedAssignment(id=uuid4().hex, assignment_id=self._assignment, student_id=student)
            self._db.add(submission)
        return submission

    def _rows(
        self, submission: SubmittedAssignment, cells: _Cells
    ) -> tuple[SubmittedNotebook, dict[str, Grade], dict[str, Comment]]:
        """The rows of a submitted notebook: itself, its grades, its comments, by `grade_id`. Missing ones are made."""
        notebook = self._db.scalars(
            select(SubmittedNotebook)
            .where(SubmittedNotebook.notebook_id == cells.notebook, SubmittedNotebook.assignment_id == submission.id)
            .options(load_only(SubmittedNotebook.late_submission_penalty))
        ).one_or_none()
        if notebook is None:
            notebook = SubmittedNotebook(id=uuid4().hex, notebook_id=cells.notebook, assignment_id=submission.id)
            self._db.add(notebook)

        def rows(table: Any, wanted: dict[str, str], *columns: Any) -> dict[str, Any]:
            statement = select(table).where(table.cell_id.in_(wanted.values()), table.notebook_id == notebook.id)
            found = {
                row.cell_id: row for row in self._db.scalars(statement.options(load_only(table.cell_id, *columns)))
            }
            for cell in wanted.values():
                if cell not in found:
                    found[cell] = table(id=uuid4().hex, cell_id=cell, notebook_id=notebook.id)
                    self._db.add(found[cell])
            return {name: found[cell] for name, cell in wanted.items()}

        grades = rows(Grade, cells.graded, Grade.auto_score, Grade.manual_score, Grade.needs_manual_grade)
        return notebook, grades, rows(Comment, cells.commented, Comment.auto_comment)

    def _assign_penalty(self, submission: SubmittedAssignment, notebook: SubmittedNotebook, cells: _Cells) -> None:
        """What nbgrader's AssignLatePenalties does: ask the configured plugin, and keep it between 0 and the score."""
        notebook.late_submission_penalty = None
        self._db.flush()
        due = self._db.scalar(select(Assignment.duedate).where(Assignment.id == self._assignment))
        if due is None or submission.timestamp is None:
            return
        seconds = (submission.timestamp - due - (submission.extension or timedelta())).total_seconds()
        if seconds <= 0:
            return
        score = self._db.scalar(
            select(func.coalesce(func.sum(Grade.score), 0.0)).where(
                Grade.cell_id.in_(cells.graded.values()), Grade.notebook_id == notebook.id
            )
        )
        plugin = self._penalties.plugin_inst
        try:
            penalty = plugin.late_submission_penalty(submission.student_id, score, seconds)
            if penalty is not None:
                notebook.late_submission_penalty = min(max(float(penalty), 0.0), score)
        except Exception as error:  # a course may bring a plugin of its own
            raise GradebookError(
                f"the late penalty of {submission.student_id} could not be computed: "
                f"{type(plugin).__name__} raised {type(error).__name__}: {error}"
            ) from error


def _penalties(coursedir: CourseDirectory) -> AssignLatePenalties:
    """nbgrader's step that assigns late penalties, with the plugin that the course configures."""
    sys.path.insert(0, coursedir.root)  # as nbgrader does: a course's own plugin lies in its directory
    try:
        penalties = AssignLatePenalties(config=coursedir.config)
        penalties.init_plugin()
        return penalties
    except Exception as error:
        raise GradebookError(
            f"the plugin for late penalties cannot be loaded ({error}): "
            f"check c.AssignLatePenalties.plugin_class in nbgrader_config.py"
        ) from error
    finally:
        sys.path.remove(coursedir.root)


def _cells(notebook: Notebook) -> _Cells:
    def ids(cells: Iterable[BaseCell]) -> dict[str, str]:
        return {cell.name: cell.id for cell in cells}

    tasks = ids(notebook.task_cells)
    return _Cells(notebook.id, notebook.name, ids(notebook.grade_cells) | tasks, ids(notebook.solution_cells) | tasks)


def _fill_in(record: Record, grades: dict[str, Grade], comments: dict[str, Comment], remedy: str) -> None:
    """Set the automatic scores and comments, and flag what a person has to look at."""

    def settle(question: str, answer: str, score: float | None, comment: str | None) -> None:
        grade = grades.get(question)
        if grade is None:
            raise GradebookError(f"the gradebook has no question {question!r} of {record.problem_set}: {remedy}")
        grade.auto_score = score
        grade.needs_manual_grade = score is None or grade.manual_score is not None
        if answer in comments:
            comments[answer].auto_comment = comment

    for result in record.questions:
        if result.status == GRADED:
            comment = NO_RESPONSE if (result.report or {}).get("status") == "not answered" else None
        else:
            comment = _comment(f"{COULD_NOT_GRADE}{result.status}: {result.message}".removesuffix(": "))
        settle(result.question, f"{result.question}-solution", result.score, comment)
    for answer in record.written:
        score, comment = (None, None) if answer.answered else (0.0, NO_RESPONSE)
        settle(answer.question, answer.question, score, comment)
    unread = [result for result in record.questions if result.status in (MISSING, UNREADABLE)]
    if unread and len(unread) == len(record.questions):
        # Nobody has read its answers in words either: none of them is empty.
        for name in grades.keys() & comments.keys():
            settle(name, name, None, _comment(f"{COULD_NOT_GRADE}{unread[0].status}: {unread[0].message}"))


def _comment(text: str) -> str:
    """Text that any database takes: no zero bytes, no halves of characters, no book."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:COMMENT_LIMIT]


def _in_words(error: SQLAlchemyError) -> str:
    return str(error.__cause__ or error).strip().partition("\n")[0]
