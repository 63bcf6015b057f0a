"""The gradebook's one writer: nbgrader's numbers, all or nothing, no more work for the last student than the first."""

import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from conftest import NAME, NOTEBOOK, hand_in, make_course
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook

from bnlab.grading.course import load_course, run_nbgrader
from bnlab.grading.export import status_of
from bnlab.grading.gradebook import GradebookError, GradebookWriter
from bnlab.grading.record import (
    COULD_NOT_GRADE,
    GRADED,
    MISSING,
    STATUSES,
    TIMEOUT,
    UNREADABLE,
    QuestionResult,
    Record,
    WrittenAnswer,
)

POINTS = {"mean_of": 30.0, "center": 30.0, "scale": 40.0}
DUE = datetime(2026, 10, 5, 18, 0)
ANSWERED = {"status": "partly right"}


def record(student="amara", written=(), **results):
    """A record; results are scores or (status, message)."""
    questions = []
    for name, result in results.items():
        score, status, message = (None, *result) if isinstance(result, tuple) else (result, GRADED, "")
        report = ANSWERED if status == GRADED else None
        questions.append(QuestionResult(name, POINTS.get(name, 10.0), status, score, message, report))
    return Record(NAME, student, "digest", {}, "bubblewrap", tuple(questions), tuple(written))


@pytest.fixture
def write(course):
    """Write records with one writer each."""

    def write(*records, timestamp=None):
        with GradebookWriter(load_course(course), NAME) as writer:
            for one in records:
                writer.write(one, timestamp)

    return write


@pytest.fixture
def rows(course):
    """A submission as nbgrader's own API shows it."""

    def rows(student="amara"):
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
            submission = gradebook.find_submission(NAME, student)
            (notebook,) = submission.notebooks
            return {
                "score": submission.score,
                "penalty": submission.late_submission_penalty,
                "timestamp": submission.timestamp,
                "status": status_of(submission),
                "grades": {g.name: (g.auto_score, g.manual_score, g.needs_manual_grade) for g in notebook.grades},
                "comments": {c.name: (c.auto_comment, c.manual_comment) for c in notebook.comments},
            }

    return rows


@pytest.fixture
def by_hand(course):
    """What a person does in formgrader."""

    def grade(question, score, comment=None, student="amara"):
        with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
            grade = gradebook.find_grade(question, NAME, NAME, student)
            grade.manual_score, grade.needs_manual_grade = score, False
            answer = question if question == "why" else f"{question}-solution"
            gradebook.find_comment(answer, NAME, NAME, student).manual_comment = comment
            gradebook.db.commit()

    return grade


@pytest.fixture
def due(course):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        gradebook.find_assignment(NAME).duedate = DUE
        gradebook.db.commit()


def test_a_graded_submission(write, rows):
    handed_in = datetime(2026, 10, 5, 17, 0, 1)
    write(record(mean_of=30.0, center=7.5, scale=0.0), timestamp=handed_in)
    found = rows()
    assert found["grades"] == {
        "mean_of": (30.0, None, False),
        "center": (7.5, None, False),
        "scale": (0.0, None, False),
    }
    assert (found["score"], found["timestamp"], found["status"]) == (37.5, handed_in, ("graded", ""))
    assert set(found["comments"].values()) == {(None, None)}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.nbgrader
def test_the_rows_are_those_that_nbgrader_writes(course, answered, write, rows):
    """The same submission through ``nbgrader autograde`` and through the writer."""
    wrong = "def center(x):\n    return x"
    hand_in(course, "amara", answered(center=wrong, scale=None))
    status, log = run_nbgrader(course, "autograde", NAME)
    assert status == 0, log
    theirs = rows()
    empty = record(scale=0.0).questions[0]
    ours = record("boris", mean_of=30.0, center=theirs["grades"]["center"][0])
    write(replace(ours, questions=(*ours.questions, replace(empty, report={"status": "not answered"}))))
    assert rows("boris") == theirs


