"""The commands ``bnlab class ...``: what they say, what they leave behind, and their exit codes."""

import csv
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from conftest import NAME, hand_in
from made_up_class import people, put, record, result, stuck
from nbgrader.api import Gradebook
from typer.testing import CliRunner

from bnlab.grading.class_cli import class_app
from bnlab.grading.course import load_course
from bnlab.grading.marks import read_marks

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


@pytest.fixture
def run(course, monkeypatch):
    """Run a command in the course; returns its exit code and all that it wrote."""
    monkeypatch.setattr("bnlab.grading.class_cli.console.width", 200, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, where=course):
        done = CliRunner().invoke(class_app, [*map(str, arguments), "--course", str(where)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, " ".join((done.stdout + done.stderr).split())

    return run


def test_roster(course, run, tmp_path):
    people(course, old=())
    file = tmp_path / "class.csv"
    file.write_text("id,first_name\nann,Ann\nbo,Bo\n")
    code, text = run("roster", file, "--dry-run")
    assert code == 0 and "2 students would be added" in text and "not in class.csv: old" in text
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        assert [student.id for student in gradebook.students] == ["old"]
    assert "2 students added, 0 updated, 0 unchanged" in run("roster", file)[1]
    assert "0 students added, 0 updated, 2 unchanged" in run("roster", file)[1]
    file.write_text("id,email\ncy,c@example.org\n,x\n")
    code, text = run("roster", file)
    assert code == 2 and "class.csv was not taken over: line 3: no id" in text
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        assert len(gradebook.students) == 3


def test_roster_before_the_first_release(course, run, tmp_path):
    (course / "gradebook.db").unlink()
    file = tmp_path / "class.csv"
    file.write_text("id\nann\n")
    assert run("roster", file)[0] == 0
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        assert [student.id for student in gradebook.students] == ["ann"]


def test_due_and_late(course, run):
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text() + '\nc.AssignLatePenalties.plugin_class = "bnlab.grading.late.LatePolicy"\n')
    put(course, record("ann"), timestamp=datetime(2026, 10, 5, 17))
    put(course, record("bo"), timestamp=datetime(2026, 10, 5, 15))
    assert run("late", NAME) == (0, "nobody is late")
    assert run("due", NAME, "2026-10-05T18:00+02:00")[0] == 0
    code, text = run("late", NAME)
    assert code == 0 and "ann │ 1.0 │ 10" in text and "bo" not in text
    scores = {s.person.id: s.score for s in read_marks(load_course(course), NAME).students}
    assert scores == {"ann": 90, "bo": 100}
    assert run("due", NAME, "2026-10-05T20:00+02:00", "--student", "ann")[0] == 0
    assert run("late", NAME) == (0, "nobody is late")
    for arguments, complaint in (
        ((NAME, "tomorrow"), "'tomorrow' is no time"),
        ((NAME, "2026-10-05T18:00"), "has no time zone"),
        (("ps9", "2026-10-05T18:00+02:00"), "does not know ps9"),
        ((NAME, "2026-10-05T18:00Z", "--student", "zoe"), "check the name"),
    ):
        code, text = run("due", *arguments)
        assert code == 2 and complaint in text
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        assert gradebook.find_assignment(NAME).duedate.replace(tzinfo=UTC).isoformat() == "2026-10-05T16:00:00+00:00"


def test_feedback(course, run, answered):
    put(course, record("ann"), notebook=answered())
    put(course, record("bo"), notebook=answered())
    hand_in(course, "cy", answered())
    people(course, di=())
    code, text = run("feedback", NAME)
    assert (
        code == 1
        and f"2 pages: {course}/feedback/STUDENT/" in text
        and "cy │ not graded yet │ grade it: bnlab grade" in text
    )
    assert "di" not in text.split() and "1 student handed in nothing" in text
    assert sorted(path.name for path in (course / "feedback").iterdir()) == ["ann", "bo"]
    assert run("feedback", NAME, "--student", "ann") == (0, f"1 page: {course}/feedback/STUDENT/{NAME}/{NAME}.html")
    assert run("feedback", NAME, "--student", "ann", "--anonymous")[0] == 0
    assert len(list((course / "feedback_anonymous").iterdir())) == 1
    code, text = run("feedback", NAME, "--student", "zoe")
    assert code == 2 and "knows zoe: check the id" in text


def test_report(course, run, answered):
    people(course, ann=("Ann", "Lee"))
    put(course, record("ann", result("center", "values")), notebook=answered())
    assert run("report", NAME)[0] == 0
    assert "Lee, Ann (ann)" in (course / "class" / f"report_{NAME}.html").read_text()
    put(course, record("bo", stuck("scale", "crashed", "exit code 3")), notebook=answered())
    out = course / "out.html"
    assert run("report", NAME, "--anonymous", "--to", out)[0] == 1
    assert "Ann" not in out.read_text() and "exit code 3" in out.read_text()
    code, text = run("pseudonyms")
    assert code == 0 and all(name in text for name in ("ann", "bo", "anon-"))
    code, text = run("report", NAME, "--to", course / "absent" / "out.html")
    assert code == 2 and "out.html: No such file or directory" in text


def test_upload(course, run, tmp_path):
    people(course, ann=("Ann", "Lee", "ann@example.org", "7"), zoe=())
    put(course, record("ann"))
    code, text = run("upload", NAME, "--format", "canvas")
    assert code == 0 and "wrote 1 score to" in text and "zoe │ missing" in text
    with (course / "class" / f"{NAME}_canvas.csv").open() as file:
        assert [row[-1] for row in csv.reader(file)] == [NAME, "100", "100", ""]
    put(course, record("bo", stuck("scale", "timeout", "longer than 10 s")))
    template = tmp_path / "canvas.csv"
    template.write_text(f"Student,ID,SIS Login ID,Section,{NAME} (3)\nPoints Possible,,,,100\n[x],8,who,1,\n")
    code, text = run("upload", NAME, "--format", "canvas", "--template", template, "--to", tmp_path / "out.csv")
    assert code == 1 and "wrote 0 scores" in text and "bo │ could not grade │ scale timeout" in text
    assert "not in canvas.csv: ann" in text and "there, but not in the course: [x]" in text
    code, text = run("upload", NAME, "--format", "canvas", "--template", template, "--to", template)
    assert code == 2 and "is the template itself" in text and "[x],8,who,1,\n" in template.read_text()
    assert run("upload", NAME, "--format", "moodle-worksheet")[0] == 2
    assert run("upload", NAME, "--format", "blackboard")[0] == 2


def test_export(course, run, tmp_path):
    put(course, record("ann", result("scale", "values")))
    code, text = run("export", NAME, "--to", tmp_path / "out.csv")
    assert code == 0 and "out_by_question.csv" in text
    with (tmp_path / "out_by_question.csv").open() as file:
        scores = {row["question"]: row["score"] for row in csv.DictReader(file)}
    assert scores == {"mean_of": "30", "center": "30", "scale": "10"}


def test_what_is_no_course(run, tmp_path):
    for command in (("report", NAME), ("feedback", NAME), ("export",), ("pseudonyms",), ("late", NAME)):
        code, text = run(*command, where=tmp_path)
        assert code == 2 and "has no nbgrader_config.py" in text


@pytest.mark.parametrize("command", ["roster", "due", "late", "feedback", "report", "upload", "export", "pseudonyms"])
def test_help_says_what_it_does(command):
    done = CliRunner().invoke(class_app, [command, "--help"])
    assert done.exit_code == 0 and "--course" in done.stdout


def test_without_nbgrader_the_command_line_starts_and_says_what_to_install():
    """Students have it, too, and need nothing of this."""
    program = (
        "import sys\n"
        "for name in ('nbgrader', 'sqlalchemy', 'nbconvert'): sys.modules[name] = None\n"
        "from bnlab.grading.class_cli import class_app\n"
        "class_app(['report', 'ps1_tiny'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is not installed" in done.stderr and "pip install 'bnlab[grading]'" in done.stderr
