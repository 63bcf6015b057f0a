"""The gradebook on PostgreSQL: a server of its own for these tests, and the same grades as in a SQLite file."""

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import NAME, absent, hand_in, make_course
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from typer.testing import CliRunner

from bnlab.cli import app
from bnlab.grading.course import CourseError, assignments_in, load_course, run_nbgrader

# nbgrader's own add_submission makes SQLAlchemy warn.
pytestmark = [pytest.mark.nbgrader, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]

USER, PASSWORD = "course", "a p@ss/word%"
IN_URL = "a%20p%40ss%2Fword%25"


def programs():
    """The directory of PostgreSQL's server programs. Debian keeps each version in one of its own, not on PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    found = [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]
    if not found:
        absent("no PostgreSQL server: install your system's package `postgresql`")
    return found[0]


def as_somebody():
    """How to become somebody who may run a server: it refuses root."""
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        absent("root can't become the user postgres: install your system's package `util-linux`")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL server on loopback, in a temporary directory; makes an empty database, and gives its address."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: make test installs it")
    place, somebody = programs(), as_somebody()
    room = Path(tempfile.mkdtemp(prefix="bnlab-postgresql-"))
    if somebody:
        shutil.chown(room, "postgres")
    (room / "password").write_text(f"{PASSWORD}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command):
        done = subprocess.run([*somebody, *map(str, command)], cwd=room, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    initdb = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={room}/password", "--encoding=UTF8"]
    run(place / "initdb", "-D", room / "data", *initdb, "--no-sync", "--locale=C.UTF-8")
    command = [place / "postgres", "-D", room / "data", "-p", port, "-k", room, "-h", "127.0.0.1", "-F"]
    with (room / "log").open("w") as log:
        process = subprocess.Popen([*somebody, *map(str, command)], cwd=room, stdout=log, stderr=log)
    try:
        import psycopg

        def connect():
            return psycopg.connect(
                host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
            )

        for _ in range(300):
            with contextlib.suppress(psycopg.OperationalError):
                connect().close()
                break
            assert process.poll() is None, (room / "log").read_text()
            time.sleep(0.2)

        def database(name):
            with connect() as connection:
                connection.execute(f'CREATE DATABASE "{name}"')
            return f"postgresql+psycopg://{USER}:{IN_URL}@127.0.0.1:{port}/{name}"

        yield database
    finally:
        process.send_signal(signal.SIGINT)  # it ends without waiting for its clients
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(room, ignore_errors=True)


@pytest.fixture(scope="module")
def address(server):
    return server("gradebook")


@pytest.fixture(scope="module")
def courses(address, answered, tmp_path_factory):
    """The same class graded twice: with its gradebook in a SQLite file, and on PostgreSQL. Their directories."""
    room = tmp_path_factory.mktemp("gradebooks")
    made = make_course(room / "sqlite")
    (made / "grading_seed").write_text("20150211\n")
    hand_in(made, "amara", answered(scale=None)).with_name("timestamp.txt").write_text("2026-10-05 18:30:00")
    hand_in(made, "zoe", answered(center="def center(x):\n    return x"))
    hand_in(made, "killer", answered(center="import os\nos._exit(1)"))
    hand_in(made, "pdf", "%PDF-1.7 \0")
    (made / "roster.csv").write_text(
        "id,first_name,last_name,email\namara,Amara,Okafor,a@example.org\nbao,Bao,Nguyễn,b@example.org\n",
        encoding="utf-8",
    )
    with (made / "nbgrader_config.py").open("a") as config:
        config.write("\nc.AssignLatePenalties.plugin_class = 'bnlab.grading.late.LatePolicy'\n")
        config.write("c.LatePolicy.percent_per_day = 10\n")
    found = {"sqlite": made, "postgresql": shutil.copytree(made, room / "postgresql")}
    with pytest.MonkeyPatch.context() as patch:
        for kind, course in found.items():
            patch.delenv("BNLAB_DB_URL", raising=False)
            if kind == "postgresql":
                patch.setenv("BNLAB_DB_URL", address)
            assert_runs(course, "generate_assignment", NAME)
            assert_runs(course, "db", "student", "import", "roster.csv")
            set_dates(course)
            assert_runs(course, "autograde", NAME, status=1)  # two can't be graded
            assert_runs(course, "export")
    assert not (found["postgresql"] / "gradebook.db").exists()
    return found


def assert_runs(course, *command, status=0):
    ended, log = run_nbgrader(course, *command)
    assert ended == status, log
    return log


def set_dates(course):
    """A due date, and an hour more for one student."""
    with gradebook_of(course) as gradebook:
        gradebook.find_assignment(NAME).duedate = datetime(2026, 10, 5, 16, 0)
        gradebook.update_or_create_submission(NAME, "amara").extension = timedelta(hours=1)
        gradebook.db.commit()


def gradebook_of(course):
    coursedir = load_course(course)
    return Gradebook(coursedir.db_url, coursedir.course_id)


def rows(path):
    """A table's rows in an order of our own: databases sort names differently."""
    with path.open(encoding="utf-8", newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: (row["student_id"], row.get("question", "")))


