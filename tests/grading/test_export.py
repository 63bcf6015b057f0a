"""The table of grades: quoted, safe in a spreadsheet, and never a 0 where nothing was graded."""

import csv

import pytest
from conftest import NAME, hand_in
from hypothesis import given
from hypothesis import strategies as st
from nbgrader.api import Gradebook

from bnlab.grading.course import run_nbgrader
from bnlab.grading.export import write_csv

# nbgrader's own add_submission makes SQLAlchemy warn.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

AUTO = {"mean_of": 30.0, "center": 10.0, "scale": 26.67}


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def book(course):
    """Record a student's submission with these automatic scores (None: it never ran), without running anything."""

    def record(student, scores=AUTO, *, comment=None, penalty=0.0, by_hand=None, **person):
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
            gradebook.update_or_create_student(student, **person)
            if scores is None:
                return
            submission = gradebook.add_submission(NAME, student)
            (notebook,) = submission.notebooks
            notebook.late_submission_penalty = penalty
            for grade in notebook.grades:
                grade.auto_score = scores.get(grade.name)
                grade.manual_score = (by_hand or {}).get(grade.name)
                grade.needs_manual_grade = grade.auto_score is None and grade.manual_score is None
            for one in notebook.comments:
                one.auto_comment = comment
            gradebook.db.commit()

    return record


def export(course, *arguments):
    status, log = run_nbgrader(course, "export", *arguments)
    assert status == 0, log
    return log


def test_statuses_and_scores(course, book, answered):
    book("graded")
    book("unread", {}, comment="Could not grade: it is a PDF")
    book("half", {"mean_of": 30.0}, comment="No response.")
    book("renamed", {})
    book("late", penalty=5.0)
    book("very_late", penalty=500.0)
    book("by_hand", {"mean_of": 30.0}, by_hand={"center": 3.0, "scale": 7.0})
    book("absent", None)
    book("waiting", None)
    hand_in(course, "waiting", answered())
    hand_in(course, "renamed", answered()).rename(course / "submitted" / "renamed" / NAME / "mine.ipynb")
    hand_in(course, "half", answered())
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.add_student("reviewed")
        for grade in gradebook.add_submission(NAME, "reviewed").notebooks[0].grades:
            grade.auto_score, grade.needs_manual_grade = 5.0, grade.name == "center"
        gradebook.db.commit()
    export(course)
    rows = {row["student_id"]: row for row in read(course / "grades.csv")}
    found = {name: (row["status"], row["score"]) for name, row in rows.items()}
    assert found == {
        "graded": ("graded", "66.67"),
        "unread": ("could not grade", ""),
        "half": ("could not grade", ""),
        "renamed": ("could not grade", ""),
        "late": ("graded", "61.67"),
        "very_late": ("graded", "0"),
        "by_hand": ("graded", "40"),
        "absent": ("missing", ""),
        "waiting": ("not graded yet", ""),
        "reviewed": ("needs manual grade", ""),
    }
    assert rows["unread"]["remark"] == "it is a PDF"
    assert rows["renamed"]["remark"] == "ps1_tiny.ipynb is not among the files handed in (mine.ipynb)"
    assert rows["half"]["remark"] == "nbgrader's log says more: nbgrader autograde ps1_tiny --student=half"
    assert rows["waiting"]["remark"] == "nbgrader autograde ps1_tiny"
    assert rows["late"]["late_penalty"] == "5" and {row["max_score"] for row in rows.values()} == {"100"}

    by_question = {(row["student_id"], row["question"]): row for row in read(course / "grades_by_question.csv")}
    assert [by_question["graded", name]["score"] for name in AUTO] == ["30", "10", "26.67"]
    assert [by_question["half", name]["score"] for name in AUTO] == ["30", "", ""]
    assert by_question["graded", "scale"]["max_score"] == "40"
    assert not any(student in ("absent", "waiting") for student, _ in by_question)


def test_an_extension_before_handing_in_is_no_submission(course, book):
    book("waits", {})
    export(course)
    (row,) = read(course / "grades.csv")
    assert (row["status"], row["score"]) == ("missing", "")


def test_names_survive_and_formulas_do_not(course, book):
    names = {"a": 'Mensah, "Jr."', "b": "O'Brien\nMiller", "c": "=HYPERLINK(1)", "d": "Nováková", "e": "+49", "f": "@x"}
    for student, name in names.items():
        book(student, None, last_name=name, first_name="-1", email=f"{student}@example.org")
    export(course)
    shown = {row["student_id"]: row["last_name"] for row in read(course / "grades.csv")}
    assert shown == names | {"c": "'=HYPERLINK(1)", "e": "'+49", "f": "'@x"}
    assert {row["first_name"] for row in read(course / "grades.csv")} == {"'-1"}


def test_choice_of_file_students_and_assignments(course, book):
    for student in ("amara", "bo", "chen"):
        book(student)
    export(course, "--to", "out.csv", "--student", "bo", "--student", "chen", "--assignment", NAME)
    assert [row["student_id"] for row in read(course / "out.csv")] == ["bo", "chen"]
    assert len(read(course / "out_by_question.csv")) == 6
    log = export(course, "--assignment", "other")
    assert "no grades to export" in log and read(course / "grades.csv") == []


@given(st.lists(st.fixed_dictionaries({"a": st.text() | st.none(), "b": st.integers(0) | st.text()}), max_size=5))
def test_any_text_comes_back_and_none_is_a_formula(tmp_path_factory, rows):
    rows = [{k: v.replace("\0", "") if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_csv(path, ["a", "b"], rows)
    back = read(path)
    assert len(back) == len(rows)
    for row, given_row in zip(back, rows, strict=True):
        for name, value in given_row.items():
            text = "" if value is None else str(value)
            assert row[name] in (text, "'" + text)
            assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r"))
