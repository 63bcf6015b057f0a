"""The command ``bnlab``: one function per subcommand, each thin over the module that does the work.

Exit codes: 0 all is well, 1 the work ran and found something wrong, 2 the call or a file was not what it should be.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bnlab.benchmark.cli import bench
from bnlab.grading.class_cli import class_app
from bnlab.grading.cli import grade

app = typer.Typer(help="The batch normalization course: exercises, checks, grading, benchmark.", no_args_is_help=True)
exercises = typer.Typer(help="For instructors: make, prove and release the problem sets.", no_args_is_help=True)
app.add_typer(exercises, name="exercises")
app.add_typer(class_app, name="class")
app.command()(grade)
app.command()(bench)

console = Console()
complaints = Console(stderr=True)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[PROBLEM_SET]...", help="Such as ps1_scaling. Default: all.")
]
Course = Annotated[Path, typer.Option(help="The nbgrader course directory.")]
COURSE = Path("exercises")


@app.command()
def check(
    notebook: Annotated[Path, typer.Argument(help="Your notebook; its checks.py lies beside it.")],
    seconds: Annotated[float, typer.Option(help="Time limit of one cell, in seconds.", min=1)] = 120,
) -> None:
    """Run a notebook from top to bottom, as the grader will, and show how each question came out."""
    from bnlab.exercises.self_check import self_check

    with _complain(), _progress("running the notebook") as advance:
        problem_set, rows, findings = self_check(notebook, seconds, advance)
    table = Table(title=f"{problem_set.name}: {notebook.name}", title_justify="left", show_lines=True)
    for title in ("question", "score", "of", "status", "what to look at"):
        table.add_column(title, justify="right" if title in ("score", "of") else "left")
    colors = {"right": "green", "partly right": "yellow", "not answered": "dim", "by hand": "cyan"}
    for row in rows:
        status = Text(row.status, style=colors.get(row.status, "red"))
        score = "" if row.question in problem_set.written_answers else f"{row.score:g}"
        table.add_row(row.question, score, f"{row.points:g}", status, Text(row.message))
    console.print(table)
    score = sum(row.score for row in rows)
    by_hand = problem_set.points - problem_set.checked_points
    more = f", and up to {by_hand:g} more for the answers in words" if by_hand else ""
    console.print(f"[bold]{score:g} of {problem_set.checked_points:g} points[/bold]{more}")
    for finding in findings:
        complaints.print(f"[yellow]The grader will note:[/yellow] {finding}", highlight=False)
    raise typer.Exit(0 if score == problem_set.checked_points and not findings else 1)


@app.command()
def doctor() -> None:
    """Show what is installed, what is missing for which part of the course, and what to type."""
    from bnlab.doctor import examine

    findings = examine()
    table = Table(title="bnlab doctor", title_justify="left")
    for title in ("part of the course", "needs", "found", "what to type"):
        table.add_column(title)
    for finding in findings:
        found = Text(finding.version or "missing", style="green" if finding.ok else "red")
        table.add_row(finding.part, finding.name, found, "" if finding.ok else Text(finding.remedy))
    console.print(table)
    raise typer.Exit(0 if all(f.ok for f in findings if f.part in ("everything", "NumPy problem sets")) else 1)


@exercises.command()
def build(names: Names = None, course: Course = COURSE) -> None:
    """Make nbgrader's source (COURSE/source/) from the text notebooks."""
    from bnlab.exercises.build import build as build_source
    from bnlab.exercises.source import find_sources

    with _complain():
        for source in find_sources(course, names):
            console.print(f"built {build_source(source, course)}", highlight=False, soft_wrap=True)


