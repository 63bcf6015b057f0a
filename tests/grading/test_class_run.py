"""A whole class: everything is found and read safely, graded once, written once, and no end of a run loses a grade."""

import hashlib
import itertools
import json
import os
import socket
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import nbformat
import pytest
from conftest import NAME, RIGHT, cell, hand_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook
from stand_in import POINTS, StandIn

from bnlab.grading import class_run
from bnlab.grading.class_run import ClassRun, merge_outputs, read_submission
from bnlab.grading.grade import Grader
from bnlab.grading.gradebook import GradebookWriter
from bnlab.grading.material import Material
from bnlab.grading.record import CRASHED, GRADED, MISSING, UNREADABLE, Record
from bnlab.grading.sandbox import Sandbox, SandboxUnavailable
from bnlab.grading.workers import ClassError, Done, Pool


class Here:
    """An engine in this process."""

    def __init__(self, grader):
        self.grader = grader

    def run(self, units, stop=lambda: False):
        for unit in units:
            yield Done(unit.student, self.grader.grade(unit.data, unit.student, unit.questions))


def put(course, student, text, stamp=None):
    folder = course / "submitted" / student / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.ipynb").write_text(text)
    if stamp:
        (folder / "timestamp.txt").write_text(stamp)


def grade(course, engine=None, stop=lambda: False, **choice):
    """One run; the outcomes by student."""
    outcomes = {}
    with ClassRun(course, NAME, Sandbox(), **choice) as run:
        engine = engine or Here(StandIn(run.material))

        def report(outcome):
            assert outcome.record.student not in outcomes
            outcomes[outcome.record.student] = outcome

        run.run(engine, report, stop)
    return outcomes


def deeds(outcomes):
    return {student: outcome.deed for student, outcome in outcomes.items()}


def files(course, student):
    folder = course / "autograded" / student / NAME
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def stored(course, student):
    return Record.from_json((course / "autograded" / student / NAME / "record.json").read_text())


def scores(course):
    """What the gradebook has: automatic scores, by student and question."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        return {
            submission.student.id: {grade.name: grade.auto_score for grade in submission.notebooks[0].grades}
            for submission in gradebook.assignment_submissions(NAME)
        }


@pytest.fixture
def can_import_this(monkeypatch):
    """Worker processes find the stand-in."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


# --- reading ---------------------------------------------------------------------------------------------------------


def place(submitted, what):
    """Put something in the place of a submission, of its folder, or of the student's folder."""
    student = submitted / "amara"
    folder = student / NAME
    notebook = folder / f"{NAME}.ipynb"
    elsewhere = submitted / "boris" / NAME
    elsewhere.mkdir(parents=True)
    (elsewhere / f"{NAME}.ipynb").write_text("another student's work")
    if what == "a linked student":
        student.symlink_to(submitted / "boris")
        return
    student.mkdir()
    if what == "a linked folder":
        folder.symlink_to(elsewhere)
        return
    if what == "a file for a folder":
        folder.write_text("no folder")
        return
    folder.mkdir()
    if what == "a link":
        notebook.symlink_to(elsewhere / f"{NAME}.ipynb")
    elif what == "a link to nothing":
        notebook.symlink_to(folder / "nothing")
    elif what == "a link to a device":
        notebook.symlink_to("/dev/zero")
    elif what == "a pipe":
        os.mkfifo(notebook)
    elif what == "a folder":
        notebook.mkdir()
    elif what == "a socket":
        with socket.socket(socket.AF_UNIX) as sock:
            os.chdir(folder)  # a socket's path must be short
            sock.bind(notebook.name)
    elif what == "too much":
        with notebook.open("wb") as file:
            file.truncate(class_run.FILE_LIMIT + 1)


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("a linked student", "amara is a link, expected a folder"),
        ("a linked folder", f"{NAME} is a link, expected a folder"),
        ("a file for a folder", f"{NAME} is a file, expected a folder"),
        ("a link", f"{NAME}.ipynb is a link, expected the notebook's file itself"),
        ("a link to nothing", f"{NAME}.ipynb is a link"),
        ("a link to a device", f"{NAME}.ipynb is a link"),
        ("a pipe", f"{NAME}.ipynb is no ordinary file"),
        ("a folder", f"{NAME}.ipynb is no ordinary file"),
        ("a socket", f"{NAME}.ipynb is no ordinary file"),
        ("too much", f"{NAME}.ipynb is larger than 50 MB"),
    ],
)
def test_what_is_no_notebook_is_not_read(tmp_path, monkeypatch, what, problem):
    monkeypatch.chdir(tmp_path)
    place(tmp_path, what)
    handed_in = read_submission(tmp_path, "amara", NAME)
    assert (handed_in.data, handed_in.digest, handed_in.status) == (None, "", UNREADABLE)
    assert handed_in.problem.startswith(problem)


