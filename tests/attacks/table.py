"""The table of what came of the attacks."""

from rich.table import Table

COLUMNS = ("theme", "attack", "status", "score", "neighbors", "seconds", "held off")


def table(rows: list[dict[str, str]]) -> Table:
    """A table of `Trial.row`."""
    shown = Table(title="Hostile submissions", show_lines=False)
    for name in COLUMNS:
        shown.add_column(name, justify="right" if name in ("score", "seconds") else "left", overflow="fold")
    for row in sorted(rows, key=lambda row: (row["theme"], row["attack"])):
        shown.add_row(*(row[name] for name in COLUMNS))
    return shown
