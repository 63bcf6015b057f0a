"""``python -m bnlab.benchmark``."""

from bnlab.benchmark.cli import main

main()
