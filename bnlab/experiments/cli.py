"""The command ``python -m bnlab.experiments``: list the experiments, run them, print their verdicts.

Exit codes: 0 all is well, 1 an experiment failed or a claim has no experiment, 2 the call was not what it should be.
"""

import multiprocessing
import os
import queue
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bnlab.experiments import CLAIMS, VERDICTS, Journal, Result, find, names, recorded
from bnlab.experiments.conduct import BUDGETS, Share, cached

app = typer.Typer(
    help="The experiments behind the claims of the course.", no_args_is_help=True, pretty_exceptions_enable=False
)
console = Console()
complaints = Console(stderr=True)


@app.command("list")
def list_experiments() -> None:
    """List the experiments with the claims that they judge, then the claims that nothing judges."""
    table = Table(title="Experiments", title_justify="left")
    for title in ("name", "claims", "what is asked", "full run recorded"):
        table.add_column(title)
    judged = set()
    for name in names():
        experiment = find(name).EXPERIMENT
        judged.update(experiment.claims)
        full = recorded(name)
        table.add_row(name, " ".join(experiment.claims), experiment.title, full.provenance["date"][:10] if full else "")
    console.print(table)
    missing = [claim for claim in CLAIMS if claim not in judged]
    if missing:
        complaints.print(f"No experiment judges {', '.join(missing)}.")
        raise typer.Exit(1)
    console.print(f"Each of the {len(CLAIMS)} claims has at least one experiment.")


@app.command()
def run(
    chosen: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Experiments, as `list` shows.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run all of them.")] = False,
    seeds: Annotated[int, typer.Option(help="How many: 0, 1, ... Five or more give an honest spread.", min=1)] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    budget: Annotated[str, typer.Option(help="small: under a minute. full: what a results file records.")] = "small",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for NAME.json. Default: book/results for full runs; small ones go to the cache only."
        ),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for a figure of each, NAME.svg.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes that share an experiment's work. Default: one per core on the CPU, else one. "
            "With 1, seconds are measured with nothing beside them.",
            min=1,
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Measure everything again, whatever the cache has.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no verdicts.")] = False,
) -> None:
    """Run experiments and print their verdicts. A run that was cut off goes on where it stopped.

    A result in the cache is taken up if the code and the packages that it was computed with are still the same.
    """
    chosen = names() if all_ else list(dict.fromkeys(chosen or []))
    unknown = [name for name in chosen if name not in names()]
    if unknown or not chosen:
        given = f"There is no experiment {', '.join(unknown)}." if unknown else "No experiment was named."
        _refuse(f"{given} Give --all or some of: {', '.join(names())}")
    if budget not in BUDGETS:
        _refuse(f"--budget is {budget!r}: give small or full")
    for name in chosen:
        try:
            find(name).EXPERIMENT.check_device(device)
        except ValueError as error:
            _refuse(str(error))
    if output is None and budget == "full":
        output = Path("book/results")
        if not output.is_dir():
            _refuse(
                "There is no folder book/results here: call this from the repository's root, or give --output FOLDER"
            )
    for folder in (output, plots):
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _refuse(f"{folder} can't be made a folder for results ({error.strerror}): give another one")
    jobs = jobs or ((os.cpu_count() or 1) if device == "cpu" else 1)
    files, failed = _run_all(chosen, seeds, device, budget, jobs, fresh)
    for name in chosen:
        if name in failed:
            continue
        if quiet and not output and not plots:
            continue
        result = Result.load(files[name])
        console.print(f"\n[bold]{name}[/bold]  {result.seconds:.0f} s of measuring", highlight=False)
        if output:
            console.print(f"  saved as {result.save(output / f'{name}.json')}", highlight=False)
        if plots:
            find(name).plot(result).savefig(plots / f"{name}.svg")
            console.print(f"  drawn as {plots / f'{name}.svg'}", highlight=False)
        for verdict in find(name).verdicts(result):
            console.print(
                f"  {verdict.claim} {verdict.words}: {verdict.number} {verdict.what}. {verdict.because}",
                highlight=False,
            )
    for name, error in failed.items():
        complaints.print(
            f"\n{name} failed; what it had measured is kept, and the same command goes on from there:\n{error}"
        )
    raise typer.Exit(1 if failed else 0)