@exercises.command()
def verify(
    names: Names = None,
    course: Course = COURSE,
    jobs: Annotated[int | None, typer.Option(help="Processes at once. Default: one per core.", min=1)] = None,
) -> None:
    """Prove the checks: solution and alternatives full, stub 0, every mistake loses exactly what names it.

    Exits with 1 where something is not as it should be.
    """
    from bnlab.exercises.verify import count
    from bnlab.exercises.verify import verify as run

    with _complain():
        total = count(course, names)
        outcomes = []
        with _progress("proving") as advance:
            for outcome in run(course, names, jobs):
                outcomes.append(outcome)
                advance(len(outcomes), total)
    table = Table(title="Problem sets on trial", title_justify="left")
    for title in ("problem set", "submission", "score", "of", "s", "proven", "what it is"):
        table.add_column(title, justify="right" if title in ("score", "of", "s") else "left", overflow="fold")
    for o in outcomes:
        proven = Text("no", style="bold red") if o.complaints else Text("yes", style="green")
        about = Text(o.about) if not o.complaints else Text("\n".join(o.complaints), style="red")
        table.add_row(o.problem_set, o.submission, f"{o.score:g}", f"{o.points:g}", f"{o.seconds:.2f}", proven, about)
    console.print(table)
    console.print(_matrix(course, names, outcomes))
    failed = sum(bool(outcome.complaints) for outcome in outcomes)
    kinds = [outcome.kind for outcome in outcomes]
    console.print(
        f"{len(outcomes) - failed} of {len(outcomes)} proven ({kinds.count('right')} right alternatives, "
        f"{kinds.count('wrong')} mistakes, {kinds.count('borrowed')} borrowed answers)"
    )
    raise typer.Exit(1 if failed else 0)


def _matrix(course: Path, names: list[str] | None, outcomes: list) -> Table:
    """One row per problem set: its points, and how many submissions stand behind each of its functions."""
    from bnlab.exercises.source import find_sources

    caption = "right and wrong: other solutions and mistakes per function; seconds: the solved notebook without imports"
    table = Table(title="In short", caption=caption, title_justify="left", caption_justify="left")
    table.add_column("problem set", no_wrap=True)
    for title in ("asked", "points", "by hand", "right", "wrong", "seconds", "proven"):
        table.add_column(title, justify="right", no_wrap=True)
    for source in find_sources(course, names):
        ours = [outcome for outcome in outcomes if outcome.problem_set == source.name]
        solved = next(outcome.seconds for outcome in ours if outcome.submission == "solution")
        checked = source.problem_set.checked_points
        table.add_row(
            source.name,
            str(len(source.problem_set.questions)),
            f"{checked:g}",
            f"{source.problem_set.points - checked:g}",
            _spread(source.cover("right")),
            _spread(source.cover("wrong")),
            f"{solved:.2f}",
            f"{sum(not outcome.complaints for outcome in ours)} of {len(ours)}",
        )
    return table


def _spread(counts: dict[str, int]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} to {most}"


@exercises.command()
def release(
    names: Names = None,
    course: Course = COURSE,
    zips: Annotated[Path, typer.Option(help="Where the zips for students go.")] = Path("_build/exercises"),
) -> None:
    """Build, generate the student version (COURSE/release/) and pack its zip with all a student needs."""
    import tempfile

    from bnlab.exercises import release as making
    from bnlab.exercises.build import build as build_source
    from bnlab.exercises.source import find_sources

    with _complain(), tempfile.TemporaryDirectory() as scratch, _progress("releasing") as advance:
        sources = find_sources(course, names)
        wheel = making.build_wheel(course.resolve().parent, Path(scratch))
        archives = []
        for source in sources:
            build_source(source, course)
            making.release(source, course)
            archives.append(making.zip_for_students(source, course, wheel, zips))
            advance(len(archives), len(sources))
    for archive in archives:
        console.print(f"released {archive}", highlight=False, soft_wrap=True)


@exercises.command()
def solutions(course: Course = COURSE) -> None:
    """Write the solved problem sets as pages for instructors; `make book SOLUTIONS=1` builds the book with them."""
    from bnlab.exercises.solutions import write_page, write_toc
    from bnlab.exercises.source import find_sources

    with _complain():
        repository = course.resolve().parent
        pages = [write_page(source, repository) for source in find_sources(course)]
        for path in [*pages, write_toc(pages, repository)]:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


@contextmanager
def _complain() -> Iterator[None]:
    """Show an error about the user's files as one clear line and exit with 2; let errors of ours surface."""
    from bnlab.exercises.source import SourceError
    from bnlab.grading.intake import UnreadableNotebook

    try:
        yield
    except (SourceError, UnreadableNotebook, FileNotFoundError) as error:
        complaints.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def _progress(what: str) -> Iterator:
    """A progress bar on standard error; yields ``advance(done, total)``."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=complaints, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    app()
