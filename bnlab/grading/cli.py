"""The command ``bnlab grade``: a whole class at once, with a progress bar, and a list of what needs a person's eye.

Exit codes: 0 all is graded, 1 something needs an eye, 2 the call or the course is not what it should be, 130 stopped by
Ctrl-C.
"""

import os
import signal
import statistics
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bnlab.grading.record import GRADED, STATUSES, Record

console = Console()
complaints = Console(stderr=True)

SHOWN = 200  # characters of a message in the table; the record has all of it


class Kind(StrEnum):
    """A sandbox, as the command line names it."""

    BUBBLEWRAP = "bubblewrap"
    CONTAINER = "container"
    NONE = "none"


def grade(
    problem_set: Annotated[str, typer.Argument(help="Such as ps1_scaling.")],
    course: Annotated[Path, typer.Option(help="The nbgrader course directory.")] = Path("exercises"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at once. Default: one per core.")] = None,
    student: Annotated[list[str] | None, typer.Option(help="Only this student. Can be given again.")] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(help="Only this question; the others keep their results. Can be given again."),
    ] = None,
    regrade: Annotated[
        bool,
        typer.Option(
            "--regrade/--resume",
            help="Grade everything again, or (the default) go on: what is graded already stays, unless the submission, "
            "the checks or the environment have changed since.",
        ),
    ] = False,
    sandbox: Annotated[
        Kind | None,
        typer.Option(
            help="How students' code is kept apart. container: this machine is one that holds nothing else and may be "
            "thrown away. Default: what nbgrader_config.py says, as for the limits.",
        ),
    ] = None,
    no_sandbox: Annotated[
        bool, typer.Option("--no-sandbox", help="Run students' code unprotected; every record says so.")
    ] = False,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures", help="Draw every figure anew instead of showing those that were handed in. It takes longer."
        ),
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Grade on the workers of this Dask scheduler instead of here."),
    ] = None,
) -> None:
    """Grade a problem set for the whole class.

    Reads COURSE/submitted/STUDENT/PROBLEM_SET/PROBLEM_SET.ipynb, runs each in a sandbox, lets the checks question it
    from outside, and writes COURSE/autograded/ and nbgrader's gradebook, which formgrader, feedback and export show.

    Ctrl-C stops it and loses nothing; the same command goes on. What cannot be graded (it crashes, hangs, is no
    notebook ...) gets no points and no 0: it is listed at the end, and waits in formgrader for a person.
    """
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from bnlab.grading.class_run import ClassRun
        from bnlab.grading.course import CourseError, load_course, sandbox_of
        from bnlab.grading.gradebook import GradebookError
        from bnlab.grading.sandbox import SandboxUnavailable
        from bnlab.grading.workers import ClassError
    except ImportError as error:
        complaints.print(f"Error: bnlab grade needs {error.name}: pip install 'bnlab[grading]'", markup=False)
        raise typer.Exit(2) from None

    tally = Tally()
    try:
        configured, draw = sandbox_of(load_course(course))
        kind = Kind.NONE if no_sandbox else sandbox
        chosen = replace(configured, kind=kind.value) if kind else configured
        with (
            ClassRun(
                course, problem_set, chosen, students=student or (), questions=question or (), regrade=regrade
            ) as run,
            _engine(run, jobs, scheduler, pictures or draw) as engine,
            _stoppable() as stop,
            _progress(problem_set, len(run.students)) as advance,
        ):

            def report(outcome) -> None:
                tally.add(outcome)
                advance(tally)

            run.run(engine, report, stop)
            stopped = stop()
        tally.leave_out(run.unusable)
    except (ClassError, CourseError, GradebookError, SandboxUnavailable, SQLAlchemyError) as error:
        complaints.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        if tally.deeds:
            complaints.print(f"What was graded before, {tally.deeds.total()} submissions, is written.")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:  # the second one
        stopped = True
    tally.show(problem_set, course)
    if stopped:
        again = "the same command goes on" if not regrade else "what it had not come to is as it was before"
        complaints.print(f"Stopped. What is graded is written; {again}.")
        raise typer.Exit(130)
    raise typer.Exit(1 if tally.troubles else 0)


