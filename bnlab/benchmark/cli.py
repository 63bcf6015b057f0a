"""The command ``python -m bnlab.benchmark``, and ``bnlab bench``.

Exit codes: 0 all is measured, 1 an implementation was wrong or failed, 2 the call was not what it should be.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console()
complaints = Console(stderr=True)


def bench(
    suite: Annotated[
        str, typer.Option(help="Names with commas between: vgg16, resnet50, features, awkward.")
    ] = "resnet50,vgg16",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="N.")] = 32,
    dtype: Annotated[str, typer.Option(help="float32, float64, float16, bfloat16; with commas between.")] = "float32",
    layout: Annotated[str, typer.Option(help="NCHW, channels_last; with commas between.")] = "NCHW,channels_last",
    operation: Annotated[
        str, typer.Option(help="forward, backward, evaluation; with commas between.")
    ] = "forward,backward",
    module: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.py:CLASS", help="A layer of yours, such as solution.py:BatchNorm."),
    ] = None,
    with_compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Also torch.compile. Default: on a GPU only, as it takes long."),
    ] = None,
    fresh_memory: Annotated[
        bool, typer.Option("--fresh-memory", help="Everybody gets memory from the system in every call.")
    ] = False,
    then: Annotated[
        str, typer.Option(help="What follows: nothing, relu, add_relu (a residual is added before).")
    ] = "nothing",
    whole_steps: Annotated[
        bool, typer.Option("--whole-steps", help="Training steps of whole networks, in place of single layers.")
    ] = False,
    mean: Annotated[float, typer.Option(help="Mean of the input, in standard deviations.")] = 0.5,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: what torch chooses.")] = None,
    turns: Annotated[int, typer.Option(min=3, help="Turns at most; in each, everybody is called twice.")] = 15,
    seconds: Annotated[float, typer.Option(min=0, help="For one case; three turns are made in any case.")] = 6.0,
    output: Annotated[Path | None, typer.Option(help="A JSON file for all figures.")] = None,
    plots: Annotated[Path | None, typer.Option(help="A folder for ratios.svg and roofline.svg.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the summary.")] = False,
) -> None:
    """Time batch normalization: torch's, bnlab's, yours, beside the time that moving the bytes takes.

    A result that is wrong by float64 gets no time.
    """
    import torch

    from bnlab.benchmark import layers, measure, report, shapes, steps
    from bnlab.experiments.conduct import provenance

    def chosen(text: str, known, what: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        wrong = [name for name in names if name not in known]
        if wrong or not names:
            _refuse(f"there is no {what} {', '.join(wrong) or repr(text)}: give some of {', '.join(known)}")
        return names

    suites = chosen(suite, shapes.SUITES, "suite")
    plan = measure.Plan(
        device=device,
        batch_size=batch_size,
        dtypes=chosen(dtype, ("float32", "float64", "float16", "bfloat16"), "dtype"),
        layouts=chosen(layout, measure.LAYOUTS, "layout"),
        operations=chosen(operation, measure.OPERATIONS, "operation"),
        turns=turns,
        seconds=seconds,
        fresh_memory=fresh_memory,
        mean=mean,
        then=chosen(then, measure.THEN, "continuation")[0],
    )
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        _refuse(f"the device {device!r} can't be used here ({str(error).partition(chr(10))[0]}): give cpu, or cuda")
    if threads:
        torch.set_num_threads(threads)
    try:
        takers = layers.contenders(device, device.startswith("cuda") if with_compile is None else with_compile)
        takers += [layers.from_file(where) for where in module or ()]
    except layers.UnusableLayer as error:
        _refuse(str(error))
    todo = [case for name in suites for case in measure.cases(name, shapes.SUITES[name], plan)]
    timings, step_timings = [], []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=complaints, transient=True) as bar:
        task = bar.add_task("measuring", total=len(steps.NETWORKS) * len(plan.layouts) if whole_steps else len(todo))
        for found in steps.measure_steps(plan) if whole_steps else ():
            step_timings += found
            console.print(report.steps_table(found))
            bar.advance(task)
        for case in () if whole_steps else todo:
            found = measure.measure(case, takers, plan)
            timings += found
            if not quiet:
                console.print(report.case_table(found))
            bar.advance(task)
    if timings:
        console.print(report.summary_table(timings, plan))
    moved = report.noise(timings)
    if moved > measure.NOISY:
        complaints.print(
            f"[yellow]This machine is busy: its copies spread by {moved:.0%} (median). Trust ratios, not milliseconds, "
            "and measure again when it is quiet.[/yellow]"
        )
    if output:
        command = f"python -m bnlab.benchmark {' '.join(sys.argv[1:])}"
        made_with = {**provenance(command, device), "threads": torch.get_num_threads()}
        report.save(output, timings, plan, made_with, step_timings)
        console.print(f"saved {output}")
    if plots and timings:
        plots.mkdir(parents=True, exist_ok=True)
        report.plot_ratios(timings).savefig(plots / "ratios.svg")
        report.plot_roofline(timings).savefig(plots / "roofline.svg")
        console.print(f"drawn as {plots}/ratios.svg and roofline.svg")
    raise typer.Exit(1 if any(timing.problem for timing in timings) else 0)


def _refuse(message: str) -> None:
    complaints.print(f"Error: {message}", highlight=False)
    raise typer.Exit(2)


def main() -> None:
    """Run the command by itself."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(bench)
    app(prog_name="python -m bnlab.benchmark")
