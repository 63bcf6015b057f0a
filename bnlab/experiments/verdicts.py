"""The verdict on every claim, collected from the results of all experiments that judge it.

The page *The verdicts* and ``python -m bnlab.experiments verdicts`` print what `collect` returns. No verdict is written
down anywhere else, so none can drift away from the measurements.
"""

from dataclasses import dataclass

from bnlab.experiments.claims import CLAIMS
from bnlab.experiments.conduct import Experiment, find, names, recall, recorded
from bnlab.experiments.result import VERDICTS, Result, Verdict

# The problem sets in which students test a claim themselves: their labels in the book.
SETS = {
    "ch-ps1": ("C01", "C02"),
    "ch-ps2": ("C12", "C13", "C14", "C21", "C23"),
    "ch-ps3": ("C09",),
    "ch-ps4": ("C14", "C22"),
    "ch-ps5": ("C03", "C04", "C05", "C06", "C07", "C08", "C24"),
    "ch-ps6": ("C10", "C11", "C18"),
    "ch-ps7": ("C19", "C20"),
    "ch-ps8": ("C16",),
}

SIGNS = {"holds": "✓", "conditions": "±", "refuted": "✗", "open": "?"}


@dataclass(frozen=True)
class Evidence:
    """What one run of one experiment says about a claim."""

    experiment: Experiment
    result: Result
    verdict: Verdict


@dataclass(frozen=True)
class Judgment:
    """A claim with all the evidence on it.

    Attributes
    ----------
    claim : str
        Such as "C07".
    evidence : tuple of Evidence
    """

    claim: str
    evidence: tuple[Evidence, ...]

    @property
    def verdict(self) -> str:
        """A key of `VERDICTS`: what all the evidence agrees on, "conditions" where it is mixed, "open" without any."""
        found = {item.verdict.verdict for item in self.evidence} - {"open"}
        return "open" if not found else found.pop() if len(found) == 1 else "conditions"

    @property
    def mixed(self) -> bool:
        """Whether two pieces of evidence differ; an open one is no evidence."""
        return len({item.verdict.verdict for item in self.evidence} - {"open"}) > 1


def collect(budget: str = "small") -> list[Judgment]:
    """Return the judgment of every claim, in the order of their ids.

    Parameters
    ----------
    budget : {"small", "full"}
        "small" takes up small runs or runs them now; "full" takes recorded full runs only.
    """
    evidence = {claim: [] for claim in CLAIMS}
    for name in names():
        module = find(name)
        if not module.EXPERIMENT.claims:
            continue
        result = recall(name) if budget == "small" else recorded(name)
        for verdict in module.verdicts(result) if result else ():
            evidence[verdict.claim].append(Evidence(module.EXPERIMENT, result, verdict))
    return [Judgment(claim, tuple(items)) for claim, items in evidence.items()]


def as_markdown(judgments: list[Judgment]) -> str:
    """Return a MyST table, one row per claim: the verdict, the numbers with their spread, and where to go on.

    It stands in a block of class ``bn-verdicts``, which the site's style sheet turns into cards on a phone.
    """
    lines = [":::{div} bn-verdicts", "", "| Claim and verdict | Measured | Read, repeat, try |", "|---|---|---|"]
    for judgment in judgments:
        measured = [f"**{e.verdict.number}** {e.verdict.what}. {e.verdict.because}" for e in judgment.evidence]
        if judgment.mixed:
            measured.append("The evidence is mixed.")
        links = []
        for item in judgment.evidence:
            links.append(f"{{ref}}`{item.experiment.section}`")
            links.append(f"`{item.experiment.name}`, {len(item.result.seeds)} seeds")
        links += [f"{{ref}}`{label}`" for label, claims in SETS.items() if judgment.claim in claims]
        cells = (
            f"**{judgment.claim}** {CLAIMS[judgment.claim]}<br>"
            f"{SIGNS[judgment.verdict]} **{VERDICTS[judgment.verdict]}**",
            "<br>".join(measured) or "not measured yet",
            "<br>".join(dict.fromkeys(links)),
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join([*lines, "", ":::"])


def plot(judgments: list[Judgment]):
    """Draw a tile for every claim, with the sign of its verdict."""
    import matplotlib.pyplot as plt

    colors = {"holds": "C2", "conditions": "C4", "refuted": "C1", "open": "0.7"}
    figure, ax = plt.subplots(figsize=(6.4, 3.9))
    for k, judgment in enumerate(judgments):
        column, row = k % 6, k // 6
        ax.add_patch(plt.Rectangle((column, -row), 0.94, 0.9, color=colors[judgment.verdict], alpha=0.35, lw=0))
        ax.text(column + 0.47, 0.6 - row, judgment.claim, ha="center", va="center", size=10)
        ax.text(column + 0.47, 0.27 - row, SIGNS[judgment.verdict], ha="center", va="center", size=17, weight="bold")
    ax.set(xlim=(0, 6), ylim=(-((len(judgments) - 1) // 6) - 0.55, 1))
    ax.axis("off")
    seen = [name for name in VERDICTS if any(j.verdict == name for j in judgments)]
    ax.text(
        3,
        -((len(judgments) - 1) // 6) - 0.4,
        "   ".join(f"{SIGNS[v]} {VERDICTS[v]}" for v in seen),
        ha="center",
        size=10,
    )
    return figure