@pytest.fixture
def on_postgresql(courses, address, monkeypatch):
    monkeypatch.setenv("BNLAB_DB_URL", address)
    return courses["postgresql"]


def test_the_same_scores(courses):
    for name in ("grades.csv", "grades_by_question.csv"):
        assert rows(courses["sqlite"] / name) == rows(courses["postgresql"] / name)
    found = {row["student_id"]: row for row in rows(courses["postgresql"] / "grades.csv")}
    assert {student: (row["status"], row["score"]) for student, row in found.items()} == {
        "amara": ("graded", "54"),
        "bao": ("missing", ""),
        "killer": ("could not grade", ""),
        "pdf": ("could not grade", ""),
        "zoe": ("graded", "70"),
    }
    assert (found["amara"]["late_penalty"], found["bao"]["last_name"]) == ("6", "Nguyễn")
    for student in ("amara", "zoe", "killer", "pdf"):
        records = [course / "autograded" / student / NAME / "record.json" for course in courses.values()]
        assert records[0].read_bytes() == records[1].read_bytes()


def test_what_formgrader_asks_has_the_same_answers(courses, address, monkeypatch):
    def answers(course):
        api = NbGraderAPI(load_course(course))
        asked = [
            api.get_assignments(),
            api.get_submissions(NAME),
            api.get_notebooks(NAME),
            api.get_notebook_submissions(NAME, NAME),
            api.get_students(),
            api.get_student_submissions("amara"),
            api.get_student_notebook_submissions("amara", NAME),
        ]
        # Ids are drawn, and submissions are numbered in their order.
        drawn = {"id", "index", "source_path"}
        plain = [[{name: x for name, x in one.items() if name not in drawn} for one in answer] for answer in asked]
        return [sorted(answer, key=repr) for answer in plain]

    on_sqlite = answers(courses["sqlite"])
    monkeypatch.setenv("BNLAB_DB_URL", address)
    assert answers(courses["postgresql"]) == on_sqlite
    assert [len(answer) for answer in on_sqlite] == [1, 4, 1, 3, 5, 1, 1]


def test_grading_the_class_at_once_gives_the_same(on_postgresql, courses):
    before = rows(courses["postgresql"] / "grades_by_question.csv")
    with gradebook_of(on_postgresql) as gradebook:
        gradebook.find_grade("mean_of", NAME, NAME, "zoe").auto_score = 1
        gradebook.find_grade("scale", NAME, NAME, "amara").manual_score = 12
        gradebook.db.commit()
    done = CliRunner().invoke(app, ["grade", NAME, "--course", str(on_postgresql), "--jobs", "1", "--regrade"])
    assert done.exit_code == 1, done.output  # two can't be graded
    with gradebook_of(on_postgresql) as gradebook:
        assert gradebook.find_grade("scale", NAME, NAME, "amara").manual_score == 12
        gradebook.find_grade("scale", NAME, NAME, "amara").manual_score = None
        gradebook.db.commit()
    assert_runs(on_postgresql, "export")
    assert rows(on_postgresql / "grades_by_question.csv") == before


def test_feedback(on_postgresql):
    assert_runs(on_postgresql, "generate_feedback", NAME)
    page = on_postgresql / "feedback" / "amara" / NAME / f"{NAME}.html"
    assert "Amara Okafor" in page.read_text(encoding="utf-8")


def test_nbgraders_migrations_run_with_the_password_elsewhere(server, tmp_path, monkeypatch):
    """In the address it may stand in nbgrader's log, and a percent sign in it stops the migrations."""
    address = server("another")
    course = make_course(tmp_path / "course")
    monkeypatch.setenv("BNLAB_DB_URL", address.replace(f":{IN_URL}", ""))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert_runs(course, "generate_assignment", NAME)
    assert_runs(course, "db", "upgrade")
    with gradebook_of(course) as gradebook:
        assert [assignment.name for assignment in gradebook.assignments] == [NAME]


def test_a_wrong_password_is_not_shown(address):
    with pytest.raises(CourseError, match=r"the gradebook cannot be read .*password authentication failed") as error:
        assignments_in(address.replace(IN_URL, "guessed"))
    assert "guessed" not in str(error.value)