def test_a_folder_without_the_notebook_and_no_folder(tmp_path):
    assert read_submission(tmp_path, "amara", NAME) is None
    (tmp_path / "amara").mkdir()
    assert read_submission(tmp_path, "amara", NAME) is None
    (tmp_path / "amara" / NAME).mkdir()
    for name in ("timestamp.txt", "mine <b>.ipynb", ".hidden"):
        (tmp_path / "amara" / NAME / name).touch()
    handed_in = read_submission(tmp_path, "amara", NAME)
    assert handed_in.status == UNREADABLE
    assert handed_in.problem == f"{NAME}.ipynb is not among the files handed in (mine ?b?.ipynb)"


@given(data=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_as_they_are_and_no_file_stays_open(tmp_path, data):
    folder = tmp_path / "amara" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.ipynb").write_bytes(data)
    (folder / "timestamp.txt").write_bytes(data)
    before = len(os.listdir("/proc/self/fd"))
    handed_in = read_submission(tmp_path, "amara", NAME)
    assert (handed_in.data, handed_in.status) == (data, "")
    assert bool(handed_in.stamp) == (handed_in.timestamp is not None)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (b"2026-10-05 18:30:00 UTC\n", datetime(2026, 10, 5, 18, 30)),
        (b"2026-10-05 18:30:00.5 Europe/Paris", datetime(2026, 10, 5, 16, 30, 0, 500_000)),
        (b"2026-10-05T18:30:00+02:00", datetime(2026, 10, 5, 16, 30)),
        (b"", None),
        (b"\xff\xfe\x00", None),
        (b"soon", None),
        (b"99999-01-01 00:00:00 UTC", None),
        (b"2026-10-05 18:30:00 UTC" + b" " * 2000, None),
    ],
)
def test_the_time_as_nbgrader_reads_it(tmp_path, stamp, expected):
    folder = tmp_path / "amara" / NAME
    folder.mkdir(parents=True)
    (folder / "timestamp.txt").write_bytes(stamp)
    handed_in = read_submission(tmp_path, "amara", NAME)
    assert handed_in.timestamp == expected
    assert handed_in.stamp == (stamp if expected else b"")
    (folder / "timestamp.txt").unlink()
    os.mkfifo(folder / "timestamp.txt")
    assert read_submission(tmp_path, "amara", NAME).timestamp is None


# --- a run -----------------------------------------------------------------------------------------------------------


def test_everybody_is_settled_once(course):
    put(course, "amara", "20", "2026-10-05 18:30:00 UTC")
    put(course, "boris", "7")
    (course / "submitted" / "chloe" / NAME).mkdir(parents=True)
    (course / "submitted" / "dmitri").mkdir()
    put(course, "elif", "9")
    (course / "submitted" / "elif" / NAME / f"{NAME}.ipynb").unlink()
    (course / "submitted" / "elif" / NAME / f"{NAME}.ipynb").symlink_to(
        course / "submitted" / "boris" / NAME / f"{NAME}.ipynb"
    )
    put(course, "fa*", "7")
    put(course, "g" * 130, "7")
    first = grade(course)
    assert deeds(first) == dict.fromkeys(["amara", "boris", "chloe", "elif"], "graded")
    assert {student: outcome.record.score for student, outcome in first.items()} == {
        "amara": 60.0,
        "boris": 21.0,
        "chloe": 0.0,
        "elif": 0.0,
    }
    assert {result.status for result in first["chloe"].record.questions} == {MISSING}
    assert {result.status for result in first["elif"].record.questions} == {UNREADABLE}
    assert scores(course) == {
        "amara": dict.fromkeys(POINTS, 20.0),
        "boris": dict.fromkeys(POINTS, 7.0),
        "chloe": dict.fromkeys(POINTS),
        "elif": dict.fromkeys(POINTS),
    }
    assert files(course, "amara").keys() == {f"{NAME}.ipynb", "record.json", "timestamp.txt"}
    assert files(course, "chloe").keys() == {"record.json"}
    with ClassRun(course, NAME, Sandbox()) as run:
        assert {name[:3]: why.split(" has ")[0] for name, why in run.unusable.items()} == {
            "fa*": "its folder's name",
            "ggg": "its folder's name",
        }
    before = {student: files(course, student) for student in first}
    assert set(deeds(grade(course)).values()) == {"kept"}
    assert set(deeds(grade(course, regrade=True)).values()) == {"graded"}
    assert {student: files(course, student) for student in first} == before


