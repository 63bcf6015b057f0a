"""Prints the table of attacks at the end of a test run."""

import io

import pytest
from rich.console import Console

from .table import table


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    """The trials' rows travel on the tests' reports, also from the workers of pytest-xdist."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [value for report in reports for name, value in report.user_properties if name == "trial"]
    if rows:
        console = Console(file=io.StringIO(), width=140)
        console.print(table(rows))
        terminalreporter.write_line(console.file.getvalue())