def _run_all(chosen, seeds, device, budget, jobs, fresh):
    """Run experiments one after the other, each shared by `jobs` processes; return files and errors by name."""
    files, failed = {}, {}
    context = multiprocessing.get_context("spawn")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with (
        context.Manager() as manager,
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(jobs, context, initializer=_set_threads, initargs=(threads,)) as pool,
    ):
        reports = manager.Queue()
        bars, done, waiting = {}, {}, {}
        for name in chosen:
            files[name] = cached(name, budget, range(seeds), device)
            if _finished(files[name], fresh):
                progress.add_task(name, total=1, completed=1, start=False)
                continue
            bars[name] = progress.add_task(name, total=None, start=False)
            done[name], taken = [0] * jobs, manager.dict()
            for number in range(jobs):
                share = Share(taken, number, jobs)
                waiting[pool.submit(_run_share, name, seeds, device, budget, files[name], share, reports)] = name
        while waiting or not reports.empty():
            try:
                name, number, its, total = reports.get(timeout=0.2)
                if not progress.tasks[bars[name]].started:
                    progress.start_task(bars[name])
                done[name][number] = its
                progress.update(bars[name], completed=sum(done[name]), total=total)
            except queue.Empty:
                pass
            for future in [future for future in waiting if future.done()]:
                name = waiting.pop(future)
                if future.exception():
                    failed[name] = "".join(traceback.format_exception_only(future.exception()))
                    failed[name] += str(future.exception().__cause__ or "")
                if name not in waiting.values():
                    progress.stop_task(bars[name])
                    if name not in failed:
                        _journal(files[name]).unlink(missing_ok=True)
    return files, failed


def _finished(path, fresh):
    """Tell whether the cache has the result; what is there and isn't one, or isn't wanted, is removed."""
    if fresh:
        path.unlink(missing_ok=True)
        _journal(path).unlink(missing_ok=True)
    try:
        Result.load(path)
    except FileNotFoundError:
        return False
    except ValueError:  # whatever happened to it: measure again
        path.unlink()
        return False
    return True


def _journal(path):
    return path.with_suffix(".jsonl")


def _set_threads(number):
    import torch

    torch.set_num_threads(number)


def _run_share(name, seeds, device, budget, path, share, reports):
    """Measure one process's share of an experiment; the first also saves the result."""
    journal = Journal(_journal(path), lambda done, total: reports.put((name, share.number, done, total)), share)
    result = find(name).run(seeds=range(seeds), device=device, budget=budget, journal=journal)
    if share.number == 0:
        result.save(path)


@app.command()
def verdicts(
    budget: Annotated[str, typer.Option(help="small: from the cache, or run now. full: the recorded runs.")] = "small",
) -> None:
    """Print the verdict on every claim, as the page The verdicts has it."""
    from bnlab.experiments.verdicts import collect

    if budget not in BUDGETS:
        _refuse(f"--budget is {budget!r}: give small or full")
    shown = Table(title="The verdicts", title_justify="left", show_lines=True)
    for title in ("claim", "verdict", "number", "experiment"):
        shown.add_column(title)
    for judgment in collect(budget):
        numbers = [f"{item.verdict.number} {item.verdict.what}" for item in judgment.evidence]
        sources = [item.experiment.name for item in judgment.evidence]
        shown.add_row(judgment.claim, VERDICTS[judgment.verdict], "\n".join(numbers), "\n".join(sources))
    console.print(shown)


def _refuse(message):
    complaints.print(message)
    raise typer.Exit(2)
