"""The experiments behind the claims: one module each, all run, saved, plotted and judged in the same way.

A module `NAME` has

- ``EXPERIMENT``, an `Experiment`: title, the claims it judges, the section that teaches it, what makes it fair;
- ``run(seeds=range(5), device="cpu", budget="small", *, journal=None)``, which returns a `Result`;
- ``plot(result)``, which returns a matplotlib figure;
- ``verdicts(result)``, which returns one `Verdict` for each claim, computed from the rows.

``python -m bnlab.experiments list`` lists them, ``run NAME`` runs one. A page calls ``recall(NAME)``.
"""

from bnlab.experiments.claims import CLAIMS
from bnlab.experiments.conduct import Experiment, Journal, conduct, expect, find, names, recall, recorded
from bnlab.experiments.result import VERDICTS, Estimate, Result, Verdict

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Estimate",
    "Experiment",
    "Journal",
    "Result",
    "Verdict",
    "conduct",
    "expect",
    "find",
    "names",
    "recall",
    "recorded",
]