class Tally:
    """What a run has done so far. It grows by one number a submission, and by one line where one needs an eye.

    Attributes
    ----------
    deeds : Counter of str
        Submissions by what was done: "graded", "kept", "recorded".
    statuses : Counter of str
        Submissions by status: that of their first question that needs an eye, or "graded".
    scores : array of float
        Points of the submissions of which the checks could grade all questions.
    troubles : list of tuple of str
        Student, question, status and message of what needs an eye.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.deeds: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.scores = array("d")
        self.points = 0.0
        self.troubles: list[tuple[str, str, str, str]] = []
        self.answers = 0

    def add(self, outcome) -> None:
        """Count one submission, an `Outcome`."""
        record: Record = outcome.record
        self.deeds[outcome.deed] += 1
        self.answers += sum(answer.answered and answer.question not in outcome.by_hand for answer in record.written)
        self.points = max(self.points, record.points)
        if not record.needs_an_eye:
            self.scores.append(record.score)
        lost = [result for result in record.needs_an_eye if result.question not in outcome.by_hand]
        self.statuses[lost[0].status if lost else GRADED] += 1
        if len(lost) > 1 and len(lost) == len(record.questions) and len({(r.status, r.message) for r in lost}) == 1:
            self.troubles.append((record.student, "all", lost[0].status, lost[0].message))
        else:
            self.troubles += [(record.student, result.question, result.status, result.message) for result in lost]
        if outcome.problem:
            self.troubles.append((record.student, "all", "not written", outcome.problem))

    def leave_out(self, unusable: dict[str, str]) -> None:
        """Count folders that can't be graded at all."""
        self.troubles += [(repr(student), "all", "left out", why) for student, why in unusable.items()]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def show(self, problem_set: str, course: Path) -> None:
        """Print the table, then what needs an eye and where to look."""
        total = self.deeds.total()
        console.print(Text(f"{problem_set}: {total} submission{'s' * (total != 1)}", style="bold"))
        table = Table()
        table.add_column("status")
        table.add_column("submissions", justify="right")
        for status in STATUSES:
            if self.statuses[status]:
                color = "green" if status == GRADED else "red"
                table.add_row(Text(status, style=color), str(self.statuses[status]))
        console.print(table)
        if self.scores:
            mean, median = statistics.fmean(self.scores), statistics.median(self.scores)
            console.print(f"mean {mean:.1f}, median {median:g} of {self.points:g} points", highlight=False)
        graded = self.deeds["graded"]
        also = {"kept": "graded already", "recorded": "graded already, and now in the gradebook"}
        parts = [f"{graded} graded in {self.seconds:.1f} s ({graded / self.seconds:.2f} per second)"]
        parts += [f"{self.deeds[deed]} {text}" for deed, text in also.items() if self.deeds[deed]]
        console.print(", ".join(parts), highlight=False, soft_wrap=True)
        if self.answers:
            answers = "1 answer in words waits" if self.answers == 1 else f"{self.answers} answers in words wait"
            console.print(f"{answers} for a person in formgrader", highlight=False)
        if self.troubles:
            self._show_troubles(problem_set, course)

    def _show_troubles(self, problem_set: str, course: Path) -> None:
        table = Table(title="These need an eye; none of them is a 0", title_justify="left", show_lines=True)
        for title in ("student", "question", "status", "why"):
            table.add_column(title, overflow="fold")
        for student, question, status, message in sorted(self.troubles):
            short = message if len(message) <= SHOWN else message[:SHOWN] + " ..."
            table.add_row(Text(student), Text(question), Text(status, style="red"), Text(short))
        console.print(table)
        console.print(
            f"Give points by hand in formgrader, or ask for another file and run this again. "
            f"To try one once more: bnlab grade {problem_set} --student NAME --regrade\n"
            f"All that is known: {course}/autograded/NAME/{problem_set}/record.json",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def _engine(run, jobs: int | None, scheduler: str | None, pictures: bool) -> Iterator:
    """What grades the units: processes here, or a cluster."""
    from bnlab.grading.grade import Grader
    from bnlab.grading.sandbox import ForkServer
    from bnlab.grading.workers import Pool

    if scheduler:
        from bnlab.grading.cluster import Cluster

        with Cluster(scheduler, run.material, run.sandbox, partial(complaints.print, highlight=False)) as cluster:
            yield cluster
    else:
        make_grader = partial(Grader, run.material, run.sandbox, pictures)
        with ForkServer(run.sandbox, run.material.modules, pictures) as server:
            server.check()
            with Pool(make_grader, jobs or _cores(), server, run.material.modules_of_checks) as pool:
                yield pool


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C into a wish to stop. A second one is Ctrl-C as ever."""
    asked = []

    def ask(signum: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    earlier = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, earlier)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[Tally], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=complaints) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance(tally: Tally) -> None:
            rate = tally.deeds["graded"] / tally.seconds
            bar.update(task, completed=tally.deeds.total(), rate=f"{rate:.2f} per second" if rate else "")

        yield advance