def test_what_changed_is_graded_again(course, monkeypatch):
    for student in ("amara", "boris", "chloe"):
        put(course, student, "5", "2026-10-05 18:30:00 UTC")
    grade(course)
    put(course, "amara", "6")
    (course / "submitted" / "boris" / NAME / f"{NAME}.ipynb").unlink()
    put(course, "chloe", "5", "2026-10-06 18:30:00 UTC")
    again = grade(course)
    assert deeds(again) == {"amara": "graded", "boris": "graded", "chloe": "recorded"}
    assert scores(course)["amara"] == dict.fromkeys(POINTS, 6.0)
    assert scores(course)["boris"] == dict.fromkeys(POINTS)
    assert f"{NAME}.ipynb" not in files(course, "boris"), "it would be taken for what is handed in now"
    assert files(course, "chloe")["timestamp.txt"] == b"2026-10-06 18:30:00 UTC"
    with (course / "source" / NAME / "checks.py").open("a") as checks:
        checks.write("# another version\n")
    assert deeds(grade(course)) == {"amara": "graded", "boris": "graded", "chloe": "graded"}
    (course / "autograded" / "amara" / NAME / "record.json").write_text("{}")
    (course / "autograded" / "chloe" / NAME / f"{NAME}.ipynb").unlink()
    assert deeds(grade(course)) == {"amara": "graded", "boris": "kept", "chloe": "graded"}


def test_a_record_made_with_less_protection_is_not_kept(course):
    put(course, "amara", "5")
    grade(course)
    path = course / "autograded" / "amara" / NAME / "record.json"
    path.write_text(replace(stored(course, "amara"), sandbox="none").to_json())
    assert deeds(grade(course)) == {"amara": "graded"}


def test_a_new_gradebook_gets_everything_without_grading(course, released):
    put(course, "amara", "5")
    put(course, "boris", "6")
    grade(course)
    (course / "gradebook.db").write_bytes((released / "gradebook.db").read_bytes())
    assert scores(course) == {}
    assert deeds(grade(course, engine=Here(None))) == {"amara": "recorded", "boris": "recorded"}
    assert scores(course) == {"amara": dict.fromkeys(POINTS, 5.0), "boris": dict.fromkeys(POINTS, 6.0)}


class Killed(BaseException):
    """The end of the process, at a place that the test chooses."""


def test_a_run_that_ends_anywhere_is_finished_by_the_next_one(course, released, monkeypatch):
    """Every step that changes a file or the gradebook is the last one of a run, once before it and once after it."""
    put(course, "amara", "5")
    grade(course)
    put(course, "amara", "6", "2026-10-05 18:30:00 UTC")
    put(course, "boris", "7")
    steps = 0
    last = None

    def watched(function):
        def step(*args, **kwargs):
            nonlocal steps
            if steps == last:
                raise Killed
            result = function(*args, **kwargs)
            steps += 1
            if steps == last:
                raise Killed
            return result

        return step

    start = {"gradebook": (course / "gradebook.db").read_bytes(), "amara": files(course, "amara")}
    ends = set()
    for last in itertools.count():  # noqa: B007  `watched` reads it
        steps = 0
        (course / "gradebook.db").write_bytes(start["gradebook"])
        for student in ("amara", "boris"):
            for name in files(course, student):
                (course / "autograded" / student / NAME / name).unlink()
        for name, data in start["amara"].items():
            (course / "autograded" / "amara" / NAME / name).write_bytes(data)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", watched(Path.write_bytes))
            patch.setattr(Path, "replace", watched(Path.replace))
            patch.setattr(Path, "unlink", watched(Path.unlink))
            patch.setattr(GradebookWriter, "write", watched(GradebookWriter.write))
            try:
                grade(course)
                finished = True
            except Killed:
                finished = False
        for student, score in (("amara", 6.0), ("boris", 7.0)):
            # What record.json says, the gradebook has: a record is never there before its grade.
            path = course / "autograded" / student / NAME / "record.json"
            if path.exists() and stored(course, student).questions[0].score == score:
                assert scores(course)[student] == dict.fromkeys(POINTS, score)
        again = deeds(grade(course))
        ends.add(again.get("amara"))
        assert scores(course) == {"amara": dict.fromkeys(POINTS, 6.0), "boris": dict.fromkeys(POINTS, 7.0)}
        assert files(course, "amara").keys() - {".record.json.part"} >= {
            f"{NAME}.ipynb",
            "record.json",
            "timestamp.txt",
        }
        for student, word in (("amara", "6"), ("boris", "7")):
            assert stored(course, student).questions[0].score == float(word)
            assert nbformat.reads(files(course, student)[f"{NAME}.ipynb"].decode(), 4).cells[0].source == word
        assert set(deeds(grade(course)).values()) == {"kept"}
        if finished:
            break
    assert last > 10
    assert ends == {"graded", "recorded", "kept"}, "each way to go on was needed somewhere"


