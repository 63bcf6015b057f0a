"""A class with troubled submissions through the real nbgrader: every one gets what it deserves, none harms another."""

import copy
import csv
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import nbformat
import pytest
from conftest import NAME, RIGHT, cell, hand_in
from nbgrader.api import Gradebook

from bnlab.grading.course import run_nbgrader
from bnlab.grading.grade import Grader
from bnlab.grading.material import Material
from bnlab.grading.record import COULD_NOT_GRADE, Record
from bnlab.grading.sandbox import Sandbox, SandboxUnavailable

# nbgrader's own add_submission makes SQLAlchemy warn.
pytestmark = [pytest.mark.nbgrader, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]

LOOKS_FOR_SECRETS = """\
import os
names = sorted(name for name in os.environ if "BNLAB" in name)
print("found", names, os.path.exists("grading_seed"), os.listdir("."))

""" + RIGHT["mean_of"]
NOISY = """\
import logging, os, sys, warnings
logging.basicConfig()

def mean_of(x):
    warnings.warn("careful")
    logging.warning("careful")
    print("careful", file=sys.stderr)
    os.write(2, b"careful")
    return x.mean(axis=0)
"""


def neighbors(answered):
    return {
        "amara": answered(mean_of=LOOKS_FOR_SECRETS),
        "zoe": answered(center="def center(x):\n    return x", scale=None),
    }


def copied(answered):
    notebook = answered()
    for name in ("center-solution", "scale"):
        notebook.cells.append(copy.deepcopy(cell(notebook, name)))
    return notebook


def unmarked(answered):
    notebook = answered()
    for one in notebook.cells:
        one.metadata = {}
    return notebook


def damaged(answered):
    """What makes nbgrader stop the whole batch: metadata that is empty, too old or too new."""
    notebook = answered()
    cell(notebook, "mean_of-solution").metadata["nbgrader"] = {}
    cell(notebook, "center-solution").metadata.nbgrader["schema_version"] = 1
    cell(notebook, "scale-solution").metadata.nbgrader["schema_version"] = 99
    cell(notebook, "scale").metadata["nbgrader"] = [7]
    cell(notebook, "center").metadata.nbgrader["points"] = 1000
    return notebook


def skipping(answered):
    """Deletes a test, retypes an answer, and tags a test so that it isn't run (nbgrader: full marks)."""
    notebook = answered(scale="def scale(x):\n    return x")
    cell(notebook, "scale").metadata["tags"] = ["skip-execution"]
    notebook.cells.remove(cell(notebook, "mean_of"))
    answer = cell(notebook, "mean_of-solution")
    notebook.cells[notebook.cells.index(answer)] = nbformat.v4.new_raw_cell(answer.source, metadata=answer.metadata)
    return notebook


def deleted(answered):
    notebook = answered()
    notebook.cells.remove(cell(notebook, "center-solution"))
    return notebook


def too_good(answered):
    """Pays itself 1000 points: nobody asks what `check` is in a student's process."""
    return answered(scale="check = lambda *anything: 1000\n" + RIGHT["scale"])


# bnlab.reference needs nothing but NumPy, so this works wherever the tests do.
BORROWS = """\
from bnlab.reference import batch_norm_forward

def scale(x):
    x_centered = x - x.mean(axis=0)
    y, cache = batch_norm_forward(x_centered, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps=1e-300)
    return y + x.mean(axis=0) / x.std(axis=0)
"""
ENDLESS = "def center(x):\n    while True:\n        pass"
GREEDY = "def center(x):\n    return np.ones((2**20, 2**20))"
GRADED = {
    "copied": 100,
    "unmarked": 100,
    "damaged": 100,
    "skipping": 60,
    "noisy": 100,
    "borrower": 100,
    "too_good": 100,
}
# Student: status and message of all questions.
NOT_READ = {
    "pdf": ("unreadable", "is a PDF"),
    "cut_off": ("unreadable", "breaks off at line"),
    "holidays": ("unreadable", "none of this problem set's cells"),
    "misnamed": ("unreadable", "ps1_tiny.ipynb is not among the files handed in (solution.ipynb)"),
}
# Student: status and message of the question `center` alone. The other two are right.
STOPPED = {
    "killer": ("crashed", "the cell with the answer was stopped"),
    "killer_in_a_call": ("crashed", "ended with exit code 1"),
    "endless": ("timeout", "a call did not end within"),
    "deleted": ("missing", "center is not defined, and its answer cell is gone"),
    "greedy": ("memory", "it wanted more memory than there is for it"),
}


