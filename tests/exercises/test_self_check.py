"""A student's own run: what it says of right, wrong, broken and mangled notebooks, and the command's exit codes."""

import shutil

import nbformat
import pytest
from typer.testing import CliRunner

pytest.importorskip("jupytext", reason="jupytext is not installed: make test installs it")

from bnlab.checks.report import JSON_MIME
from bnlab.cli import app
from bnlab.exercises.self_check import self_check
from bnlab.exercises.source import find_sources
from bnlab.exercises.verify import stub


@pytest.fixture
def handed_out(course, tmp_path):
    """A student's directory with the solved notebook and the checks; tests change the notebook."""
    source = find_sources(course)[0]
    directory = tmp_path / "student"
    directory.mkdir()
    shutil.copy(source.checks, directory)
    nbformat.write(source.notebook, directory / "ps0_small.ipynb")
    return directory / "ps0_small.ipynb"


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change({cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}, notebook)
    nbformat.write(notebook, path)


def statuses(path, **options):
    _, rows, findings = self_check(path, **options)
    return {row.question: (row.status, row.score) for row in rows}, rows, findings


def test_solved_notebook(handed_out):
    progress = []
    before = handed_out.read_bytes()
    found, _, findings = statuses(handed_out, progress=lambda done, total: progress.append((done, total)))
    assert found == {"mean": ("right", 40), "var": ("right", 60)} and findings == []
    assert progress == [(i, 5) for i in range(1, 6)]
    assert handed_out.read_bytes() == before


def test_unanswered_and_broken_questions_hide_nothing(handed_out, course):
    source = find_sources(course)[0]

    def change(cells, notebook):
        cells["mean-solution"].source = stub(source.notebook, "mean")
        cells["var-solution"].source = "def variance(x):\n    return x.var(axis=0)"

    edit(handed_out, change)
    found, rows, _ = statuses(handed_out)
    assert found == {"mean": ("not answered", 0), "var": ("error", 0)}
    assert "name 'var' is not defined" in rows[1].message
    assert "define a function of exactly this name" in rows[1].message


def test_mistake_is_named(handed_out):
    edit(
        handed_out,
        lambda cells, _: cells["var-solution"].update(source="def var(x):\n    return x.var(axis=0, ddof=1)"),
    )
    found, rows, _ = statuses(handed_out)
    assert found["var"] == ("wrong", 0) and "It divides by m - 1." in rows[1].message


def test_outputs_of_an_earlier_run_do_not_count(handed_out):
    edit(handed_out, lambda cells, _: cells["var-solution"].update(source="oops ="))
    first, rows, _ = statuses(handed_out)
    assert first["var"] == ("error", 0) and first["mean"] == ("right", 40)
    assert "Its answer cell fails: SyntaxError" in rows[1].message


def test_cells_after_the_kernel_died_are_not_run_and_what_they_showed_before_does_not_count(handed_out):
    def change(cells, _):
        cells["var-solution"].source = "import os\nos._exit(1)"
        report = {"question": "var", "points": 60, "score": 60, "status": "right", "parts": []}
        data = {"text/plain": "60", JSON_MIME: report}
        cells["var"].outputs = [nbformat.v4.new_output("execute_result", data=data, execution_count=7)]
        cells["var"].execution_count = 7

    edit(handed_out, change)
    found, _, findings = statuses(handed_out)
    assert found == {"mean": ("right", 40), "var": ("not run", 0)}
    assert any("The kernel died" in finding for finding in findings)


def test_endless_cell_is_stopped(handed_out):
    edit(handed_out, lambda cells, _: cells["mean-solution"].update(source="while True: pass"))
    found, _, findings = statuses(handed_out, seconds=2)
    assert any("ran longer than 2 s" in finding and "while True" in finding for finding in findings)
    assert found["mean"] == ("error", 0) and found["var"] == ("right", 60)


def test_deleted_test_cell_is_reported(handed_out):
    edit(handed_out, lambda cells, notebook: notebook.cells.remove(cells["mean"]))
    found, _, findings = statuses(handed_out)
    assert found["mean"] == ("missing", 0) and found["var"] == ("right", 60)
    assert any("mean" in finding for finding in findings)


def test_command_exit_codes(handed_out, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["check", str(handed_out)])
    assert done.exit_code == 0 and "100 of 100 points" in done.stdout
    edit(handed_out, lambda cells, _: cells["mean-solution"].update(source="def mean(x):\n    return x.mean(axis=1)"))
    done = run(app, ["check", str(handed_out)])
    assert done.exit_code == 1 and "60 of 100 points" in done.stdout and "mean of each row" in done.stdout
    for name, text in {"no.ipynb": "not json", "other.ipynb": '{"a": 1}', "empty.ipynb": ""}.items():
        (handed_out.parent / name).write_text(text)
        done = run(app, ["check", str(handed_out.parent / name)])
        assert done.exit_code == 2 and "Error:" in done.stderr and "Traceback" not in done.output
    done = run(app, ["check", str(tmp_path / "nowhere.ipynb")])
    assert done.exit_code == 2 and "nowhere.ipynb" in done.stderr
    (handed_out.parent / "checks.py").unlink()
    done = run(app, ["check", str(handed_out)])
    assert done.exit_code == 2 and "checks.py" in done.stderr
