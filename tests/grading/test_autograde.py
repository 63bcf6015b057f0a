"""A class with troubled submissions through the real nbgrader: every one gets what it deserves, none harms another."""

import copy
import csv
import json
import shutil
import zipfile

import nbformat
import pytest
from conftest import NAME, RIGHT, cell, hand_in

from bnlab.grading.course import run_nbgrader

# nbgrader's own add_submission makes SQLAlchemy warn.
pytestmark = [pytest.mark.nbgrader, pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")]

SHOWS_ITS_SEED = "import os\nprint('seed', os.environ['BNLAB_SEED'], os.environ['BNLAB_CASES'])\n" + RIGHT["mean_of"]
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
        "amara": answered(mean_of=SHOWS_ITS_SEED),
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
    """Deletes a test and an answer, retypes an answer, and tags a test so that it isn't run (nbgrader: full marks)."""
    notebook = answered(scale="def scale(x):\n    return x")
    cell(notebook, "scale").metadata["tags"] = ["skip-execution"]
    notebook.cells.remove(cell(notebook, "center-solution"))
    notebook.cells.remove(cell(notebook, "mean_of"))
    answer = cell(notebook, "mean_of-solution")
    notebook.cells[notebook.cells.index(answer)] = nbformat.v4.new_raw_cell(answer.source, metadata=answer.metadata)
    return notebook


def too_good(answered):
    """More points than there are: nbgrader refuses the score, so it is no 100 and no 0."""
    return answered(scale="check = lambda *anything: 1000\n" + RIGHT["scale"])


# bnlab.reference needs nothing but NumPy, so this works wherever the tests do.
BORROWS = """\
from bnlab.reference import batch_norm_forward

def scale(x):
    x_centered = x - x.mean(axis=0)
    y, cache = batch_norm_forward(x_centered, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps=1e-300)
    return y + x.mean(axis=0) / x.std(axis=0)
"""
GRADED = {"copied": 100, "unmarked": 100, "damaged": 100, "skipping": 30, "noisy": 100, "borrower": 100}
NOT_GRADED = {
    "pdf": "is a PDF",
    "cut_off": "breaks off at line",
    "holidays": "none of this problem set's cells",
    "killer": "the kernel died",
    "too_good": "partial credit cannot be greater than maximum points",
    "misnamed": "ps1_tiny.ipynb is not among the files handed in (solution.ipynb)",
}


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
        "noisy": answered(mean_of=NOISY),
        "borrower": answered(scale=BORROWS),
        "pdf": "%PDF-1.7",
        "cut_off": text[: len(text) // 2],
        "holidays": nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('sun')")]),
        "killer": answered(center="import os\nos._exit(1)"),
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


def test_what_cannot_be_graded_has_a_reason_and_no_score(whole):
    _, log, rows = whole
    for student, reason in NOT_GRADED.items():
        assert (rows[student]["status"], rows[student]["score"]) == ("could not grade", ""), student
        assert reason in rows[student]["remark"], rows[student]["remark"]
        assert f"There was an error processing assignment '{NAME}' for student '{student}'" in log
    assert len(rows) == len(GRADED) + len(NOT_GRADED) + 2


def test_findings_reach_instructor_and_student(whole):
    course, log, rows = whole
    finding = "Test cell missing (mean_of): put back."
    assert f"{NAME} of skipping: {finding}" in log
    assert finding in rows["skipping"]["remark"]
    graded = nbformat.read(course / "autograded" / "skipping" / NAME / f"{NAME}.ipynb", as_version=4)
    assert finding in graded.metadata.bnlab.findings
    feedback = (course / "feedback" / "skipping" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "About the file that you handed in." in feedback and finding in feedback
    assert "About the file" not in (course / "feedback" / "amara" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert rows["amara"]["remark"] == ""


def test_a_borrowed_answer_keeps_its_points_and_both_are_told(whole):
    course, _, rows = whole
    assert rows["borrower"]["remark"] == "scale calls bnlab.reference, which already is the answer."
    feedback = (course / "feedback" / "borrower" / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "Your code calls bnlab.reference, which already is the answer." in feedback


def test_grading_has_its_own_seed_and_more_cases(whole):
    course, _, _ = whole
    seed = (course / "grading_seed").read_text().strip()
    graded = nbformat.read(course / "autograded" / "amara" / NAME / f"{NAME}.ipynb", as_version=4)
    assert cell(graded, "mean_of-solution").outputs[0].text == f"seed {seed} 10\n"


def test_a_better_file_is_graded_and_a_worse_one_takes_the_score_back(released, answered, tmp_path):
    course = shutil.copytree(released, tmp_path / "course")
    path = hand_in(course, "pdf", "%PDF-1.7")

    def graded():
        run_nbgrader(course, "autograde", NAME, "--force")
        assert run_nbgrader(course, "export")[0] == 0
        row = read(course / "grades.csv")["pdf"]
        return row["status"], row["score"], row["remark"]

    assert graded()[:2] == ("could not grade", "")
    path.write_text(json.dumps(answered()))
    assert graded() == ("graded", "100", "")
    path.write_text("")
    status, score, remark = graded()
    assert (status, score) == ("could not grade", "") and "is empty" in remark


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
    status, log = run_nbgrader(course, "zip_collect", NAME)
    assert status == 0, log
    found = {path.parent.parent.name: json.loads(path.read_text()) for path in course.glob("submitted/*/*/*.ipynb")}
    assert found == {"amara": last, "bo.lee": answered()}
    assert (course / "submitted" / "amara" / NAME / "timestamp.txt").read_text() == "2026-10-05 18:30:00"