@given(
    results=st.dictionaries(
        st.sampled_from(list(POINTS)),
        st.one_of(
            st.floats(0, 30),
            st.tuples(st.sampled_from([status for status in STATUSES if status != GRADED]), st.text(max_size=30)),
        ),
        min_size=1,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_held_and_only_graded_is_a_number(course, write, rows, results):
    one = record(**results)
    write(one)
    with GradebookWriter(load_course(course), NAME) as writer:
        assert writer.find(one, None) == frozenset()
        assert writer.find(one, DUE) is None
        assert writer.find(replace(one, student="nobody"), None) is None
    grades = rows()["grades"]
    for name, result in results.items():
        if isinstance(result, tuple):
            assert grades[name] == (None, None, True)
            assert (rows()["comments"][f"{name}-solution"][0] or "").startswith(COULD_NOT_GRADE)
        else:
            assert grades[name] == (result, None, False)


def test_what_could_not_be_graded_waits_for_a_person(write, rows):
    write(record(mean_of=30.0, center=(TIMEOUT, "a call did not end within 10 s"), scale=40.0))
    found = rows()
    assert found["grades"]["center"] == (None, None, True)
    assert found["status"] == ("could not grade", "timeout: a call did not end within 10 s")
    assert found["comments"]["mean_of-solution"] == (None, None)
    write(record(mean_of=30.0, center=30.0, scale=40.0))
    assert rows()["status"] == ("graded", "")
    assert rows()["comments"]["center-solution"] == (None, None)


def test_a_partial_record_touches_only_its_questions(write, rows, by_hand):
    write(record(mean_of=10.0, center=20.0, scale=(TIMEOUT, "slow")))
    by_hand("mean_of", 12.0, "well argued")
    before = rows()
    write(record(center=30.0))
    after = rows()
    assert after["grades"] == before["grades"] | {"center": (30.0, None, False)}
    assert after["comments"] == before["comments"]


def test_grades_and_comments_by_hand_stay_and_are_flagged(write, rows, by_hand):
    write(record(mean_of=10.0, center=20.0, scale=40.0))
    by_hand("mean_of", 25.0, "nearly")
    write(record(mean_of=10.0, center=20.0, scale=40.0))
    assert rows()["grades"]["mean_of"] == (10.0, 25.0, True)
    assert rows()["comments"]["mean_of-solution"] == (None, "nearly")
    assert rows()["score"] == 85.0


def test_late_penalties_come_from_the_configured_plugin(course, write, rows, due):
    (course / "late_by_the_hour.py").write_text(
        "from nbgrader.plugins import BasePlugin\n\n"
        "class ByTheHour(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        return total_seconds_late / 3600\n"
    )
    with (course / "nbgrader_config.py").open("a") as config:
        config.write('\nc.AssignLatePenalties.plugin_class = "late_by_the_hour.ByTheHour"\n')
    write(record(mean_of=30.0, center=30.0, scale=10.0), timestamp=DUE + timedelta(hours=5))
    assert (rows()["score"], rows()["penalty"]) == (70.0, 5.0)
    write(record(mean_of=30.0, center=30.0, scale=10.0), timestamp=DUE + timedelta(hours=500))
    assert rows()["penalty"] == 70.0, "more than there is"
    write(record(mean_of=30.0, center=30.0, scale=10.0), timestamp=DUE)
    assert rows()["penalty"] == 0.0
    write(record(mean_of=30.0, center=30.0, scale=10.0))
    assert rows()["penalty"] == 0.0, "nobody knows when it was handed in"


def test_nbgraders_own_penalty_counts_points_by_hand(course, write, rows, due, by_hand):
    with (course / "nbgrader_config.py").open("a") as config:
        config.write('\nc.LateSubmissionPlugin.penalty_method = "zero"\n')
    write(record(mean_of=10.0, center=0.0, scale=0.0))
    by_hand("mean_of", 25.0)
    write(record(mean_of=10.0, center=0.0, scale=0.0), timestamp=DUE + timedelta(seconds=1))
    assert (rows()["score"], rows()["penalty"]) == (25.0, 25.0)


def test_an_extension_counts_also_where_nothing_is_due(course, write, rows):
    write(record(mean_of=10.0))
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        gradebook.grant_extension(NAME, "amara", hours=3)
    write(record(mean_of=20.0), timestamp=DUE)
    assert rows()["grades"]["mean_of"][0] == 20.0


def test_a_broken_penalty_leaves_nothing_half_written(course, write, rows, due):
    (course / "late_and_broken.py").write_text(
        "from nbgrader.plugins import BasePlugin\n\n"
        "class Broken(BasePlugin):\n"
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):\n"
        "        return 1 / (score - 10)\n"
    )
    with (course / "nbgrader_config.py").open("a") as config:
        config.write('\nc.AssignLatePenalties.plugin_class = "late_and_broken.Broken"\n')
    write(record(mean_of=30.0), timestamp=DUE)
    before = rows()
    with pytest.raises(GradebookError, match="Broken raised ZeroDivisionError"):
        write(record(mean_of=10.0), timestamp=DUE + timedelta(days=1))
    assert rows() == before
    with pytest.raises(GradebookError, match="late penalty of boris"):
        write(record("boris", mean_of=10.0), timestamp=DUE + timedelta(days=1))
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        assert [student.id for student in gradebook.students] == ["amara"]


def test_a_question_that_the_gradebook_does_not_know(write, rows):
    with pytest.raises(GradebookError, match=r"no question 'variance'.*nbgrader generate_assignment"):
        write(record(mean_of=30.0, variance=1.0))
    with pytest.raises(Exception, match="No such submission"):
        rows()


def test_a_refused_write_takes_everything_back_and_the_next_one_goes_on(course, write, rows):
    engine = sqlalchemy.create_engine(f"sqlite:///{course / 'gradebook.db'}")
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "CREATE TRIGGER refuse BEFORE INSERT ON grade WHEN NEW.auto_score = 13 "
                "BEGIN SELECT RAISE(ABORT, 'no thirteen'); END"
            )
        )
    with GradebookWriter(load_course(course), NAME) as writer:
        with pytest.raises(GradebookError, match=r"record of amara.*no thirteen"):
            writer.write(record(mean_of=30.0, center=13.0), None)
        writer.write(record("boris", mean_of=30.0), None)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "batch-normalization") as gradebook:
        assert [student.id for student in gradebook.students] == ["boris"]
        assert len(gradebook.assignment_submissions(NAME)) == 1


