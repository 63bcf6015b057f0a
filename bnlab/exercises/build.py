"""Make nbgrader's source from the text notebooks: ``exercises/source/psN/``, which nbgrader turns into a release."""

import shutil
from pathlib import Path

import nbformat

from bnlab.exercises.source import Source


def build(source: Source, course: Path) -> Path:
    """Write the instructor's version of one problem set.

    Beside the notebook go the files that students get too: the checks.

    Parameters
    ----------
    source : Source
    course : Path
        The nbgrader course directory.

    Returns
    -------
    Path
        The notebook that was written.
    """
    directory = course / "source" / source.name
    directory.mkdir(parents=True, exist_ok=True)
    notebook = directory / f"{source.name}.ipynb"
    nbformat.write(source.notebook, notebook)
    shutil.copyfile(source.checks, directory / "checks.py")
    return notebook
