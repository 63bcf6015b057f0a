"""What was measured: a table for each suite, a file with all figures, and pictures."""

import json
import math
import statistics
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

from rich.table import Table

from bnlab.benchmark.measure import NOISY, Case, Plan, Timing
from bnlab.benchmark.steps import StepTiming


def ratios(timings: list[Timing], to: str = "torch") -> dict[tuple, dict[str, list[tuple[Timing, float]]]]:
    """How many times faster than one of them each implementation is.

    Parameters
    ----------
    timings : list of Timing
    to : str
        The implementation that is compared with.

    Returns
    -------
    dict of (suite, operation, layout, dtype) to dict of name to list of (Timing, float)
        One pair for every shape in which both have a time.
    """
    by_case = defaultdict(dict)
    for timing in timings:
        by_case[timing.case][timing.name] = timing
    found: dict = defaultdict(lambda: defaultdict(list))
    for case, its in by_case.items():
        base = its.get(to)
        if base is None or base.milliseconds is None:
            continue
        for name, timing in its.items():
            if timing.milliseconds is not None and name not in (to, "copy"):
                group = case.suite, case.operation, case.layout, case.dtype
                found[group][name].append((timing, base.milliseconds / timing.milliseconds))
    return {group: dict(its) for group, its in found.items()}


def summary(timings: list[Timing]) -> list[dict]:
    """The geometric mean and the worst of the ratios to torch, for each suite, operation, layout and dtype.

    "first_geometric_mean" is that of the first calls in each turn.
    """
    rows, bases = [], {timing.case: timing for timing in timings if timing.name == "torch"}
    for (suite, operation, layout, dtype), its in ratios(timings).items():
        for name, pairs in its.items():
            values = [ratio for _, ratio in pairs]
            first = [timing.first_milliseconds for timing, _ in pairs]
            base = [bases[timing.case].first_milliseconds for timing, _ in pairs]
            rows.append(
                {
                    "suite": suite,
                    "operation": operation,
                    "layout": layout,
                    "dtype": dtype,
                    "implementation": name,
                    "shapes": len(values),
                    "geometric_mean": statistics.geometric_mean(values),
                    "worst": min(values),
                    "first_geometric_mean": statistics.geometric_mean(b / a for a, b in zip(first, base, strict=True)),
                }
            )
    return rows


def noise(timings: list[Timing]) -> float:
    """The median relative spread of the copies: how far the machine's own speed moved within a case."""
    return statistics.median([timing.spread for timing in timings if timing.name == "copy"] or [0.0])


def case_table(timings: list[Timing]) -> Table:
    """All figures of one case."""
    case = timings[0].case
    shape = " x ".join(map(str, case.shape)) + {"relu": ", then ReLU", "add_relu": ", then + and ReLU"}.get(
        case.then, ""
    )
    layers = f", {case.layers} layers" if case.layers > 1 else ""
    table = Table(title=f"{case.operation}, {shape}, {case.layout}, {case.dtype}{layers}", title_justify="left")
    for title in ("", "ms", "spread", "first ms", "to torch", "floor", "streaming", "error", "memory"):
        table.add_column(title, justify="left" if not title else "right")
    base = next((timing.milliseconds for timing in timings if timing.name == "torch"), None)
    for timing in timings:
        if timing.milliseconds is None:
            table.add_row(timing.name, f"[red]{timing.problem}[/red]")
            continue
        table.add_row(
            timing.name,
            f"{timing.milliseconds:.3g}",
            f"{timing.spread:.0%}",
            f"{timing.first_milliseconds:.3g}",
            f"{base / timing.milliseconds:.2f}" if base and timing.name != "copy" else "",
            f"{timing.of_floor:.0%}" if timing.name != "copy" else "",
            f"{timing.of_streaming:.0%}" if timing.name != "copy" else "",
            f"{timing.error:.0e}" if timing.name != "copy" else "",
            f"{timing.peak:.1f}" if timing.peak is not None else "",
        )
    return table


def summary_table(timings: list[Timing], plan: Plan) -> Table:
    """The ratios to torch."""
    memory = "everybody's memory fresh from the system" if plan.fresh_memory else "freed memory kept, for everybody"
    table = Table(title=f"How many times as fast as torch ({memory})", title_justify="left")
    numbers = ("shapes", "geometric mean", "worst", "first calls")
    for title in ("suite", "operation", "layout", "dtype", "implementation", *numbers):
        table.add_column(title, justify="right" if title in numbers else "left")
    for row in summary(timings):
        table.add_row(
            *(row[name] for name in ("suite", "operation", "layout", "dtype", "implementation")),
            str(row["shapes"]),
            f"{row['geometric_mean']:.2f}",
            f"{row['worst']:.2f}",
            f"{row['first_geometric_mean']:.2f}",
        )
    return table


