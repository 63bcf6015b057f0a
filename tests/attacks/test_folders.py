"""A class with hostile folders and notebooks in it, graded by the command that instructors use."""

import contextlib
import html
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="nbgrader is not installed: make test installs it")
pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from bnlab.grading.course import run_nbgrader
from bnlab.grading.record import Record
from bnlab.grading.sandbox import Sandbox, SandboxUnavailable

from .attack import load_corpus
from .folders import FOLDERS, NAMES, swapping
from .trial import benches
from .victims import NAMES as SETS

pytestmark = [pytest.mark.nbgrader, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]

NAME = SETS["arrays"]
HONEST = ("honest_first", "honest_middle", "zoe")
# Hostile notebooks that are quick under the command's own limits.
NOTEBOOKS = (
    "always_equal", "forged_report", "exit_in_call", "exit_in_cell", "markup_in_outputs", "escape_sequences",
    "prints_without_end", "texts_that_are_none", "empty_file", "metadata_nested_deeply", "surrogates_in_metadata",
    "nan_in_metadata", "points_claimed", "reads_the_course", "left_for_the_next", "name_of_an_exception",
)  # fmt: skip
UNREADABLE = {
    "link_to_the_seed", "link_to_an_honest_notebook", "link_to_an_honest_folder", "link_to_an_endless_device",
    "link_to_itself", "hard_link_to_the_seed", "named_pipe", "unix_socket", "device_file", "directory_for_a_file",
    "sparse_terabyte", "zip_bomb",
}  # fmt: skip


def bnlab_grade(course: Path) -> subprocess.CompletedProcess:
    """Run the command as instructors do."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BNLAB_")}
    command = [sys.executable, "-c", "from bnlab.cli import app; app()", "grade", NAME, "--course", str(course)]
    return subprocess.run([*command, "--jobs", "2"], env=environment, capture_output=True, text=True, timeout=280)


def hand_in(course: Path, student: str, data: bytes) -> None:
    room = course / "submitted" / student / NAME
    room.mkdir(parents=True)
    (room / f"{NAME}.ipynb").write_bytes(data)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The course, one with the honest submissions alone, the bench, what the command printed, what ran before."""
    try:
        Sandbox().probe()
    except SandboxUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no sandbox: {error}")
    with benches(tmp_path_factory.mktemp("folders") / "course") as ready:
        bench = ready["arrays"]
        course, scene = bench.watch.course, bench.scene
        shutil.rmtree(course / "submitted" / "somebody")
        for student in HONEST:
            hand_in(course, student, bench.honest["before"])
        alone = shutil.copytree(course, tmp_path_factory.mktemp("alone") / "course", symlinks=True)
        quiet = bnlab_grade(alone)
        assert quiet.returncode == 0, quiet.stderr
        for name, build in FOLDERS.items():
            build(course / "submitted" / name, scene, NAME)
        for one in load_corpus():
            if one.name in NOTEBOOKS:
                hand_in(course, one.name, one.data(scene))
        for student in NAMES:
            hand_in(course, student, bench.honest["after"])
        counts = bench.watch.counts()
        with swapping(course / "submitted" / "swapper", scene, NAME):
            done = bnlab_grade(course)
        yield course, alone, bench, done, counts


def record(course: Path, student: str) -> Record:
    return Record.from_json((course / "autograded" / student / NAME / "record.json").read_text())