def test_text_that_no_database_takes(write, rows):
    write(record(mean_of=(TIMEOUT, "zero \0 half \ud800 and long " + "x" * 10_000)))
    comment, _ = rows()["comments"]["mean_of-solution"]
    assert comment.startswith("Could not grade: timeout: zero  half ? and long x")
    assert len(comment) <= 2000


def test_an_unknown_problem_set_and_a_gradebook_that_cannot_be_opened(course, monkeypatch):
    with pytest.raises(GradebookError, match="does not know ps9"):
        GradebookWriter(load_course(course), "ps9")
    monkeypatch.setenv("BNLAB_DB_URL", f"sqlite:///{course}/no/such/folder.db")
    with pytest.raises(GradebookError, match="cannot be opened"):
        GradebookWriter(load_course(course), NAME)


WRITTEN = (
    '# %% [markdown] nbgrader={"grade": true, "grade_id": "why", "locked": false, "points": 5, '
    '"schema_version": 3, "solution": true, "task": false}\n# *Your answer.*\n'
)


@pytest.fixture
def course_with_words(tmp_path, monkeypatch):
    monkeypatch.setattr("conftest.NOTEBOOK", NOTEBOOK + "\n" + WRITTEN)
    monkeypatch.setattr("conftest.CHECKS", __import__("conftest").CHECKS + '\nproblem_set.written("why", points=5)\n')
    course = make_course(tmp_path / "course")
    status, log = run_nbgrader(course, "generate_assignment", NAME)
    assert status == 0, log
    return course


@pytest.mark.nbgrader
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_answers_in_words(course_with_words):
    coursedir = load_course(course_with_words)

    def write(*records):
        with GradebookWriter(coursedir, NAME) as writer:
            for one in records:
                writer.write(one, None)
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            grade = gradebook.find_grade("why", NAME, NAME, "amara")
            comment = gradebook.find_comment("why", NAME, NAME, "amara")
            return grade.auto_score, grade.manual_score, grade.needs_manual_grade, comment.auto_comment

    def by_hand(score):
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            grade = gradebook.find_grade("why", NAME, NAME, "amara")
            grade.manual_score, grade.needs_manual_grade = score, False
            gradebook.db.commit()

    answered, empty = WrittenAnswer("why", 5, True), WrittenAnswer("why", 5, False)
    assert write(record(written=[answered], mean_of=1.0)) == (None, None, True, None)
    assert write(record(written=[empty], mean_of=1.0)) == (0.0, None, False, "No response.")
    for status in (MISSING, UNREADABLE):
        unread = record(mean_of=(status, "so"), center=(status, "so"), scale=(status, "so"))
        assert write(record(written=[empty], mean_of=1.0), unread) == (
            None,
            None,
            True,
            f"Could not grade: {status}: so",
        )
    write(record(written=[answered], mean_of=1.0))
    by_hand(4.0)
    assert write(record(mean_of=2.0)) == (None, 4.0, False, None), "a partial record does not touch it"
    assert write(record(written=[answered], mean_of=2.0)) == (None, 4.0, True, None)


