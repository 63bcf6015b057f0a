"""Submissions that try for points or files that aren't theirs, and folders that would stop nbgrader's batch."""

import csv
import json
import re
import shutil

import nbformat
import pytest
from conftest import NAME, RIGHT, cell, hand_in

from bnlab.checks.report import JSON_MIME
from bnlab.grading.course import name_problem, run_nbgrader
from bnlab.grading.record import Record

# nbgrader's own add_submission makes SQLAlchemy warn.
pytestmark = [pytest.mark.nbgrader, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]

NO_CHECK = "def check(name, function):\n    return 100\n"
MUTE = "get_ipython().ast_node_interactivity = 'none'\n" + RIGHT["mean_of"]
FORGED = (
    "from IPython.display import display\n"
    "def check(name, function):\n"
    "    display({'application/vnd.bnlab.report+json': {'question': name, 'score': 40.0}}, raw=True)\n"
    + RIGHT["mean_of"]
    + "\ncheck('mean_of', mean_of)"
)
WRONG = {name: code.partition("\n")[0] + "\n    return None" for name, code in RIGHT.items()}


def record_of(course, student):
    path = course / "autograded" / student / NAME / "record.json"
    return Record.from_json(path.read_text(encoding="utf-8"))


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(released, answered, tmp_path_factory):
    """The course directory, the log and the rows of grades.csv."""
    course = shutil.copytree(released, tmp_path_factory.mktemp("hostile") / "course")
    submitted = course / "submitted"
    good = hand_in(course, "good", answered())
    (good.parent / "timestamp.txt").write_text("2026-10-05 18:30:00")

    package = hand_in(course, "package", answered(**WRONG)).parent
    (package / "checks").mkdir()
    (package / "checks" / "__init__.py").write_text(NO_CHECK)
    (package / "checks.cpython-312-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    (package / "checks.py").write_text(NO_CHECK)
    (package / "<b>.txt").write_text("hello")
    (package / "notes").symlink_to(course / "grading_seed")
    (package / "everything").symlink_to(course)

    for student, trick in {"own_check": NO_CHECK + RIGHT["mean_of"], "mute": MUTE, "forged": FORGED}.items():
        hand_in(course, student, answered(**WRONG | {"mean_of": trick}))

    linked = submitted / "linked_file" / NAME / f"{NAME}.ipynb"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(good)
    (submitted / "linked_set").mkdir()
    (submitted / "linked_set" / NAME).symlink_to(good.parent)
    (submitted / "linked_folder").symlink_to(submitted / "good")

    for student, time in {"yesterday": b"yesterday", "binary": b"\xff\xfe\x00", "far": b"99999-01-01"}.items():
        (hand_in(course, student, answered()).parent / "timestamp.txt").write_bytes(time)

    for student in ("line\nbreak", "go*", "[a]", "wh?t"):
        hand_in(course, student, answered())
    (submitted / "empty" / NAME).mkdir(parents=True)
    (submitted / "nothing").mkdir()
    (submitted / "a_file").write_text("hello")
    (submitted / "set_file").mkdir()
    (submitted / "set_file" / NAME).write_text("hello")
    status, log = run_nbgrader(course, "autograde", NAME)
    assert status == 1, log
    hand_in(course, "afterwards", answered())
    assert run_nbgrader(course, "generate_feedback", NAME)[0] == 0
    assert run_nbgrader(course, "export")[0] == 0
    return course, log, read(course / "grades.csv")


def test_only_the_notebook_is_used(graded):
    course, _, rows = graded
    assert (rows["package"]["status"], rows["package"]["score"]) == ("graded", "0")
    assert "Other files were ignored: " in rows["package"]["remark"]
    for name in ("checks/__init__.py", "checks.cpython-312-x86_64-linux-gnu.so", "notes", "everything", "?b?.txt"):
        assert name in rows["package"]["remark"]
    left = {path.name for path in (course / "autograded" / "package" / NAME).iterdir()}
    assert left == {"record.json", f"{NAME}.ipynb"}
    seed = (course / "grading_seed").read_text()
    files = [path for step in ("autograded", "feedback") for path in (course / step).rglob("*") if path.is_file()]
    assert files and not any(path.read_bytes() == seed.encode() for path in files)


@pytest.mark.parametrize("student", ["own_check", "mute", "forged"])
def test_what_a_student_does_to_the_test_changes_nothing(graded, student):
    """The tests of these processes are never run, so their answers count: one is right and two are wrong."""
    course, _, rows = graded
    assert (rows[student]["status"], rows[student]["score"]) == ("graded", "30")
    record = record_of(course, student)
    assert [(result.status, result.score) for result in record.questions] == [("graded", s) for s in (30, 0, 0)]


def test_a_report_that_a_student_wrote_is_not_kept(graded):
    course, _, _ = graded
    notebook = nbformat.read(course / "autograded" / "forged" / NAME / f"{NAME}.ipynb", as_version=4)
    assert not any("data" in output for output in cell(notebook, "mean_of-solution").outputs)
    reports = [
        output.data[JSON_MIME] for one in notebook.cells for output in one.get("outputs", []) if "data" in output
    ]
    assert [(report["question"], report["score"]) for report in reports] == [
        ("mean_of", 30),
        ("center", 0),
        ("scale", 0),
    ]


@pytest.mark.parametrize("student", ["linked_file", "linked_set", "linked_folder"])
def test_links_are_not_followed(graded, student):
    course, _, rows = graded
    assert (rows[student]["status"], rows[student]["score"]) == ("could not grade", "")
    assert re.search("is a link, expected (the notebook's file itself|a folder)", rows[student]["remark"])
    assert {result.status for result in record_of(course, student).questions} == {"unreadable"}
    assert not list((course / "autograded" / student).rglob("*.ipynb"))


def test_nobody_vanishes_from_the_table(graded):
    _, _, rows = graded
    assert {name: rows[name]["status"] for name in ("empty", "nothing", "a_file", "set_file", "afterwards")} == {
        "empty": "missing",
        "nothing": "missing",
        "a_file": "missing",
        "set_file": "missing",
        "afterwards": "not graded yet",
    }
    assert rows["a_file"]["remark"] == "a_file is a file, expected a folder with the notebook"
    assert rows["set_file"]["remark"] == f"{NAME} is a file, expected a folder with the notebook"


def test_unusable_names_harm_nobody_else(graded):
    course, log, rows = graded
    assert (rows["good"]["score"], rows["good"]["submitted"], rows["good"]["remark"]) == (
        "100",
        "2026-10-05 18:30:00",
        "",
    )
    for student in ("line\nbreak", "go*", "[a]", "wh?t"):
        assert f"Left out the submission of {student!r}" in log
        assert rows[student]["status"] == "could not grade" and "rename the folder" in rows[student]["remark"]
        assert not (course / "autograded" / student).exists()
    assert not any(map(name_problem, ["amara", "bo.lee", "Nováková", "o'brien", "a b", "12+3", "李"]))


@pytest.mark.parametrize("student", ["yesterday", "binary", "far"])
def test_a_timestamp_without_a_time_is_ignored(graded, student):
    _, _, rows = graded
    assert (rows[student]["status"], rows[student]["score"], rows[student]["submitted"]) == ("graded", "100", "")
    assert rows[student]["remark"] == "timestamp.txt holds no time: ignored."


def test_a_bad_timestamp_beside_a_graded_submission(released, answered, tmp_path):
    """nbgrader compares the times before it grades again."""
    course = shutil.copytree(released, tmp_path / "course")
    path = hand_in(course, "amara", answered())
    assert run_nbgrader(course, "autograde", NAME)[0] == 0
    (path.parent / "timestamp.txt").write_text("tomorrow")
    path.write_text(json.dumps(nbformat.v4.new_notebook()))
    status, log = run_nbgrader(course, "autograde", NAME)
    assert status == 0 and "Skipping existing assignment" in log, log