def test_the_command_goes_through_and_says_that_some_need_an_eye(graded):
    _, _, _, done, _ = graded
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("student", HONEST)
def test_honest_work_is_graded_the_same_as_without_the_others(graded, student):
    course, alone, *_ = graded
    for file in ("record.json", f"{NAME}.ipynb"):
        paths = [place / "autograded" / student / NAME / file for place in (course, alone)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    assert record(course, student).score == 100


@pytest.mark.parametrize("student", sorted(set(FOLDERS) - {"link_to_the_whole_disk", "modules_beside_the_notebook"}))
def test_hostile_folders(graded, student):
    course, *_ = graded
    found = record(course, student)
    statuses = {result.status for result in found.questions}
    if student in UNREADABLE:
        assert statuses <= {"unreadable", "missing"} and found.score == 0
    else:
        assert statuses == {"graded"} and found.score == 100


def test_modules_beside_the_notebook_are_not_imported(graded):
    course, *_ = graded
    found = record(course, "modules_beside_the_notebook")
    assert found.score == 70
    kept = {path.name for path in (course / "autograded" / "modules_beside_the_notebook" / NAME).rglob("*")}
    assert kept <= {f"{NAME}.ipynb", "record.json", "timestamp.txt", "checks.py"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_hostile_notebooks(graded, name):
    course, *_ = graded
    one = next(one for one in load_corpus() if one.name == name)
    for result in record(course, name).questions:
        expected = one.expected.get(result.question, one.others)
        assert not expected.problem(result.question, result.status, (result.score or 0) / result.points)


def test_a_file_that_changes_while_it_is_read(graded):
    """It is graded as honest work or not at all; what it links to does not come to light."""
    course, *_ = graded
    found = record(course, "swapper")
    assert found.score == 100 or {result.status for result in found.questions} <= {"unreadable", "missing"}


def test_names_harm_nobody(graded):
    """Each is graded, or left out with a word about it; no file lies where the name would lead."""
    course, *_ = graded
    left_out = [name for name in NAMES if not (course / "autograded" / name / NAME / "record.json").exists()]
    for name in set(NAMES) - set(left_out):
        assert record(course, name).score == 100
    assert len(left_out) <= len(NAMES) / 2
    assert not [path for path in (Path("x"), course / "x", course.parent / "x") if path.exists()]


def test_what_is_printed_moves_no_terminal(graded):
    *_, done, _ = graded
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", (done.stdout + done.stderr).replace("\r", ""))


def test_nothing_gets_out_and_nothing_is_left(graded):
    course, _, bench, done, counts = graded
    texts = [done.stdout + done.stderr]
    texts += [p.read_text("utf-8", "replace") for p in (course / "autograded").rglob("*") if p.is_file()]
    for text in texts:
        assert not bench.watch.told(re.sub(r'"source": \[[^\]]*\]', "", text))
    assert bench.watch.left_behind() == [] and bench.watch.calls() == []
    assert len(bench.watch.processes()) <= counts["processes"]
    for name in ("course", "gradebook", "temporary"):
        assert any(
            bench.watch.secrets[name].encode() in Path(path).read_bytes()
            for path in bench.watch.files[:1] + bench.watch.files[2:]
        )


def test_the_gradebook_has_the_records_scores(graded):
    course, *_ = graded
    with contextlib.closing(sqlite3.connect(course / "gradebook.db")) as gradebook:
        rows = gradebook.execute(
            "SELECT submitted_assignment.student_id, SUM(grade.auto_score), COUNT(grade.auto_score) FROM grade "
            "JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id "
            "JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id "
            "GROUP BY submitted_assignment.student_id"
        ).fetchall()
    found = {student: (score or 0, count) for student, score, count in rows}
    records = {
        path.parents[1].name: record(course, path.parents[1].name)
        for path in (course / "autograded").glob(f"*/{NAME}/record.json")
    }
    for student, one in records.items():
        graded_questions = [result for result in one.questions if result.score is not None]
        assert found[student] == (one.score, len(graded_questions)), student
    assert not any(score > 100 for score, _ in found.values())


def test_feedback_runs_nothing(graded):
    """Pages are made for everybody, and what students wrote stands in them as text."""
    course, _, bench, _, _ = graded
    status, log = run_nbgrader(course, "generate_feedback", NAME)
    pages = {
        path.parents[1].name: path.read_text(encoding="utf-8")
        for path in (course / "feedback").glob(f"*/{NAME}/*.html")
    }
    assert status == 0, log
    assert set(HONEST) <= set(pages) and "markup_in_outputs" in pages
    for student, page in pages.items():
        assert not re.search(r"<script|<iframe|<img[^>]*onerror|javascript:[^&\s]*\(1\)'?>", page, re.I), student
        assert "Content-Security-Policy" in page
        assert not bench.watch.told(page), student
    assert html.escape("<script>alert(1)</script>") in pages["markup_in_outputs"]
