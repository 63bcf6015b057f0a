"""The first thing that the page's worker calls: it makes the session and gives back what runs a cell in it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

PROBLEM_SETS = Path(__file__).parents[2] / "problem_sets"  # packed beside bnlab, one folder for each


def start(problem_set: str, send: Callable[[str], None]) -> Callable[[str, int | None], list]:
    """Make a session.

    Parameters
    ----------
    problem_set : str
        Its ``checks.py`` is what the cells import; "" where they import none.
    send : callable
        Gets every output, as JSON.

    Returns
    -------
    callable
        Runs a cell, given its code and its number or None: [whether it ran to its end, its number].
    """
    import numpy  # noqa: F401  it takes a second, which belongs to the start and not to the first cell

    from bnlab.in_page import figures
    from bnlab.in_page.kernel import Kernel, NoInput

    if problem_set:
        folder = PROBLEM_SETS / problem_set
        if not folder.is_dir():
            known = ", ".join(sorted(path.name for path in PROBLEM_SETS.iterdir()))
            raise ValueError(f"no problem set {problem_set!r} runs in a page; these do: {known}")
        sys.path.insert(0, str(folder))
        os.chdir(folder)
    sys.stdin = NoInput()
    kernel = Kernel(lambda output: send(json.dumps(output)))
    kernel.after_cell = figures.install(kernel.display).after_cell

    def run(code: str, number: int | None = None) -> list:
        if number is not None:
            kernel.count = int(number) - 1
        ok = kernel.run(code)
        return [ok, kernel.count]

    return run