def record_of(course, student):
    path = course / "autograded" / student / NAME / "record.json"
    return Record.from_json(path.read_text(encoding="utf-8"))


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def alone(released, answered, tmp_path_factory):
    """The neighbors' rows where nobody else hands in."""
    course = shutil.copytree(released, tmp_path_factory.mktemp("alone") / "course")
    for student, notebook in neighbors(answered).items():
        hand_in(course, student, notebook)
    assert run_nbgrader(course, "autograde", NAME)[0] == 0
    assert run_nbgrader(course, "export")[0] == 0
    return read(course / "grades.csv")


@pytest.fixture(scope="module")
def whole(released, answered, tmp_path_factory):
    """The course directory, the log and the rows where the whole class hands in."""
    course = shutil.copytree(released, tmp_path_factory.mktemp("whole") / "course")
    text = json.dumps(answered())
    files = neighbors(answered) | {
        "copied": copied(answered),
        "unmarked": unmarked(answered),
        "damaged": damaged(answered),
        "skipping": skipping(answered),
        "deleted": deleted(answered),
        "noisy": answered(mean_of=NOISY),
        "borrower": answered(scale=BORROWS),
        "pdf": "%PDF-1.7",
        "cut_off": text[: len(text) // 2],
        "holidays": nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('sun')")]),
        "killer": answered(center="import os\nos._exit(1)"),
        "killer_in_a_call": answered(center="import os\ndef center(x):\n    os._exit(1)"),
        "endless": answered(center=ENDLESS),
        "greedy": answered(center=GREEDY),
        "too_good": too_good(answered),
        "misnamed": answered(),
    }
    for student, content in files.items():
        path = hand_in(course, student, content)
        if student == "misnamed":
            path.rename(path.with_name("solution.ipynb"))
    status, log = run_nbgrader(course, "autograde", NAME)
    assert status == 1, log
    assert run_nbgrader(course, "generate_feedback", NAME)[0] == 0
    assert run_nbgrader(course, "export")[0] == 0
    return course, log, read(course / "grades.csv")


def test_neighbors_are_graded_as_if_they_were_alone(alone, whole):
    _, _, rows = whole
    assert alone == {student: rows[student] for student in alone}
    assert [(row["status"], row["score"]) for row in alone.values()] == [("graded", "100"), ("graded", "30")]


def test_mangled_submissions_are_graded(whole):
    _, _, rows = whole
    assert {name: (rows[name]["status"], float(rows[name]["score"])) for name in GRADED} == {
        name: ("graded", score) for name, score in GRADED.items()
    }


def test_a_file_that_cannot_be_read_has_a_reason_and_no_score(whole):
    course, log, rows = whole
    for student, (status, reason) in NOT_READ.items():
        assert (rows[student]["status"], rows[student]["score"]) == ("could not grade", ""), student
        assert reason in rows[student]["remark"], rows[student]["remark"]
        assert f"{NAME} of {student}: center could not be graded, {status}: " in log
        assert {result.status for result in record_of(course, student).questions} == {status}
        assert not (course / "autograded" / student / NAME / f"{NAME}.ipynb").exists()
    assert len(rows) == len(GRADED) + len(NOT_READ) + len(STOPPED) + 2


@pytest.mark.parametrize("student", STOPPED)
def test_what_stops_one_question_costs_that_one_alone(whole, student):
    course, log, rows = whole
    status, reason = STOPPED[student]
    results = {result.question: result for result in record_of(course, student).questions}
    assert (results["center"].status, results["center"].score) == (status, None)
    assert reason in results["center"].message, results["center"].message
    assert [(results[name].status, results[name].score) for name in ("mean_of", "scale")] == [
        ("graded", 30),
        ("graded", 40),
    ]
    assert (rows[student]["status"], rows[student]["score"]) == ("could not grade", "")
    assert rows[student]["remark"].startswith(f"{status}: ") and reason in rows[student]["remark"]
    assert f"{NAME} of {student}: center could not be graded, {status}: " in log
    with (course / "grades_by_question.csv").open(encoding="utf-8", newline="") as file:
        scores = {row["question"]: row["score"] for row in csv.DictReader(file) if row["student_id"] == student}
    assert scores == {"mean_of": "30", "center": "", "scale": "40"}


def test_the_gradebook_asks_for_a_person_where_there_is_no_score(whole):
    course, _, _ = whole
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        grade = gradebook.find_grade("center", NAME, NAME, "endless")
        assert (grade.auto_score, grade.needs_manual_grade) == (None, True)
        comment = gradebook.find_comment("center-solution", NAME, NAME, "endless").auto_comment
        assert comment.startswith(f"{COULD_NOT_GRADE}timeout: ")
        grade = gradebook.find_grade("mean_of", NAME, NAME, "endless")
        assert (grade.auto_score, grade.needs_manual_grade) == (30, False)
        # nbgrader's own words for an answer that was left as it was handed out
        assert gradebook.find_comment("scale-solution", NAME, NAME, "zoe").auto_comment == "No response."


def test_the_record_is_that_of_the_grader(whole, answered):
    """Byte for byte what `bnlab grade` writes, whoever was graded before."""
    course, _, _ = whole
    with Grader(Material.of_course(course, NAME), Sandbox()) as grader:
        for student in ("zoe", "copied", "killer", "cut_off"):
            data = (course / "submitted" / student / NAME / f"{NAME}.ipynb").read_bytes()
            record = (course / "autograded" / student / NAME / "record.json").read_text(encoding="utf-8")
            assert grader.grade(data, student).record.to_json() == record


def test_findings_reach_instructor_and_student(whole):
    course, log, rows = whole
    finding = "Test cell missing (mean_of): put back."
    assert f"{NAME} of skipping: {finding}" in log
    assert finding in rows["skipping"]["remark"]
    graded = nbformat.read(course / "autograded" / "skipping" / NAME / f"{NAME}.ipynb", as_version=4)
    assert finding in graded.metadata.bnlab.findings
    feedback = (course / "feedback" / "skipping" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "About the file that you handed in" in feedback and finding in feedback
    assert "About the file" not in (course / "feedback" / "amara" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert rows["amara"]["remark"] == ""


def test_a_borrowed_answer_keeps_its_points_and_both_are_told(whole):
    course, _, rows = whole
    assert rows["borrower"]["remark"] == "scale calls bnlab.reference, which already is the answer."
    feedback = (course / "feedback" / "borrower" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "Your code calls bnlab.reference, which already is the answer." in feedback


def test_grading_has_its_own_seed_that_students_cannot_find(whole):
    course, _, _ = whole
    material = Material.of_course(course, NAME)
    assert (str(material.seed), material.cases) == ((course / "grading_seed").read_text().strip(), 5)
    assert all(result.material == material.fingerprint for result in record_of(course, "amara").questions)
    graded = nbformat.read(course / "autograded" / "amara" / NAME / f"{NAME}.ipynb", as_version=4)
    assert cell(graded, "mean_of-solution").outputs[0].text == "found [] False ['checks.py']\n"


def test_a_better_file_is_graded_and_a_worse_one_takes_the_score_back(released, answered, tmp_path):
    course = shutil.copytree(released, tmp_path / "course")
    path = hand_in(course, "pdf", "%PDF-1.7")

    def graded(force=True):
        run_nbgrader(course, "autograde", NAME, *(["--force"] if force else []))
        assert run_nbgrader(course, "export")[0] == 0
        row = read(course / "grades.csv")["pdf"]
        return row["status"], row["score"], row["remark"]

    assert graded()[:2] == ("could not grade", "")
    path.write_text(json.dumps(answered()))
    # What could not be read is read again, also without --force.
    assert graded(force=False) == ("graded", "100", "")
    path.write_text("")
    status, score, remark = graded()
    assert (status, score) == ("could not grade", "") and "is empty" in remark


@pytest.fixture
def small(released, answered, tmp_path):
    """A course directory where one student hands in."""
    course = shutil.copytree(released, tmp_path / "course")
    hand_in(course, "amara", answered(scale=None))
    return course


def configure(course, *lines):
    with (course / "nbgrader_config.py").open("a", encoding="utf-8") as file:
        file.write("\n".join(["", *lines, ""]))


def test_points_by_hand_stay(small):
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        gradebook.find_grade("scale", NAME, NAME, "amara").manual_score = 25
        gradebook.find_comment("scale-solution", NAME, NAME, "amara").manual_comment = "We spoke about it."
        gradebook.db.commit()
    assert run_nbgrader(small, "autograde", NAME, "--force")[0] == 0
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        grade = gradebook.find_grade("scale", NAME, NAME, "amara")
        assert (grade.auto_score, grade.manual_score, grade.needs_manual_grade) == (0, 25, True)
        comment = gradebook.find_comment("scale-solution", NAME, NAME, "amara")
        assert (comment.auto_comment, comment.manual_comment) == ("No response.", "We spoke about it.")
        assert gradebook.find_submission(NAME, "amara").score == 85


def test_late_penalties_are_those_of_the_configured_plugin(small):
    configure(
        small,
        "from nbgrader.plugins import LateSubmissionPlugin",
        "class Tenth(LateSubmissionPlugin):",
        "    def late_submission_penalty(self, student_id, score, total_seconds_late):",
        "        return score / 10 * (total_seconds_late // 3600)",
        "c.AssignLatePenalties.plugin_class = Tenth",
    )
    (small / "submitted" / "amara" / NAME / "timestamp.txt").write_text("2026-10-05 18:30:00")
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        gradebook.find_assignment(NAME).duedate = datetime(2026, 10, 5, 16, 0)
        gradebook.db.commit()
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        submission = gradebook.find_submission(NAME, "amara")
        assert (submission.score, submission.late_submission_penalty) == (60, 12)
    assert (small / "autograded" / "amara" / NAME / "timestamp.txt").read_text() == "2026-10-05 18:30:00"


def test_a_newer_file_is_graded_again_and_an_older_one_is_not(small, answered):
    folder = small / "submitted" / "amara" / NAME
    (folder / "timestamp.txt").write_text("2026-10-05 18:30:00")
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    (folder / f"{NAME}.ipynb").write_text(json.dumps(answered()))
    assert "Skipping existing assignment" in run_nbgrader(small, "autograde", NAME)[1]
    assert record_of(small, "amara").score == 60
    (folder / "timestamp.txt").write_text("2026-10-05 19:30:00")
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    assert record_of(small, "amara").score == 100


def test_an_unknown_student_is_refused_where_students_are_not_created(small):
    status, log = run_nbgrader(small, "autograde", NAME, "--Autograde.create_student=False")
    assert status == 1 and "the gradebook has no student 'amara': add them first" in log
    assert not (small / "autograded" / "amara").exists()


def test_without_a_sandbox_nothing_is_graded(small, monkeypatch):
    monkeypatch.setattr("bnlab.grading.sandbox.shutil.which", lambda name: None)
    monkeypatch.setattr("bnlab.grading.sandbox._bubblewrap", lambda: ["no-such-program"])
    status, log = run_nbgrader(small, "autograde", NAME)
    assert status == 1 and "submissions can't be kept apart here" in log and "apt-get install bubblewrap" in log
    assert "Traceback" not in log
    assert not (small / "autograded" / "amara").exists()


@pytest.mark.parametrize(
    ("kind", "remark"),
    [
        ("none", "Graded without a sandbox."),
        ("container", "Graded in a container, without a sandbox of its own."),
    ],
)
def test_without_a_sandbox_every_result_says_so(small, kind, remark):
    configure(small, f"c.TrustedGrading.sandbox = {kind!r}")
    try:
        Sandbox(kind).probe()
    except SandboxUnavailable as error:
        status, log = run_nbgrader(small, "autograde", NAME)
        assert status == 1 and str(error) in log
        pytest.skip(f"no sandbox of this kind here: {error}")
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    assert run_nbgrader(small, "export")[0] == 0
    row = read(small / "grades.csv")["amara"]
    assert (row["status"], row["score"], row["remark"]) == ("graded", "60", remark)
    assert record_of(small, "amara").sandbox == kind


def test_a_sandbox_that_is_lost_on_the_way_costs_nobody_anything(small, answered, monkeypatch):
    hand_in(small, "zoe", answered())
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    whole = Grader.grade

    def lose(self, data, student, questions=None):
        if student == "zoe":
            raise SandboxUnavailable("no process could be started")
        return whole(self, data, student, questions)

    monkeypatch.setattr(Grader, "grade", lose)
    (small / "submitted" / "amara" / NAME / f"{NAME}.ipynb").write_text(json.dumps(answered()))
    status, log = run_nbgrader(small, "autograde", NAME, "--force")
    assert status == 1 and "Stopped, and what is graded stays: no process could be started" in log
    assert record_of(small, "amara").score == 100
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        assert gradebook.find_submission(NAME, "zoe").score == 100


def test_a_grader_that_fails_takes_the_score_back_and_goes_on(small, answered, monkeypatch):
    hand_in(small, "zoe", answered())
    assert run_nbgrader(small, "autograde", NAME)[0] == 0
    whole = Grader.grade

    def fail(self, data, student, questions=None):
        if student == "amara" and data is not None:
            raise RuntimeError("a mistake of ours")
        return whole(self, data, student, questions)

    monkeypatch.setattr(Grader, "grade", fail)
    status, log = run_nbgrader(small, "autograde", NAME, "--force")
    assert status == 1 and "mean_of could not be graded, crashed: the grader failed" in log
    with Gradebook(f"sqlite:///{small}/gradebook.db") as gradebook:
        assert gradebook.find_grade("mean_of", NAME, NAME, "amara").auto_score is None
        assert gradebook.find_submission(NAME, "zoe").score == 100


@pytest.mark.parametrize(
    ("limits", "said"), [("{'seconds': 3}", "has 'seconds': 3, expected"), ("{'memory': -1}", "has 'memory': -1")]
)
def test_mistyped_limits_are_named(small, limits, said):
    configure(small, f"c.TrustedGrading.limits = {limits}")
    status, log = run_nbgrader(small, "autograde", NAME)
    assert status == 1 and f"TrustedGrading.limits {said}" in log
    assert not (small / "autograded").exists()


def test_limits_hold(small, answered):
    configure(small, "c.TrustedGrading.limits = {'cell_seconds': 2}")
    sleepy = answered(center="import time\ntime.sleep(600)\n" + RIGHT["center"])
    (small / "submitted" / "amara" / NAME / f"{NAME}.ipynb").write_text(json.dumps(sleepy))
    assert run_nbgrader(small, "autograde", NAME)[0] == 1
    statuses = [result.status for result in record_of(small, "amara").questions]
    assert statuses == ["graded", "timeout", "graded"]


def test_grading_off_the_main_thread(small):
    """As inside a server; timers by signals work on the main thread alone."""
    with ThreadPoolExecutor(1) as pool:
        status, log = pool.submit(run_nbgrader, small, "autograde", NAME).result()
    assert status == 0, log
    assert record_of(small, "amara").score == 60


def test_grading_without_running_is_refused(released, answered, tmp_path):
    course = shutil.copytree(released, tmp_path / "course")
    hand_in(course, "amara", answered())
    status, log = run_nbgrader(course, "autograde", NAME, "--no-execute")
    assert status == 1 and "tests that never ran: leave it out" in log
    assert not (course / "autograded").exists()


def test_zip_from_a_learning_platform(released, answered, tmp_path):
    """Names with and without a time, a second attempt, a copy that the browser renamed: `zip_collect` takes them in."""
    course = shutil.copytree(released, tmp_path / "course")
    archive = course / "downloaded" / NAME / "archive"
    archive.mkdir(parents=True)
    last = answered(center="def center(x):\n    return x")
    with zipfile.ZipFile(archive / "all.zip", "w") as packed:
        packed.writestr(f"amara_20261005T183000_{NAME}.ipynb", json.dumps(last))
        packed.writestr(f"amara_20261005T181500_{NAME}.ipynb", json.dumps(answered()))
        packed.writestr(f"bo.lee_{NAME} (1).ipynb", json.dumps(answered()))
        packed.writestr("amara_essay.pdf", "%PDF")
        packed.writestr(f'"><img src=x onerror=alert(1)>_{NAME}.ipynb', json.dumps(answered()))
    status, log = run_nbgrader(course, "zip_collect", NAME)
    assert status == 0, log
    found = {path.parent.parent.name: json.loads(path.read_text()) for path in course.glob("submitted/*/*/*.ipynb")}
    assert found == {"amara": last, "bo.lee": answered()}
    assert (course / "submitted" / "amara" / NAME / "timestamp.txt").read_text() == "2026-10-05 18:30:00"