def steps_table(timings: list[StepTiming]) -> Table:
    """Training steps of one network."""
    first = timings[0]
    title = f"Training step of {first.network}, batch of {first.batch_size}, {first.layout}, {first.device}"
    table = Table(title=title, title_justify="left")
    for name in ("", "ms", "spread", "images/s", "for normalization"):
        table.add_column(name, justify="left" if not name else "right")
    for timing in timings:
        table.add_row(
            timing.implementation,
            f"{timing.milliseconds:.3g}",
            f"{timing.spread:.0%}",
            f"{timing.images_per_second:.0f}",
            f"{timing.share:.0%}",
        )
    return table


def save(path: Path, timings: list[Timing], plan: Plan, provenance: dict, steps: list[StepTiming]) -> None:
    """Write all figures as JSON."""
    record = {
        "provenance": provenance,
        "plan": {**vars(plan)},
        "noise": noise(timings),
        "noisy": noise(timings) > NOISY,
        "summary": summary(timings),
        "timings": [timing.to_dict() for timing in timings],
        "steps": [timing.to_dict() for timing in steps],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, allow_nan=False, default=str) + "\n", encoding="utf-8")


def load(path: Path) -> list[Timing]:
    """Read the timings of a file that :func:`save` has written."""
    names = {field.name for field in fields(Case)}
    timings = []
    for row in json.loads(path.read_text(encoding="utf-8"))["timings"]:
        row["shape"] = tuple(row["shape"])
        timings.append(Timing(Case(**{name: row.pop(name) for name in names}), **row))
    return timings


def plot_ratios(timings: list[Timing]):
    """Draw how many times as fast as torch everybody is, over the size of the input; a dot for each shape."""
    import matplotlib.pyplot as plt

    groups: dict[tuple[str, str], dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for (_, operation, layout, _), its in ratios(timings).items():
        for name, pairs in its.items():
            groups[operation, layout][name] += [(timing.case.bytes / 2**20, ratio) for timing, ratio in pairs]
    rows = math.ceil(len(groups) / 2) or 1
    figure, axes = plt.subplots(rows, 2, figsize=(7, 2.6 * rows), sharex=True, sharey=True, squeeze=False)
    panels = sorted(groups.items(), key=lambda item: (item[0][0] != "forward", item[0]))
    for ax, ((operation, layout), its) in zip(axes.ravel(), panels, strict=False):
        for place, (name, points) in enumerate(sorted(its.items())):
            ax.plot(*zip(*sorted(points), strict=True), "os^Dv"[place % 5], color=f"C{place}", label=name, alpha=0.8)
        ax.axhline(1, color="black", lw=1)
        ax.set(title=f"{operation}, {layout}", xscale="log", yscale="log")
        _label_plainly(ax)
    for ax in axes[-1]:
        ax.set_xlabel("input in MiB")
    for ax in axes[:, 0]:
        ax.set_ylabel("times as fast as torch")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize="small")
    return figure


def _label_plainly(ax) -> None:
    """Let logarithmic axes say 0.5, 1, 2 rather than powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def plot_roofline(timings: list[Timing]):
    """Draw the bandwidth that each implementation reaches, counting the bytes of the floor, beside that of a copy."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    copies = {timing.case: timing for timing in timings if timing.name == "copy"}
    places: dict[str, int] = {}
    for timing in timings:
        if timing.milliseconds is None or timing.name == "copy":
            continue
        place = places.setdefault(timing.name, len(places))
        copy = copies[timing.case]
        reached = timing.of_floor * 2 * timing.case.bytes / copy.milliseconds / 1e6  # GB/s of the copy, times the share
        ax.plot(timing.case.bytes / 2**20, reached, "os^Dv"[place % 5], color=f"C{place}", alpha=0.7)
    for name, place in places.items():
        ax.plot([], [], "os^Dv"[place % 5], color=f"C{place}", label=name)
    rates: dict[float, list[float]] = defaultdict(list)
    for case, copy in copies.items():
        rates[case.bytes / 2**20].append(2 * case.bytes / copy.milliseconds / 1e6)
    line = [(size, statistics.median(its)) for size, its in sorted(rates.items())]
    ax.plot(*zip(*line, strict=True), "-", color="black", lw=1, label="a copy (median)")
    ax.set(xscale="log", yscale="log", xlabel="input in MiB", ylabel="GB per second that must move")
    _label_plainly(ax)
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    return figure
