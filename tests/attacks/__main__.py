"""``python -m tests.attacks [NAME ...]``: grade the attacks whose names contain one of these, and print the table."""

import sys
import tempfile
from pathlib import Path

from rich.console import Console

from .attack import load_corpus
from .table import table
from .trial import benches


def main(words: list[str]) -> int:
    """Print the table; 1 where an attack was not held off."""
    console, trials = Console(), []
    chosen = [one for one in load_corpus() if not words or any(word in (one.name, one.theme) for word in words)]
    if not chosen:
        console.print(f"no attack is called {' or '.join(words)}")
        return 2
    with tempfile.TemporaryDirectory() as room, benches(Path(room) / "course") as ready:
        for one in sorted(chosen, key=lambda one: one.victim):
            trials.append(ready[one.victim].run(one))
            for problem in trials[-1].problems:
                console.print(f"{one.name}: {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print(table([trial.row() for trial in trials]))
    failed = sum(bool(trial.problems) for trial in trials)
    console.print(f"{len(trials)} attacks, {failed} not held off")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
