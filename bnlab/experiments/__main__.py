"""``python -m bnlab.experiments``: see `bnlab.experiments.cli`."""

from bnlab.experiments.cli import app

app(prog_name="python -m bnlab.experiments")
