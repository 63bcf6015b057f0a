"""Answers in words, which a person grades, and borrowed answers, which are flagged: through every tool."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("jupytext", reason="jupytext is not installed: make test installs it")

from bnlab.cli import app
from bnlab.exercises import solutions
from bnlab.exercises.build import build
from bnlab.exercises.release import release
from bnlab.exercises.self_check import self_check
from bnlab.exercises.source import SourceError, find_sources
from bnlab.exercises.verify import verify
from bnlab.grading.intake import inspect

MARK = {"grade_id": "why", "grade": True, "locked": False, "points": 10, "schema_version": 3, "solution": True}
BORROWED = '''\
"""Asks NumPy for the covariance."""

QUESTION = "var"
FLAGS = "numpy.cov"


def var(x):
    return np.diag(np.cov(x.T, ddof=0))
'''


@pytest.fixture
def source(course):
    """The small set with a question in words, and a function in it that would be the answer to another."""
    directory = course / "ps0_small"
    with (directory / "notebook.py").open("a") as file:
        file.write("\n# %% [markdown]\n# ## 3. Why?\n")
        file.write(f"\n# %% [markdown] nbgrader={json.dumps(MARK | {'task': False})}\n# Because m counts.\n")
    checks = (directory / "checks.py").read_text()
    checks = checks.replace('"var(x) -> var", points=60', '"var(x) -> var", points=60, borrowed=("numpy.cov",)')
    (directory / "checks.py").write_text(checks + 'problem_set.written("why", points=10)\n')
    (directory / "rubric.md").write_text("# Rubric\n\n## `why`, 10 points\n\nFive for m, five for counting.\n")
    (directory / "submissions" / "borrowed_var_cov.py").write_text(BORROWED)
    return find_sources(course)[0]


def test_points_of_checks_and_of_words_are_kept_apart(source):
    assert source.problem_set.checked_points == 100 and source.problem_set.points == 110
    assert source.notebook.cells[-1].source == "Because m counts."


@pytest.mark.parametrize(
    ("old", "new"), [('"points": 10', '"points": 9'), ('"grade_id": "why"', '"grade_id": "who"'), ("[markdown] ", "")]
)
def test_a_cell_that_does_not_fit_the_checks_is_named(source, old, new):
    path = source.directory / "notebook.py"
    head, _, tail = path.read_text().rpartition("\n# %%")
    assert old in tail
    path.write_text(f"{head}\n# %%{tail.replace(old, new)}")
    with pytest.raises(SourceError, match=r"written answer why for 10 points|no question for the graded cells who"):
        find_sources(source.directory.parent)[0].notebook  # noqa: B018


def test_a_borrowed_answer_is_proven_to_be_flagged_and_others_not_to_be(source):
    course = source.directory.parent
    found = {outcome.submission: outcome for outcome in verify(course, jobs=1)}
    assert not any(outcome.complaints for outcome in found.values())
    assert found["borrowed_var_cov"].score == 100 and found["borrowed_var_cov"].kind == "borrowed"
    path = source.directory / "submissions" / "borrowed_var_cov.py"
    path.write_text(BORROWED.replace("np.diag(np.cov(x.T, ddof=0))", "x.var(axis=0)"))
    other = source.directory / "submissions" / "right_loops.py"
    other.write_text(
        other.read_text().replace("    return np.array([sum((v", "    np.cov(x)\n    return np.array([sum((v")
    )
    found = {outcome.submission: outcome.complaints for outcome in verify(course, jobs=1)}
    assert "numpy.cov is not reported as borrowed" in found["borrowed_var_cov"][0]
    assert "numpy.cov is reported as borrowed, expected nothing" in found["right_loops"][0]


def test_the_matrix_shows_points_by_hand(source):
    done = CliRunner().invoke(app, ["exercises", "verify", "--course", str(source.directory.parent), "--jobs", "1"])
    assert done.exit_code == 0 and "1 borrowed answers" in done.stdout and "by hand" in done.stdout


@pytest.mark.nbgrader
def test_students_get_neither_model_answer_nor_rubric(source):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: make test installs it")
    course = source.directory.parent
    build(source, course)
    directory = release(source, course)
    student = nbformat.read(directory / "ps0_small.ipynb", as_version=4)
    assert student.cells[-1].source == "YOUR ANSWER HERE" and student.cells[-1].cell_type == "markdown"
    assert sorted(path.name for path in directory.iterdir()) == ["checks.py", "ps0_small.ipynb"]


def test_a_student_s_own_run_shows_both(source, tmp_path):
    shutil.copy(source.checks, tmp_path)
    notebook = source.notebook
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    cells["var-solution"].source = BORROWED
    nbformat.write(notebook, tmp_path / "ps0_small.ipynb")
    _, rows, findings = self_check(tmp_path / "ps0_small.ipynb")
    found = {row.question: row for row in rows}
    assert found["var"].status == "right" and "It calls numpy.cov: write that yourself." in found["var"].message
    assert (found["why"].status, found["why"].points, found["why"].score) == ("by hand", 10, 0) and not findings
    done = CliRunner().invoke(app, ["check", str(tmp_path / "ps0_small.ipynb")])
    assert done.exit_code == 0 and "100 of 100 points, and up to 10 more" in done.stdout

    cells["why"].source = "YOUR ANSWER HERE"
    nbformat.write(notebook, tmp_path / "ps0_small.ipynb")
    _, rows, _ = self_check(tmp_path / "ps0_small.ipynb")
    assert {row.question: row.status for row in rows}["why"] == "not answered"


def test_a_deleted_text_cell_is_reported(source):
    notebook = source.notebook
    notebook.cells.pop()
    assert any("why" in finding for finding in inspect(notebook, ["mean", "var"], ["why"]))


def test_solutions_become_pages_of_a_book_of_their_own(source, tmp_path):
    (tmp_path / "_toc.yml").write_text((Path(__file__).parents[2] / "_toc.yml").read_text())
    page = solutions.write_page(source, tmp_path)
    text = page.read_text()
    assert "SOLUTION" not in text and "x.var(axis=0)" in text and "Because m counts." in text
    assert "Five for m, five for counting." in text and (page.parent / "checks.py").is_file()
    toc = yaml.safe_load(solutions.write_toc([page], tmp_path).read_text())
    captions = [part["caption"] for part in toc["parts"]]
    assert captions.index("Solutions (instructors)") == captions.index("Problem sets") + 1
    assert {"file": "book/solutions/ps0_small/ps0_small"} in toc["parts"][captions.index("Problem sets") + 1][
        "chapters"
    ]
