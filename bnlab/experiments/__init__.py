"""The experiments behind the claims: one module each, all run, saved, plotted and judged in the same way.

A module `NAME` has

- ``EXPERIMENT``, an `Experiment`: title, the claims it judges, the section that teaches it, what makes it fair;
- ``run(seeds=range(5), device="cpu", budget="small", *, journal=None)``, which returns a `Result`, and whose docstring
  says what the rows hold;
- ``plot(result)``, which returns a matplotlib figure;
- ``verdicts(result)``, which returns one `Verdict` for each claim, computed from the rows.

Every `run` takes the same: `seeds`, whole numbers, each of which draws weights, data and their order anew; `device`, as
torch names it, refused by an experiment that is `cpu_only`; `budget`, "small" (under a minute on two cores) or "full"
(what ``book/results`` records); and a `Journal`, with which a run that was cut off goes on where it stopped.

``python -m bnlab.experiments list`` lists them, ``run NAME`` runs one. A page calls ``recall(NAME)``.
"""

from bnlab.experiments.claims import CLAIMS
from bnlab.experiments.conduct import Experiment, Journal, conduct, expect, find, holds, names, recall, recorded
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
    "holds",
    "names",
    "recall",
    "recorded",
]
