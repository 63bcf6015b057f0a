"""A course directory with one small problem set, and submissions of it in every state that students hand in."""

import copy
import json
import os
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("nbgrader", reason="nbgrader is not installed: make test installs it")
pytest.importorskip("jupytext", reason="jupytext is not installed: make test installs it")

from bnlab.exercises.build import build
from bnlab.exercises.source import find_sources
from bnlab.grading.course import run_nbgrader
from bnlab.grading.intake import read_notebook

CONFIG = Path(__file__).parents[2] / "exercises" / "nbgrader_config.py"
NAME = "ps1_tiny"
ANSWER = {"grade": False, "locked": False, "schema_version": 3, "solution": True, "task": False}
TEST = {"grade": True, "locked": True, "schema_version": 3, "solution": False, "task": False}


def _marked(match: re.Match) -> str:
    kind, name, points = match.groups()
    if kind == "ANSWER":
        return f"nbgrader={json.dumps({'grade_id': f'{name}-solution'} | ANSWER)}"
    return f"nbgrader={json.dumps({'grade_id': name, 'points': int(points)} | TEST)}"


NOTEBOOK = re.sub(
    r"(ANSWER|TEST) (\w+) ?(\d*)",
    _marked,
    '''\
# %% [markdown]
# # A tiny set

# %%
import numpy as np
from checks import check

# %%
DATA = np.arange(6.0).reshape(3, 2)

# %% ANSWER mean_of
def mean_of(x):
    """Mean of each column."""
    ### BEGIN SOLUTION
    return x.mean(axis=0)
    ### END SOLUTION

# %% TEST mean_of 30
check("mean_of", mean_of)

# %%
print(DATA.shape)

# %% ANSWER center
def center(x):
    """Subtract the mean of each column."""
    ### BEGIN SOLUTION
    return x - x.mean(axis=0)
    ### END SOLUTION

# %% TEST center 30
check("center", center)

# %% ANSWER scale
def scale(x):
    """Divide by the standard deviation of each column."""
    ### BEGIN SOLUTION
    return x / x.std(axis=0)
    ### END SOLUTION

# %% TEST scale 40
check("scale", scale)
''',
)

CHECKS = """\
from bnlab.checks import ProblemSet, agree

problem_set = ProblemSet("ps1_tiny")


def declare(signature, points, right):
    question = problem_set.question(signature, points=points)

    @question.part("the values", weight=3)
    def _(student, rng):
        x = rng.normal(2, 3, size=(5, 3))
        agree(question.returns[0], student(x), right(x))

    question.keeps_its_inputs(lambda rng: (rng.normal(size=(4, 2)),))


declare("mean_of(x) -> mean", 30, lambda x: x.mean(axis=0))
declare("center(x) -> x_centered", 30, lambda x: x - x.mean(axis=0))
declare("scale(x) -> x_scaled", 40, lambda x: x / x.std(axis=0))
check = problem_set.check
"""

RIGHT = {
    "mean_of": "def mean_of(x):\n    return x.mean(axis=0)",
    "center": "def center(x):\n    return x - x.mean(axis=0)",
    "scale": "def scale(x):\n    return x / x.std(axis=0)",
}


def absent(what):
    """Skip the test because `what` is missing, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session", autouse=True)
def environment():
    """No gradebook and no seed of the instructor's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BNLAB_DB_URL", "BNLAB_SEED", "BNLAB_CASES"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def same_environment(environment):
    """Loading a course's configuration sets variables. The next test must not see them."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def make_course(directory: Path) -> Path:
    """A course directory with the tiny set's text notebook and checks, built but not released."""
    room = directory / NAME
    room.mkdir(parents=True)
    (room / "notebook.py").write_text(NOTEBOOK, encoding="utf-8")
    (room / "checks.py").write_text(CHECKS, encoding="utf-8")
    shutil.copy(CONFIG, directory)
    build(find_sources(directory)[0], directory)
    return directory


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """A course directory whose set is released and recorded in its gradebook. Copy it before you change it."""
    course = make_course(tmp_path_factory.mktemp("released"))
    status, log = run_nbgrader(course, "generate_assignment", NAME)
    assert status == 0, log
    return course


@pytest.fixture
def course(released, tmp_path):
    return shutil.copytree(released, tmp_path / "course")


@pytest.fixture(scope="session")
def handed_out(released):
    """The notebook that students get, with nbgrader's checksums. Tests get copies through `answered`."""
    return read_notebook(released / "release" / NAME / f"{NAME}.ipynb")


@pytest.fixture(scope="session")
def answered(handed_out):
    """Make a submission: all questions right, but for the given ones (None: left as handed out)."""

    def make(**changed):
        notebook = copy.deepcopy(handed_out)
        for name, answer in (RIGHT | changed).items():
            if answer is not None:
                cell(notebook, f"{name}-solution").source = answer
        return notebook

    return make


def cell(notebook, grade_id):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def hand_in(course: Path, student: str, notebook) -> Path:
    """Put a submission (a notebook, or the text of a file) where nbgrader collects it to."""
    path = course / "submitted" / student / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf-8")
    return path
