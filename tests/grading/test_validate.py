"""`nbgrader validate`, as students run it: in their own kernel, in a folder with what was handed out, no more."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAME, RIGHT

pytestmark = pytest.mark.nbgrader

WRONG = "def center(x):\n    return x"
NOISY = "import warnings\n\n" + RIGHT["center"].replace("return", "warnings.warn('careful')\n    return")


@pytest.fixture
def validate(released, tmp_path):
    """Validate a notebook in a folder with all the files that were handed out; what the student reads."""
    folder = shutil.copytree(released / "release" / NAME, tmp_path / "homework")

    def run(notebook, *flags):
        (folder / f"{NAME}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", "validate", *flags, f"{NAME}.ipynb"],
            cwd=folder,
            env={**os.environ, "PATH": programs, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_solved_notebook_passes(validate, answered):
    assert "Success! Your notebook passes all the tests." in validate(answered())


def test_a_warning_is_no_mistake(validate, answered):
    assert "Success! Your notebook passes all the tests." in validate(answered(center=NOISY))


def test_a_mistake_is_named_with_its_report(validate, answered):
    said = validate(answered(center=WRONG))
    assert "VALIDATION FAILED ON 1 CELL(S)!" in said
    assert 'check("center", center)' in said and 'check("scale", scale)' not in said


def test_the_notebook_as_handed_out_fails_everywhere(validate, handed_out):
    assert "VALIDATION FAILED ON 3 CELL(S)!" in validate(handed_out)


def test_inverted_the_notebook_as_handed_out_is_fine(validate, handed_out):
    assert "Success! The notebook does not pass any tests." in validate(handed_out, "--invert")


def test_inverted_a_solved_notebook_is_not(validate, answered):
    assert "NOTEBOOK PASSED ON 2 CELL(S)!" in validate(answered(center=WRONG), "--invert")


def test_a_changed_test_is_named(validate, answered):
    notebook = answered()
    test = next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == "center")
    test.source = "30"
    assert "THE CONTENTS OF 1 TEST CELL(S) HAVE CHANGED!" in validate(notebook)