def test_a_gradebook_that_refuses_loses_no_grade(course, monkeypatch):
    put(course, "amara", "5")
    put(course, "boris", "6")
    write = GradebookWriter.write

    def refuse(self, record, timestamp):
        if record.student == "amara":
            raise class_run.GradebookError("the disk is full")
        write(self, record, timestamp)

    with monkeypatch.context() as patch:
        patch.setattr(GradebookWriter, "write", refuse)
        first = grade(course)
    assert (first["amara"].problem, first["boris"].problem) == ("the disk is full", "")
    assert "record.json" not in files(course, "amara")
    assert deeds(grade(course, engine=Here(None))) == {"amara": "recorded", "boris": "kept"}
    assert scores(course)["amara"] == dict.fromkeys(POINTS, 5.0)


def test_a_folder_that_cannot_be_written_stops_nobody_else(course):
    put(course, "amara", "5")
    put(course, "boris", "6")
    (course / "autograded").mkdir()
    (course / "autograded" / "amara").write_text("in the way")
    outcomes = grade(course)
    assert "cannot be written" in outcomes["amara"].problem
    assert outcomes["boris"].problem == ""


def test_a_submission_that_ends_its_worker_is_tried_once_more_alone(course, can_import_this, tmp_path):
    log = tmp_path / "log"
    put(course, "amara", "die")
    put(course, "boris", f"die-once {tmp_path / 'died'}")
    for number in range(4):
        put(course, f"chloe{number}", "5")
    with Pool(partial(StandIn, Material.of_course(course, NAME), str(log)), 2) as pool:
        outcomes = grade(course, engine=pool)
    assert len(outcomes) == 6
    assert {result.status for result in outcomes["amara"].record.questions} == {CRASHED}
    assert "twice: the process that graded it ended" in outcomes["amara"].record.questions[0].message
    assert outcomes["boris"].record.score == 3.0
    assert scores(course)["amara"] == dict.fromkeys(POINTS)
    tries = log.read_text().split()
    assert {student: tries.count(student) for student in ("amara", "boris", "chloe0")} == {
        "amara": 2,
        "boris": 2,
        "chloe0": 1,
    }
    assert tries[-1] in ("amara", "boris"), "after all others"


def test_where_nothing_can_be_graded_nothing_is_called_a_crash(course):
    class Broken:
        def run(self, units, stop):
            for unit in units:
                yield Done(unit.student, None, "no sandbox left")

    for number in range(20):
        put(course, f"student{number:02}", "5")
    with pytest.raises(ClassError, match="none of the first 10 submissions could be graded: no sandbox left"):
        grade(course, engine=Broken())
    assert scores(course) == {}


def test_one_question_of_some_students(course):
    for student in ("amara", "boris", "chloe"):
        put(course, student, "5")
    grade(course, students=["amara", "boris"])
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        grade_by_hand = gradebook.find_grade("mean_of", NAME, NAME, "amara")
        grade_by_hand.manual_score, grade_by_hand.needs_manual_grade = 25.0, False
        gradebook.db.commit()
    before = files(course, "amara")

    class Better(StandIn):
        def grade(self, data, student, questions=None):
            graded = super().grade(b"8", student, questions)
            return replace(graded, record=replace(graded.record, submission=hashlib.sha256(data).hexdigest()))

    with ClassRun(course, NAME, Sandbox()) as run:
        material = run.material
    outcomes = grade(course, Here(Better(material)), students=["amara", "chloe"], questions=["scale"], regrade=True)
    assert outcomes.keys() == {"amara", "chloe"}
    assert [result.score for result in stored(course, "amara").questions] == [5.0, 5.0, 8.0]
    assert stored(course, "amara").questions[:2] == Record.from_json(before["record.json"].decode()).questions[:2]
    assert len(stored(course, "chloe").questions) == 3, "there was nothing to merge it into"
    assert scores(course)["amara"] == {"mean_of": 5.0, "center": 5.0, "scale": 8.0}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        assert not gradebook.find_grade("mean_of", NAME, NAME, "amara").needs_manual_grade
    assert deeds(grade(course)) == {"amara": "kept", "boris": "kept", "chloe": "kept"}