def test_the_work_for_one_submission_does_not_grow(course):
    """As many queries, and no table read from end to end, with 60 submissions as with 3."""
    plans, counts = set(), []
    with GradebookWriter(load_course(course), NAME) as writer:
        engine = writer._gradebook.engine

        def count(connection, cursor, statement, parameters, context, executemany):
            counts[-1] += 1
            if statement.startswith("SELECT"):
                plan = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.update((row[-1], statement) for row in plan)

        sqlalchemy.event.listen(engine, "after_cursor_execute", count)
        for number in range(60):
            counts.append(0)
            writer.write(record(f"student{number:03}", mean_of=1.0, center=2.0, scale=(TIMEOUT, "slow")), None)
            if number in (3, 59):
                writer.write(record(f"student{number:03}", mean_of=2.0), DUE)
                assert writer.find(record(f"student{number:03}", mean_of=2.0), DUE) is not None
    assert max(counts[:3] + counts[4:59]) == min(counts[:59]) <= 12
    assert counts[3] == counts[59]
    scans = [(step, statement) for step, statement in plans if step.startswith("SCAN") and "CONSTANT ROW" not in step]
    assert not scans


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres():
    """The address of a PostgreSQL server of our own, on the loopback interface, in a temporary directory."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    room = Path(tempfile.mkdtemp(prefix="bnlab-postgres-"))
    as_user = {}
    if os.getuid() == 0:  # it refuses to run as root
        shutil.chown(room, "postgres", "postgres")
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program, *arguments):
        command = [str(programs[-1].with_name(program)), *arguments]
        with (room / "log").open("ab") as log:
            done = subprocess.run(command, cwd=room, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **as_user)
        assert done.returncode == 0, (room / "log").read_text()

    data = str(room / "data")
    run("initdb", "-D", data, "-U", "course", "-A", "trust", "-E", "UTF8", "--no-sync")
    run("pg_ctl", "-D", data, "-w", "-o", f"-h 127.0.0.1 -p {port} -k {room} -F", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "course", "gradebook")
        yield f"postgresql+psycopg://course@127.0.0.1:{port}/gradebook"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(room)


@pytest.mark.nbgrader
def test_the_same_in_postgresql(postgres, released, tmp_path, monkeypatch):
    monkeypatch.setenv("BNLAB_DB_URL", postgres)
    course = shutil.copytree(released, tmp_path / "course")
    (course / "gradebook.db").unlink()
    status, log = run_nbgrader(course, "generate_assignment", NAME, "--force")
    assert status == 0, log
    with (course / "nbgrader_config.py").open("a") as config:
        config.write('\nc.LateSubmissionPlugin.penalty_method = "zero"\n')
    coursedir = load_course(course)

    def found(student):
        with Gradebook(postgres, coursedir.course_id) as gradebook:
            submission = gradebook.find_submission(NAME, student)
            grades = {grade.name: grade.auto_score for grade in submission.notebooks[0].grades}
            return grades, submission.score, submission.late_submission_penalty, submission.timestamp

    with Gradebook(postgres, coursedir.course_id) as gradebook:
        gradebook.find_assignment(NAME).duedate = DUE
        gradebook.db.commit()
    with GradebookWriter(coursedir, NAME) as writer:
        amara = record(mean_of=0.1, center=20.0, scale=(TIMEOUT, "zero \0 half \ud800"))
        writer.write(amara, DUE)
        assert writer.find(amara, DUE) is not None and writer.find(amara, None) is None
        assert found("amara") == ({"mean_of": 0.1, "center": 20.0, "scale": None}, 20.1, 0.0, DUE)
        writer.write(record(center=30.0), DUE + timedelta(microseconds=1))
        assert found("amara")[:3] == ({"mean_of": 0.1, "center": 30.0, "scale": None}, 30.1, 30.1)
        with pytest.raises(GradebookError, match="too long"):
            writer.write(record("b" * 129, mean_of=1.0), None)
        writer.write(record("boris", mean_of=1.0), None)
        assert found("boris")[1] == 1.0
    with Gradebook(postgres, coursedir.course_id) as gradebook:
        assert [student.id for student in gradebook.students] == ["amara", "boris"]
    assert not (course / "gradebook.db").exists()
