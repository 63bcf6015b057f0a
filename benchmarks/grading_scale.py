"""Does trusted grading stay as fast and as small for a large class?

::

    python benchmarks/grading_scale.py --output book/results/grading_scale.json    # 2,000 submissions

One run of ``bnlab grade`` over many submissions of a problem set, as they were handed out (they are graded fastest, so
whatever grows with the class would show most). It reports the submissions per second in each quarter of the run, the
memory of the process that writes the gradebook, of all processes together (what they share is counted once), and what
each submission that is graded at the same time adds. For the memory of a torch set: ``--set ps4_torch_layer --solved
--submissions 40``.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
from rich.console import Console
from rich.table import Table

from bnlab.exercises.build import build
from bnlab.exercises.source import find_sources
from bnlab.experiments.conduct import provenance
from bnlab.grading.course import run_nbgrader

ROOT = Path(__file__).resolve().parents[1]
MIB = 2**20
console = Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=2000, help="(default: 2000)")
    parser.add_argument("--set", default="ps1_scaling", help="(default: ps1_scaling)")
    parser.add_argument("--solved", action="store_true", help="hand in the solution instead of the untouched notebook")
    parser.add_argument("--output", type=Path, help="write the figures there, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        course = prepare(Path(room) / "course", options.set, options.submissions, options.solved)
        samples, ends = watch(course, options.set)
    figures = summarize(samples, ends, options)
    show(figures)
    if options.output:
        command = f"python benchmarks/grading_scale.py {' '.join(sys.argv[1:])}"
        record = {"provenance": provenance(command, packages=("nbgrader", "torch")), **figures}
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        console.print(f"saved {options.output}")


def prepare(course: Path, name: str, count: int, solved: bool) -> Path:
    """A course directory in which everybody has handed in a file of their own."""
    course.mkdir()
    shutil.copy(ROOT / "exercises/nbgrader_config.py", course)
    shutil.copytree(ROOT / "exercises" / name, course / name)
    source = find_sources(course)[0]
    build(source, course)
    status, log = run_nbgrader(course, "generate_assignment", name)
    if status:
        sys.exit(log)
    kind = "source" if solved else "release"
    notebook = nbformat.read(course / kind / name / f"{name}.ipynb", as_version=4)
    if solved:
        notebook = source.notebook
    for number in range(count):
        notebook.metadata["number"] = number  # so that no two files are the same
        path = course / "submitted" / f"student-{number:05}" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    return course


def watch(course: Path, name: str) -> tuple[list[dict], list[float]]:
    """Grade the class; samples of the memory, and when each submission was done."""
    program = Path(sys.executable).parent / "bnlab"
    began = time.time()
    with tempfile.TemporaryFile() as log:
        run = subprocess.Popen([program, "grade", name, "--course", course], cwd=ROOT, stdout=log, stderr=log)
        samples = []
        while run.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                samples.append({"seconds": time.time() - began, **memory(psutil.Process(run.pid))})
            time.sleep(1)
        if run.returncode not in (0, 1):
            log.seek(0)
            sys.exit(log.read().decode())
    ends = [path.stat().st_mtime - began for path in course.glob(f"autograded/*/{name}/record.json")]
    return samples, sorted(ends)


def memory(writer: psutil.Process) -> dict:
    """MiB of the process that writes the gradebook, of everything together, and of each submission that is at work.

    A submission at work is a worker process, which asks, and copies of the fork server, which answer. What they alone
    hold is what one more at the same time would take.
    """
    family = [process for process in writer.children(recursive=True) if size(process)]
    asking = [process for process in family if "workers import nurse" in " ".join(command(process))][1:]
    answering = [process for process in family if "bnlab.grading.fork_server" in command(process)]
    answering = [process for process in answering if "bwrap" not in command(process)[0]][1:]
    at_work = sum(size(process, "uss") for process in (*asking, *answering))
    return {
        "writer": size(writer),
        "together": size(writer) + sum(map(size, family)),
        "each": at_work / max(len(asking), 1),
    }


def size(process: psutil.Process, kind: str = "pss") -> float:
    """Set size in MiB: "pss", where what several processes share is divided among them, or "uss", without it."""
    with contextlib.suppress(psutil.Error):
        return getattr(process.memory_full_info(), kind) / MIB
    return 0.0


def command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline() or [""]
    return [""]


def summarize(samples: list[dict], ends: list[float], options: argparse.Namespace) -> dict:
    """Rates and memory by quarters of the run."""
    count = len(ends)
    quarters = []
    for quarter in range(4):
        first, last = quarter * count // 4, (quarter + 1) * count // 4 - 1
        start = ends[first - 1] if first else ends[0]
        inside = [sample for sample in samples if start <= sample["seconds"] <= ends[last]]
        quarters.append(
            {
                "per_second": (last - first + bool(first)) / (ends[last] - start),
                "writer_mib": max((sample["writer"] for sample in inside), default=None),
                "together_mib": max((sample["together"] for sample in inside), default=None),
                "each_mib": max((sample["each"] for sample in inside), default=None),
            }
        )
    return {
        "problem_set": options.set,
        "submissions": count,
        "solved": options.solved,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": ends[-1],
        "quarters": quarters,
    }


def show(figures: dict) -> None:
    """Print the table."""
    title = f"{figures['problem_set']}: {figures['submissions']} submissions in {figures['seconds']:.0f} s"
    table = Table(title=title)
    for column in ("quarter", "per second", "writer, MiB", "all processes, MiB", "each at work, MiB"):
        table.add_column(column, justify="right")
    for number, quarter in enumerate(figures["quarters"], start=1):
        sizes = [f"{quarter[key]:.0f}" if quarter[key] else "" for key in ("writer_mib", "together_mib", "each_mib")]
        table.add_row(str(number), f"{quarter['per_second']:.2f}", *sizes)
    Console().print(table)


if __name__ == "__main__":
    main()