def test_merged_outputs_leave_the_rest_as_it_is(answered):
    def executed(word, start):
        notebook = answered()
        for count, one in enumerate((one for one in notebook.cells if one.cell_type == "code"), start):
            one.execution_count = count
            one.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": word}, execution_count=count)]
        return nbformat.writes(notebook)

    merged = merge_outputs(executed("early", 1) + "\n", executed("late", 0), ["center"])
    expected = nbformat.reads(executed("early", 1), 4)
    cell(expected, "center").outputs[0].data["text/plain"] = "late"
    assert merged == nbformat.writes(expected) + "\n"
    assert merge_outputs(merged, executed("late", 0), ["center"]) == merged


def test_stopping_writes_what_is_done_and_the_next_run_goes_on(course):
    for number in range(6):
        put(course, f"student{number}", "5")
    done = []

    class Counting(Here):
        def run(self, units, stop):
            for one in super().run(units, stop):
                done.append(one.student)
                yield one

    with ClassRun(course, NAME, Sandbox()) as run:
        material = run.material
    first = grade(course, Counting(StandIn(material)), stop=lambda: len(done) >= 2)
    assert len(first) == 2
    second = deeds(grade(course))
    assert sorted(second.values()) == ["graded"] * 4 + ["kept"] * 2


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"students": ["amra"]}, r"no folder of a student 'amra': did you mean amara\?"),
        ({"questions": ["variance"]}, "no question 'variance'.*mean_of, center, scale"),
        ({"students": ["dmitri"]}, "dmitri handed in nothing"),
    ],
)
def test_a_choice_of_what_is_not_there(course, choice, message):
    put(course, "amara", "5")
    (course / "submitted" / "dmitri").mkdir()
    with pytest.raises(ClassError, match=message):
        grade(course, **choice)


def test_nobody_handed_in(course):
    with pytest.raises(ClassError, match="nobody has handed in ps1_tiny"):
        grade(course)


def test_one_run_at_a_time(course):
    put(course, "amara", "5")
    with ClassRun(course, NAME, Sandbox()), pytest.raises(ClassError, match="another bnlab grade is at work"):
        grade(course)
    assert deeds(grade(course)) == {"amara": "graded"}


# --- with the real grader --------------------------------------------------------------------------------------------


@pytest.fixture
def sandbox():
    try:
        Sandbox().probe()
    except SandboxUnavailable as error:
        pytest.skip(f"bubblewrap does not work here: {error}")
    return Sandbox()


def test_a_class_with_the_real_grader(course, answered, sandbox):
    hand_in(course, "amara", answered())
    hand_in(course, "boris", answered(center="def center(x):\n    return x"))
    hand_in(course, "chloe", "%PDF-1.7")
    hand_in(course, "dmitri", answered(scale="import os\ndef scale(x):\n    os._exit(0)"))
    for number in range(4):
        hand_in(course, f"elif{number}", answered(mean_of=RIGHT["mean_of"] + f"\n# {number}"))
    with Pool(partial(Grader, Material.of_course(course, NAME), sandbox), 2) as pool:
        first = grade(course, engine=pool)
        assert {student: outcome.record.score for student, outcome in first.items() if student[0] < "d"} == {
            "amara": 100.0,
            "boris": first["boris"].record.score,
            "chloe": 0.0,
        }
        assert 70 <= first["boris"].record.score < 100
        statuses = {student: {r.question: r.status for r in one.record.questions} for student, one in first.items()}
        assert set(statuses["chloe"].values()) == {UNREADABLE}
        assert statuses["dmitri"] == {"mean_of": GRADED, "center": GRADED, "scale": CRASHED}
        assert all(outcome.record.score == 100.0 for student, outcome in first.items() if student.startswith("elif"))
        before = {student: files(course, student) for student in first}
        assert set(deeds(grade(course, engine=pool)).values()) == {"kept"}
        assert set(deeds(grade(course, engine=pool, regrade=True)).values()) == {"graded"}
        assert {student: files(course, student) for student in first} == before
        # One question alone gives the same bytes as all of them together.
        again = grade(course, engine=pool, regrade=True, questions=["center"], students=["amara", "boris", "dmitri"])
        assert set(deeds(again).values()) == {"graded"}
        assert {student: files(course, student) for student in first} == before
    for student, found in scores(course).items():
        assert found == {result.question: result.score for result in stored(course, student).questions}
    assert json.loads(before["amara"][f"{NAME}.ipynb"])["nbformat"] == 4
