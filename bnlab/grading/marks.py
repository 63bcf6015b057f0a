"""What every student of a class has for a problem set: the records of the grader and the gradebook, read together.

The gradebook decides on every score, because a person may have changed one; the records say how it came about. Pages,
uploads and reports all read a class through :func:`read_marks`, so that they never disagree.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    Notebook,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory

from bnlab.grading.course import CourseError, assignments_in, name_problem, students_in
from bnlab.grading.intake import UnreadableNotebook, read_notebook
from bnlab.grading.record import COULD_NOT_GRADE as REASON_COMMENT
from bnlab.grading.record import GRADED, MISSING, Record

# What can be said of a submission as a whole. Only "graded" has a score.
ALL_GRADED = "graded"
NEEDS_A_PERSON = "needs manual grade"  # an answer in words, or a score that someone marked for another look
COULD_NOT_GRADE = "could not grade"
NOT_GRADED_YET = "not graded yet"  # handed in, but neither a record nor a grade is there
NOTHING_HANDED_IN = "missing"


@dataclass(frozen=True)
class Mark:
    """What a student has for one question.

    Attributes
    ----------
    question : str
        Its `grade_id`.
    points : float
        What it is worth.
    score : float or None
        The points; None while there are none.
    by_hand : bool
        Whether a person gave them.
    waits : bool
        Whether a person has to look at it.
    comment : str
        What the grader wrote to the student.
    """

    question: str
    points: float
    score: float | None = None
    by_hand: bool = False
    waits: bool = False
    comment: str = ""


@dataclass(frozen=True)
class Person:
    """A student as the gradebook knows them; what it doesn't know is "".

    Attributes
    ----------
    id, first_name, last_name, email, lms_user_id : str
    """

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_user_id: str = ""

    @property
    def name(self) -> str:
        """First and last name, or the id where there is neither."""
        return " ".join(filter(None, (self.first_name, self.last_name))) or self.id

    @property
    def sortable_name(self) -> str:
        """Last name first, as lists of a class have it."""
        return ", ".join(filter(None, (self.last_name, self.first_name))) or self.id


@dataclass(frozen=True)
class StudentMarks:
    """What a student has for a problem set.

    Attributes
    ----------
    person : Person
    status : str
        "graded", "needs manual grade", "could not grade", "not graded yet" or "missing".
    marks : tuple of Mark
        In the problem set's order. Empty where nothing was graded.
    remark : str
        Why there is no score.
    penalty : float
        Points taken off for handing in late.
    record : Record or None
        What the grader wrote.
    """

    person: Person
    status: str
    marks: tuple[Mark, ...] = ()
    remark: str = ""
    penalty: float = 0.0
    record: Record | None = None

    @property
    def score(self) -> float | None:
        """The score after the penalty; None unless every question has one."""
        if self.status != ALL_GRADED:
            return None
        return round(max(0.0, sum(mark.score or 0.0 for mark in self.marks) - self.penalty), 2)

    def mark(self, question: str) -> Mark | None:
        """The mark of a question."""
        return next((mark for mark in self.marks if mark.question == question), None)


@dataclass(frozen=True)
class ClassMarks:
    """What a class has for a problem set.

    Attributes
    ----------
    problem_set : str
    questions : dict of str to float
        The points of every question, in the problem set's order.
    students : tuple of StudentMarks
        Everyone in the gradebook or with a folder in ``submitted/``, by id.
    """

    problem_set: str
    questions: dict[str, float]
    students: tuple[StudentMarks, ...]

    @property
    def points(self) -> float:
        """What the problem set is worth."""
        return sum(self.questions.values())


def read_marks(coursedir: CourseDirectory, name: str, only: list[str] | None = None) -> ClassMarks:
    """Read what a class has for a problem set.

    Parameters
    ----------
    coursedir : CourseDirectory
        From `load_course`.
    name : str
        The problem set.
    only : list of str, optional
        Ids of the students wanted. Default: all.

    Returns
    -------
    ClassMarks

    Raises
    ------
    CourseError
        There is no gradebook, it doesn't know the problem set, or a student is not known.
    """
    known = assignments_in(coursedir.db_url)
    if name not in known:
        raise CourseError(
            f"the gradebook does not know {name}, only {', '.join(known) or 'nothing'}: "
            f"record it: nbgrader generate_assignment {name}"
        )
    with open_gradebook(coursedir) as gradebook:
        entries = _Entries(gradebook, name, only)
    people = entries.people
    folders = set(students_in(coursedir)) & set(only) if only else set(students_in(coursedir))
    for student in folders - set(people):
        people[student] = Person(student)
    unknown = sorted(set(only or ()) - set(people))
    if unknown:
        raise CourseError(f"neither the gradebook nor submitted/ knows {', '.join(unknown)}: check the id")
    points = _in_order(coursedir, name, entries.points)
    students = (
        _of_student(coursedir, name, people[student], entries, list(points), student in folders)
        for student in sorted(only or people)
    )
    return ClassMarks(name, points, tuple(students))


def released_notebook(coursedir: CourseDirectory, name: str) -> NotebookNode:
    """The notebook of a problem set as it was handed out.

    Raises
    ------
    CourseError
        It is missing.
    """
    path = place_of(coursedir, "release", ".", name) / f"{name}.ipynb"
    try:
        return read_notebook(path)
    except UnreadableNotebook as error:
        raise CourseError(f"{error}: release it first: nbgrader generate_assignment {name}") from None


@contextmanager
def open_gradebook(coursedir: CourseDirectory) -> Iterator[Gradebook]:
    """The gradebook of a course, closed afterwards."""
    with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
        yield gradebook


def place_of(coursedir: CourseDirectory, step: str, student: str, name: str) -> Path:
    """The folder of a submission in a step, such as "autograded"."""
    return Path(coursedir.format_path(getattr(coursedir, f"{step}_directory"), student, name))


def read_record(coursedir: CourseDirectory, student: str, name: str) -> Record | None:
    """The grader's record of a submission, or None where there is none.

    Raises
    ------
    CourseError
        There is one, but it can't be read.
    """
    path = place_of(coursedir, "autograded", student, name) / "record.json"
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise CourseError(f"{path}: {error}") from None


class _Entries:
    """What the gradebook holds about a problem set, in four queries.

    Attributes
    ----------
    people : dict of str to Person
    points : dict of str to float
        By question.
    grades : dict of str to dict of str to Mark
        By student and question; without comments.
    comments : dict of str to dict of str to str
        By student and cell.
    reasons : dict of str to str
        By student: why nbgrader could not grade it.
    penalties : dict of str to float
        By student.
    """

    def __init__(self, gradebook: Gradebook, name: str, only: list[str] | None):
        query = gradebook.db.query
        self._only = only
        fields = (Student.id, Student.first_name, Student.last_name, Student.email, Student.lms_user_id)
        people = self._wanted(query(*fields), Student.id)
        self.people = {row[0]: Person(*(value or "" for value in row)) for row in people}
        cells = query(GradeCell.name, GradeCell.max_score).join(Notebook, GradeCell.notebook_id == Notebook.id)
        cells = cells.join(Assignment, Notebook.assignment_id == Assignment.id).filter(Assignment.name == name)
        self.points: dict[str, float] = {question: points for question, points in cells.order_by(GradeCell.name)}
        self.grades: dict[str, dict[str, Mark]] = defaultdict(dict)
        values = (Grade.auto_score, Grade.manual_score, Grade.extra_credit, Grade.needs_manual_grade)
        for student, question, auto, manual, extra, waits in self._of_submissions(query, Grade, values, name):
            score = auto if manual is None else manual
            self.grades[student][question] = Mark(
                question,
                self.points.get(question, 0.0),
                None if score is None else round(score + (extra or 0.0), 2),
                by_hand=manual is not None or bool(extra),
                waits=waits,
            )
        self.comments: dict[str, dict[str, str]] = defaultdict(dict)
        self.reasons: dict[str, str] = {}
        comments = self._of_submissions(query, Comment, (Comment.manual_comment, Comment.auto_comment), name)
        for student, cell, text, automatic in comments:
            if text and text.strip():
                self.comments[student][cell] = text.strip()
            if automatic and automatic.startswith(REASON_COMMENT):
                self.reasons[student] = automatic.removeprefix(REASON_COMMENT)
        penalties = query(SubmittedAssignment.student_id, SubmittedNotebook.late_submission_penalty)
        penalties = penalties.join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        penalties = penalties.join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
        self.penalties: dict[str, float] = defaultdict(float)
        penalties = self._wanted(penalties.filter(Assignment.name == name), SubmittedAssignment.student_id)
        for student, penalty in penalties:
            self.penalties[student] += penalty or 0.0

    def _wanted(self, rows: Any, student: Any) -> Any:
        return rows.filter(student.in_(self._only)) if self._only else rows

    def _of_submissions(self, query: Any, kind: Any, values: tuple, name: str) -> Any:
        rows = query(SubmittedAssignment.student_id, BaseCell.name, *values).select_from(kind)
        rows = rows.join(BaseCell, kind.cell_id == BaseCell.id)
        rows = rows.join(SubmittedNotebook, kind.notebook_id == SubmittedNotebook.id)
        rows = rows.join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        rows = rows.join(Assignment, SubmittedAssignment.assignment_id == Assignment.id).filter(Assignment.name == name)
        return self._wanted(rows, SubmittedAssignment.student_id)


def _of_student(
    coursedir: CourseDirectory, name: str, person: Person, entries: _Entries, order: list[str], has_folder: bool
) -> StudentMarks:
    try:
        record = read_record(coursedir, person.id, name)
    except CourseError as error:  # of one submission; the others are fine
        return StudentMarks(person, COULD_NOT_GRADE, remark=str(error))
    recorded = entries.grades.get(person.id)
    if record is None and all(mark.score is None for mark in (recorded or {}).values()):
        reason = entries.reasons.get(person.id)
        return StudentMarks(
            person, *((COULD_NOT_GRADE, (), reason) if reason else _not_graded(coursedir, name, person.id, has_folder))
        )
    marks = recorded or _of_record(record)
    comments = entries.comments.get(person.id, {})
    places = {question: place for place, question in enumerate(order)}
    marks = [marks[question] for question in sorted(marks, key=lambda name: places.get(name, len(order)))]
    marks = tuple(
        replace(mark, comment=comments.get(f"{mark.question}-solution") or comments.get(mark.question, ""))
        for mark in marks
    )
    status, remark = _status(marks, record)
    return StudentMarks(person, status, marks, remark, entries.penalties.get(person.id, 0.0), record)


def _status(marks: tuple[Mark, ...], record: Record | None) -> tuple[str, str]:
    """What is to be said of the whole, and why it has no score."""
    failed = {result.question: result for result in record.needs_an_eye} if record else {}
    written = {answer.question for answer in record.written} if record else set()
    without = [mark for mark in marks if mark.score is None]
    stuck = [mark.question for mark in without if mark.question in failed or mark.question not in written]
    if stuck:
        results = [failed[question] for question in stuck if question in failed]
        if results and all(result.status == MISSING for result in results) and not (record and record.submission):
            return NOTHING_HANDED_IN, ""
        # A whole submission that failed has the same reason in every question; it is said once.
        reasons = defaultdict(list)
        for result in results:
            reasons[f"{result.status}: {result.message}" if result.message else result.status].append(result.question)
        named = (
            reason if len(questions) == len(record.questions) else f"{', '.join(questions)} {reason}"
            for reason, questions in reasons.items()
        )
        return COULD_NOT_GRADE, "; ".join(named)
    if without or any(mark.waits for mark in marks):
        waiting = [mark.question for mark in marks if mark.score is None or mark.waits]
        return NEEDS_A_PERSON, f"to be graded by hand: {', '.join(waiting)}"
    return ALL_GRADED, ""


def _of_record(record: Record) -> dict[str, Mark]:
    """Marks by the record alone, where the gradebook has none."""
    marks = {r.question: Mark(r.question, r.points, r.score, waits=r.status != GRADED) for r in record.questions}
    for answer in record.written:
        score = None if answer.answered else 0.0
        marks[answer.question] = Mark(answer.question, answer.points, score, waits=answer.answered)
    return marks


def _not_graded(coursedir: CourseDirectory, name: str, student: str, has_folder: bool) -> tuple[str, tuple, str]:
    place = place_of(coursedir, "submitted", student, name)
    if has_folder and name_problem(student):
        return COULD_NOT_GRADE, (), name_problem(student)
    if not (has_folder and place.is_dir() and any(place.iterdir())):
        return NOTHING_HANDED_IN, (), ""
    return NOT_GRADED_YET, (), f"grade it: bnlab grade {name} --student {student}"


def _in_order(coursedir: CourseDirectory, name: str, points: dict[str, float]) -> dict[str, float]:
    """Points by question, in the order of the notebook that was handed out. The gradebook doesn't know it."""
    try:
        marks = (cell.metadata.get("nbgrader", {}) for cell in released_notebook(coursedir, name).cells)
        order = [mark["grade_id"] for mark in marks if mark.get("grade")]
    except CourseError:
        order = []
    return {question: points[question] for question in [*order, *points] if question in points}
