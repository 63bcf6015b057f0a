"""How fast is trusted grading, beside nbgrader's own?

::

    python benchmarks/grading.py --output book/results/grading.json    # 100 submissions of two sets: an hour
    python benchmarks/grading.py --submissions 10 --sets ps2_forward   # a quick look

The same submissions (the solution, right alternatives and mistakes of a problem set, in turn) are graded on the same
cores, one after the other, by

- ``nbgrader autograde`` as it comes: its configuration names the course and nothing else;
- ``bnlab grade`` with one process per core, and once more with one process, for its overhead,

in turns, in four rounds; the figures are medians over the rounds.

Overhead is a small difference of large numbers, on machines whose speed changes from minute to minute. So its two sides
are measured close to each other, a few submissions at a time: one process and "alone" in three turns a round, and
"alone" with pictures before nbgrader and after it. Its figure is the difference of the medians over all of them.

Both draw the same inputs (one seed, as many cases), and the scores must agree. "Alone" is what the cells and the checks
of one submission take once everything is imported, without anybody around: overhead is what a grader adds to that.
nbgrader draws every figure; so does "alone" for it. bnlab shows the pictures that were handed in.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bnlab.exercises.build import build
from bnlab.exercises.source import Source, find_sources, solution_id
from bnlab.experiments.conduct import provenance
from bnlab.grading.course import run_nbgrader
from bnlab.grading.material import Material

ROOT = Path(__file__).resolve().parents[1]
SETS = ("ps2_forward", "ps4_torch_layer")
SEED, CASES = 20150211, 5
STOCK = 'c = get_config()\nc.CourseDirectory.course_id = "stock"\n'
BNLAB = ("bnlab", "grade", "--regrade")
ROUNDS = 4
TURNS = 3  # of a round, for the overhead
ENVIRONMENT = {"BNLAB_SEED": str(SEED), "BNLAB_CASES": str(CASES), "OMP_NUM_THREADS": "1"}
console = Console(stderr=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=100, help="of each problem set (default: 100)")
    parser.add_argument("--alone", type=int, default=8, help="submissions of one turn for the overhead (default: 8)")
    parser.add_argument("--sets", nargs="+", default=SETS, help=f"(default: {' '.join(SETS)})")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures; what it has stays")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    made_with = provenance(f"python benchmarks/grading.py {' '.join(sys.argv[1:])}", packages=("nbgrader", "torch"))
    known = json.loads(options.output.read_text())["sets"] if options.output and options.output.exists() else []
    rows = {row["problem_set"]: row for row in known}
    for source in find_sources(ROOT / "exercises", options.sets):
        measured = rows.get(source.name, {})
        known_at = measured.get("provenance", {}).get("commit")
        if (measured.get("submissions"), known_at) == (options.submissions, made_with["commit"]):
            console.print(f"{source.name} was measured at this commit: remove {options.output} to do so again")
        else:
            with tempfile.TemporaryDirectory() as room:
                figures = measure(source, Path(room), options.submissions, options.alone)
            rows[source.name] = figures | {"seed": SEED, "cases": CASES, "provenance": made_with}
            if options.output:  # after each set: half an hour is not lost with the next one
                record = {"sets": [rows[name] for name in sorted(rows)]}
                options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                console.print(f"saved {options.output}")
        show(rows[source.name])


def measure(source: Source, room: Path, count: int, alone: int) -> dict:
    """Grade one problem set's submissions by all graders.

    In turns, because a machine is not always equally fast: each of `ROUNDS` rounds has nbgrader grade its share of the
    submissions and bnlab all of them, and the figures are medians over the rounds.
    """
    notebooks = dict(enumerate(submissions(source, count)))
    ours = (ROOT / "exercises/nbgrader_config.py").read_text()
    everybody = prepare(source, room / "bnlab", ours, notebooks)
    few = prepare(source, room / "few", ours, dict(list(notebooks.items())[: alone + 1]))
    shares = [{n: notebooks[n] for n in list(notebooks)[start::ROUNDS]} for start in range(ROUNDS)]
    rounds, differ = [], []
    for number, share in enumerate(track(shares, source.name, console=console)):
        course = prepare(source, room / f"nbgrader-{number}", STOCK, share)
        with_pictures = run_alone(source, few, True, alone)
        nbgrader = timed(course, "nbgrader", "autograde", source.name) / len(share)
        with_pictures += run_alone(source, few, True, alone)
        bnlab = timed(ROOT, *BNLAB, source.name, "--course", str(everybody)) / count
        in_turns: dict[str, list[float]] = {"bnlab_one_process": [], "alone_without_pictures": []}
        for _ in range(TURNS):
            in_turns["bnlab_one_process"] += one_process(source, few)
            in_turns["alone_without_pictures"] += run_alone(source, few, False, alone)
        rounds.append({"nbgrader": nbgrader, "bnlab": bnlab, "alone_with_pictures": with_pictures, **in_turns})
        differ += compare(course, everybody, source.name)
    figures = {name: statistics.median(one[name] for one in rounds) for name in ("nbgrader", "bnlab")}
    for name in ("bnlab_one_process", "alone_with_pictures", "alone_without_pictures"):
        figures[name] = statistics.median(itertools.chain.from_iterable(one[name] for one in rounds))
    overhead = {
        "overhead_nbgrader": figures["nbgrader"] - figures["alone_with_pictures"],
        "overhead_bnlab": figures["bnlab_one_process"] - figures["alone_without_pictures"],
    }
    return {
        "problem_set": source.name,
        "submissions": count,
        "cores": len(os.sched_getaffinity(0)),
        **figures,
        **overhead,
        "faster": figures["nbgrader"] / figures["bnlab"],
        "overhead_ratio": overhead["overhead_nbgrader"] / overhead["overhead_bnlab"],
        "scores_differ": differ,
        "rounds": rounds,
    }


def one_process(source: Source, course: Path) -> list[float]:
    """Seconds between one submission and the next in a run of `bnlab grade` with one process."""
    timed(ROOT, *BNLAB, source.name, "--course", str(course), "--jobs", "1")
    ends = sorted(path.stat().st_mtime for path in course.glob(f"autograded/*/{source.name}/record.json"))
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def submissions(source: Source, count: int) -> list[str]:
    """Solved notebooks in which some answers are others', right or wrong; as JSON."""
    kinds = [submission for submission in source.submissions if submission.kind in ("right", "wrong")]
    kinds = [None, *kinds[:: max(1, len(kinds) // 24)]]
    made = []
    for number in range(count):
        notebook = nbformat.from_dict(json.loads(nbformat.writes(source.notebook)))
        chosen = kinds[number % len(kinds)]
        for cell in notebook.cells:
            for question, answer in (chosen.cells if chosen else {}).items():
                if cell.metadata.get("nbgrader", {}).get("grade_id") == solution_id(question):
                    cell.source = answer
        notebook.cells[-1].source += f"\n\n<!-- {number} -->" if notebook.cells[-1].cell_type == "markdown" else ""
        made.append(nbformat.writes(notebook))
    return made


def prepare(source: Source, course: Path, config: str, notebooks: dict[int, str]) -> Path:
    """A course directory with the submissions of these students in it."""
    course.mkdir()
    shutil.copytree(source.directory, course / source.name)
    (course / "nbgrader_config.py").write_text(config, encoding="utf-8")
    build(find_sources(course)[0], course)
    status, log = run_nbgrader(course, "generate_assignment", source.name)
    if status:
        sys.exit(log)
    for number, notebook in notebooks.items():
        path = course / "submitted" / f"student-{number:04}" / source.name / f"{source.name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(notebook, encoding="utf-8")
    return course


def timed(directory: Path, *command: str) -> float:
    """Seconds that a command takes."""
    program = Path(sys.executable).parent / command[0]
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    began = time.perf_counter()
    done = subprocess.run(
        [program, *command[1:]], cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return seconds


def run_alone(source: Source, course: Path, pictures: bool, count: int) -> list[float]:
    """Seconds of the cells and checks of each submission, in copies of a process that has imported everything."""
    files = sorted(course.glob(f"submitted/*/{source.name}/*.ipynb"))[-count:]
    material = Material.of_course(course, source.name)
    settings = json.dumps([[str(file) for file in files], list(material.modules), pictures])
    # In a process of its own: this one must not import what students do.
    done = subprocess.run(
        [sys.executable, __file__, "--cells-of", settings], cwd=course / "source" / source.name, capture_output=True
    )
    if done.returncode:
        sys.exit(done.stderr.decode())
    return json.loads(done.stdout)


def cells_of(files: list[str], modules: list[str], pictures: bool) -> None:
    """Print the seconds that the cells of each notebook take; test cells check in this very process."""
    from bnlab.grading import fork_server
    from bnlab.grading.runner import Shell

    fork_server.warm_up(modules, pictures)
    sys.path.insert(0, os.getcwd())
    times = []
    for file in files:
        cells = nbformat.read(file, as_version=4).cells
        receiver, sender = os.pipe()
        if os.fork() == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            began = time.perf_counter()
            for cell in cells:
                if cell.cell_type == "code":
                    Shell.instance().run_cell(cell.source, store_history=False)
            os.write(sender, f"{time.perf_counter() - began}".encode())
            os._exit(0)
        os.close(sender)
        os.wait()
        times.append(float(os.read(receiver, 100)))
        os.close(receiver)
    print(json.dumps(times))


def compare(nbgrader: Path, bnlab: Path, name: str) -> list[str]:
    """Students and questions whose scores are not the same, of those whom nbgrader has graded."""
    from nbgrader.api import Gradebook

    scores = []
    for course in (nbgrader, bnlab):
        with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
            found = {}
            for submission in gradebook.assignment_submissions(name):
                for notebook in submission.notebooks:
                    for grade in notebook.grades:
                        found[submission.student.id, grade.name] = grade.auto_score
            scores.append(found)
    theirs, ours = scores
    return [
        f"{student} {question}: {theirs.get((student, question))} and {ours.get((student, question))}"
        for student, question in sorted(theirs)
        if theirs.get((student, question)) != ours.get((student, question))
    ]


def show(row: dict) -> None:
    """Print the figures of one problem set."""
    table = Table(title=f"{row['problem_set']}, {row['submissions']} submissions, {row['cores']} cores")
    for title in ("seconds per submission", "nbgrader autograde", "bnlab grade", "ratio"):
        table.add_column(title, justify="left" if title.startswith("seconds") else "right")

    def line(what: str, theirs: float, ours: float) -> None:
        table.add_row(what, f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}")

    line("on all cores", row["nbgrader"], row["bnlab"])
    line("in one process", row["nbgrader"], row["bnlab_one_process"])
    line("cells and checks alone", row["alone_with_pictures"], row["alone_without_pictures"])
    line("overhead", row["overhead_nbgrader"], row["overhead_bnlab"])
    Console().print(table)
    Console().print(f"scores that differ: {row['scores_differ'] or 'none'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cells-of"]:
        cells_of(*json.loads(sys.argv[2]))
    else:
        main()
