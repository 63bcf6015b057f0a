"""The solved problem sets as pages of the book, for instructors: ``make book SOLUTIONS=1``.

The public website never has them. They are written to folders that git ignores, and the book that holds them is built
to a place of its own.
"""

import re
import shutil
from pathlib import Path

import nbformat
import yaml

from bnlab.exercises.source import Source

PAGES = Path("book/solutions")  # ignored by git
TOC = Path("_build/toc_with_solutions.yml")
MARKERS = re.compile(r"^ *### (BEGIN|END) SOLUTION *\n?", flags=re.MULTILINE)


def write_page(source: Source, repository: Path) -> Path:
    """Write one problem set's solutions, model answers and rubric as a page of the book.

    Parameters
    ----------
    source : Source
    repository : Path
        Holds ``book/``.

    Returns
    -------
    Path
        The notebook, ``book/solutions/psN/psN.ipynb``, with the checks that it imports beside it.
    """
    directory = repository / PAGES / source.name
    directory.mkdir(parents=True, exist_ok=True)
    notebook = source.notebook.copy()
    for cell in notebook.cells:
        cell.source = MARKERS.sub("", cell.source)
    first = notebook.cells[0]
    first.source = first.source.replace("# ", "# Solutions: ", 1)
    if source.rubric.is_file():
        text = source.rubric.read_text(encoding="utf-8")
        text = re.sub(r"^(#+) ", r"#\1 ", text, flags=re.MULTILINE)  # a page has one title
        notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="rubric"))
    shutil.copyfile(source.checks, directory / "checks.py")
    page = directory / f"{source.name}.ipynb"
    nbformat.write(notebook, page)
    return page


def write_toc(pages: list[Path], repository: Path) -> Path:
    """Write the table of contents that lists the solutions after the problem sets.

    Returns
    -------
    Path
        For ``jupyter-book build --toc``.
    """
    toc = yaml.safe_load((repository / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [{"file": str(page.relative_to(repository).with_suffix(""))} for page in pages]
    position = 1 + next(n for n, part in enumerate(toc["parts"]) if part["caption"] == "Problem sets")
    toc["parts"].insert(position, {"caption": "Solutions (instructors)", "chapters": chapters})
    path = repository / TOC
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    return path
