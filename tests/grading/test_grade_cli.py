"""``bnlab grade`` as an instructor types it: what it prints, its exit codes, and Ctrl-C."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import typer
from conftest import NAME, RIGHT, hand_in
from nbgrader.api import Gradebook
from stand_in import StandIn
from typer.testing import CliRunner

from bnlab.grading import cli
from bnlab.grading.record import Record
from bnlab.grading.sandbox import ForkServer, Sandbox, SandboxUnavailable

app = typer.Typer()
app.command()(cli.grade)
RUN = "import typer; from bnlab.grading.cli import grade; typer.run(grade)"


@pytest.fixture
def bnlab_grade(course):
    """Run the command in this process: exit status and all that it prints, one space between words."""

    def run(*arguments, name=NAME):
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [name, "--course", str(course), *arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, " ".join(result.output.split())

    return run


@pytest.fixture
def stand_in(monkeypatch):
    """Grade without a sandbox, in this process."""
    from contextlib import nullcontext

    from bnlab.grading.workers import Done

    class Here:
        def __init__(self, grader):
            self.grader = grader

        def run(self, units, stop):
            for unit in units:
                yield Done(unit.student, self.grader.grade(unit.data, unit.student, unit.questions))

    monkeypatch.setattr(cli, "_engine", lambda run, *options: nullcontext(Here(StandIn(run.material))))


@pytest.fixture
def sandbox():
    try:
        Sandbox().probe()
    except SandboxUnavailable as error:
        pytest.skip(f"bubblewrap does not work here: {error}")


def test_a_class_with_the_real_grader(course, answered, sandbox, bnlab_grade):
    hand_in(course, "amara", answered())
    hand_in(course, "boris", answered(center=None))
    status, output = bnlab_grade("--jobs", "1")
    assert (status, "mean 85.0, median 85 of 100 points" in output) == (0, True), output
    assert re.search(r"ps1_tiny: 2 submissions", output)
    assert re.search(r"2 graded in [\d.]+ s \([\d.]+ per second\)", output)
    assert bnlab_grade("--resume")[0] == 0
    hand_in(course, "chloe", "<html>")
    status, output = bnlab_grade()
    assert status == 1
    assert "0 graded" not in output and "1 graded in" in output and "2 graded already" in output
    assert re.search(r"chloe │ all │ unreadable │ ps1_tiny.ipynb is a web page", output)
    assert "formgrader" in output and f"autograded/NAME/{NAME}/record.json" in output


def test_points_by_hand_settle_what_could_not_be_graded(course, answered, sandbox, bnlab_grade):
    hand_in(course, "amara", answered(center="import os\n\n\ndef center(x):\n    os._exit(1)"))
    status, output = bnlab_grade("--jobs", "1")
    assert status == 1 and re.search(r"amara │ center │ crashed", output)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("center", NAME, NAME, "amara").manual_score = 7
        gradebook.db.commit()
    status, output = bnlab_grade("--jobs", "1")
    assert status == 0 and "need an eye" not in output and "1 graded already" in output
    status, output = bnlab_grade("--jobs", "1", "--regrade")
    assert status == 0 and "need an eye" not in output


def test_no_sandbox_marks_every_record(course, answered, bnlab_grade):
    hand_in(course, "amara", answered())
    assert bnlab_grade("--no-sandbox", "--jobs", "1")[0] == 0
    path = course / "autograded" / "amara" / NAME / "record.json"
    assert Record.from_json(path.read_text()).sandbox == "none"


def test_a_sandbox_that_does_not_work_stops_before_anything_is_graded(course, answered, monkeypatch, bnlab_grade):
    def check(self):
        raise SandboxUnavailable("no user namespaces here: use --no-sandbox")

    monkeypatch.setattr(ForkServer, "check", check)
    hand_in(course, "amara", answered())
    status, output = bnlab_grade()
    assert (status, "Error: no user namespaces here" in output) == (2, True)
    assert not (course / "autograded" / "amara").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "nobody"], "there is no folder of a student 'nobody'"),
        (["--question", "men_of"], "there is no question 'men_of': did you mean mean_of?"),
        (["--scheduler", "nonsense"], "no Dask scheduler at nonsense"),
        (["--jobs", "0"], "Invalid value"),
        (["--sandbox", "cardboard"], "Invalid value"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(course, bnlab_grade, arguments, message):
    hand_in(course, "amara", "5")
    status, output = bnlab_grade(*arguments)
    assert (status, message in output) == (2, True), output


def test_a_course_that_is_not_ready(bnlab_grade):
    status, output = bnlab_grade()
    assert (status, "nobody has handed in ps1_tiny" in output) == (2, True)
    status, output = bnlab_grade(name="ps1_tny")
    assert (status, "did you mean ps1_tiny" in output) == (2, True)


def test_without_nbgrader_it_says_what_to_install(monkeypatch, bnlab_grade):
    monkeypatch.delitem(sys.modules, "bnlab.grading.class_run", raising=False)
    monkeypatch.setitem(sys.modules, "nbgrader.utils", None)
    status, output = bnlab_grade()
    assert (status, "needs nbgrader.utils: pip install 'bnlab[grading]'" in output) == (2, True), output


def test_names_and_messages_are_shown_as_they_are(course, stand_in, bnlab_grade):
    hand_in(course, "[bold]amara", "5")
    hand_in(course, "boris\nchloe", "5")
    (course / "submitted" / "[red]dmitri" / NAME).mkdir(parents=True)
    hand_in(course, "elif", "5")
    status, output = bnlab_grade()
    assert status == 1
    assert "'[bold]amara' │ all │ left out │ its folder's name has [ ]" in output
    assert r"'boris\nchloe' │ all │ left out" in output
    assert "ps1_tiny: 1 submission " in output


def test_choices_reach_the_run(course, stand_in, bnlab_grade):
    for student in ("amara", "boris", "chloe"):
        hand_in(course, student, "5")
    assert "2 submissions" in bnlab_grade("--student", "amara", "--student", "boris")[1]
    assert "1 graded in" in bnlab_grade()[1]
    output = bnlab_grade("--regrade", "--question", "scale", "--question", "center")[1]
    assert "3 graded in" in output and "graded already" not in output


def test_help_says_how_to_go_on():
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"])
    assert result.exit_code == 0
    for words in ("--scheduler", "--no-sandbox", "--resume", "Ctrl-C stops it and loses nothing", "formgrader"):
        assert words in " ".join(result.output.split())


def is_running(pid):
    """Whether a process is there, and not only its entry, for which a parent has not yet asked."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_ctrl_c_writes_what_is_done_and_leaves_no_process(course, answered, sandbox, tmp_path):
    """A real process that gets a real SIGINT while one submission hangs; then the same command again."""
    for number in range(3):
        hand_in(course, f"amara{number}", answered(mean_of=RIGHT["mean_of"] + f"\n# {number}"))
    hand_in(course, "boris", answered(mean_of="import time\ntime.sleep(25)\n" + RIGHT["mean_of"]))
    hand_in(course, "chloe", answered())
    command = [sys.executable, "-P", "-c", RUN, NAME, "--course", str(course), "--jobs", "1"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(list((course / "autograded").glob("*/*/record.json"))) < 3:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        children = descendants(process.pid)
        assert children
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        log.seek(0)
        output = " ".join(log.read().split())
    assert "Stopped. What is graded is written; the same command goes on." in output
    assert "3 graded" in output
    deadline = time.monotonic() + 20
    while any(map(is_running, children)):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
    again = subprocess.run([*command, "--student", "amara0", "--student", "chloe"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "1 graded in" in again.stdout and "1 graded already" in again.stdout


def descendants(pid):
    """Process ids of all children of a process, and of theirs."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(entry), *descendants(int(entry))]
    return found
