"""A class of made-up records and grades for the tiny problem set, without running anything."""

import json
from datetime import datetime

from conftest import NAME
from nbgrader.api import Gradebook

from bnlab.checks.report import PartResult, Report
from bnlab.grading.course import load_course
from bnlab.grading.gradebook import GradebookWriter
from bnlab.grading.record import GRADED, QuestionResult, Record

POINTS = {"mean_of": 30.0, "center": 30.0, "scale": 40.0}
PARTS = {"values": 3.0, "input untouched": 1.0}
HINT = "This divides by 4 instead of 3."


def part(name, passed, *, message="x = 4, expected 3", hint=HINT, **more):
    texts = {} if passed else {"message": message, "hint": hint, "tried": "f(x)"}
    return PartResult(name, PARTS.get(name, 1.0), passed, **(texts | more))


def result(question, *lost, borrowed=(), **texts):
    """A graded question whose parts `lost` failed."""
    parts = tuple(part(name, name not in lost, **(texts if name in lost else {})) for name in PARTS)
    report = Report(question, POINTS[question], parts, sum(PARTS.values()), tuple(borrowed))
    first = next((p.message for p in parts if not p.passed), "")
    return QuestionResult(question, POINTS[question], GRADED, report.score, first, report.to_dict(), "made-up")


def unanswered(question):
    parts = (PartResult("values", 3.0, False, answered=False, message="not answered"),)
    report = Report(question, POINTS[question], parts, 4.0)
    return QuestionResult(question, POINTS[question], GRADED, 0.0, "not answered", report.to_dict(), "made-up")


def stuck(question, status, message):
    return QuestionResult(question, POINTS[question], status, None, message, None, "made-up")


def record(student, *results, written=(), findings=(), submission="0" * 64, sandbox="bubblewrap"):
    """A record; questions that are not given are right."""
    given = {one.question: one for one in results}
    questions = tuple(given.get(name) or result(name) for name in POINTS)
    return Record(NAME, student, submission, {"python": "3"}, sandbox, questions, tuple(written), tuple(findings))


def put(course, made, notebook=None, timestamp=None, by_hand=None, comments=None):
    """Write a record where grading writes it, and into the gradebook; then what a person did."""
    place = course / "autograded" / made.student / NAME
    place.mkdir(parents=True, exist_ok=True)
    (place / "record.json").write_text(made.to_json(), encoding="utf-8")
    if notebook is not None:
        text = notebook if isinstance(notebook, str) else json.dumps(notebook)
        (place / f"{NAME}.ipynb").write_text(text, encoding="utf-8")
    with GradebookWriter(load_course(course), NAME) as writer:
        writer.write(made, timestamp)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        for question, score in (by_hand or {}).items():
            grade = gradebook.find_grade(question, NAME, NAME, made.student)
            grade.manual_score, grade.needs_manual_grade = score, False
        for cell, text in (comments or {}).items():
            gradebook.find_comment(cell, NAME, NAME, made.student).manual_comment = text
        gradebook.db.commit()


def people(course, **names):
    """Names by id: ``amara=("Amara", "Nwosu", "a@example.org", "17")``."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        for student, values in names.items():
            fields = dict(zip(("first_name", "last_name", "email", "lms_user_id"), values, strict=False))
            gradebook.update_or_create_student(student, **fields)


def due(course, when: datetime):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        gradebook.find_assignment(NAME).duedate = when
        gradebook.db.commit()
