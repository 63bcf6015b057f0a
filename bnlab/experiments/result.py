"""What an experiment leaves behind: rows of measurements, numbers with their spread, and verdicts on claims.

`Result` is a table with its provenance, saved as strict JSON. `Estimate` is a median with an interval, `Verdict` a
judgment of a claim with the number it rests on. Nothing here runs an experiment (that is `bnlab.experiments.conduct`)
or knows what one measures. NumPy only.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from os import replace
from pathlib import Path

import numpy as np

VERDICTS = {
    "holds": "holds",
    "conditions": "holds with conditions",
    "refuted": "refuted",
    "open": "open",
}
COVERAGE = 0.9375  # what the range of five values has: 1 - 2 / 2**5


@dataclass(frozen=True)
class Estimate:
    """The median of independent runs and an interval for the median of all runs there could be.

    Attributes
    ----------
    median, low, high : float
        `low` and `high` are two of the values: the narrowest symmetric pair that covers the true median with a
        probability of at least 93.75 %, whatever the distribution. For five values these are the smallest and the
        largest; with fewer, the interval is as wide as the values, and covers less.
    n : int
        How many values.
    unit : str
        Such as "steps"; empty for a pure number.

    References
    ----------
    W. J. Conover (1999), Practical Nonparametric Statistics, 3rd edition, section 3.2.
    """

    median: float
    low: float
    high: float
    n: int
    unit: str = ""

    @classmethod
    def of(cls, values, unit: str = "") -> "Estimate":
        """Summarize values, one per seed. Infinite ones ("never") take part; NaN ones count as infinite.

        Raises
        ------
        ValueError
            If there is no value.
        """
        values = np.sort(
            np.nan_to_num(np.asarray(values, dtype=float).ravel(), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        )
        n = len(values)
        if n == 0:
            raise ValueError("there are no values to summarize: give at least one, better one per seed")
        cut = 0  # leaving out one value at each end costs coverage; go on as long as enough is left
        missed = 2 * 0.5**n
        while 2 * (cut + 1) < n:
            missed += 2 * math.comb(n, cut + 1) * 0.5**n
            if 1 - missed < COVERAGE:
                break
            cut += 1
        # the mean of two infinite middle values must not be NaN
        lower, upper = values[(n - 1) // 2], values[n // 2]
        median = lower if lower == upper else (lower + upper) / 2
        return cls(float(median), float(values[cut]), float(values[n - 1 - cut]), n, unit)

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        text = f"{_number(self.median, spec)} ({_number(self.low, spec)} to {_number(self.high, spec)})"
        return f"{text} {self.unit}" if self.unit else text

    def __str__(self) -> str:
        return format(self, "")


@dataclass(frozen=True)
class Verdict:
    """What an experiment says about a claim.

    Attributes
    ----------
    claim : str
        Such as "C07": a key of `bnlab.experiments.CLAIMS`.
    verdict : str
        A key of `VERDICTS`: "holds", "conditions", "refuted" or "open" (not measured, or not decided by the numbers).
    number : Estimate or None
        The number it rests on; None only for an open verdict.
    what : str
        What the number is, so that "NUMBER WHAT" reads as a phrase: "times fewer steps to 95 % with BN".
    because : str
        One sentence: the conditions, or what else was seen.
    """

    claim: str
    verdict: str
    number: Estimate | None
    what: str
    because: str

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"the verdict on {self.claim} is {self.verdict!r}: give one of {', '.join(VERDICTS)}")
        if self.number is None and self.verdict != "open":
            raise ValueError(f"the verdict on {self.claim} has no number: measure one, or leave the claim open")

    @property
    def words(self) -> str:
        """The verdict as it is printed, such as "holds with conditions"."""
        return VERDICTS[self.verdict]


@dataclass
class Result:
    """The measurements of one run of an experiment.

    Attributes
    ----------
    experiment : str
        The experiment's name.
    budget : {"small", "full"}
    device : str
        As torch names it.
    seeds : list of int
    settings : dict
        What else defines the run: grids, sizes, steps.
    rows : list of dict
        Flat dictionaries of plain values (numbers, strings, lists), one per measurement.
    seconds : float
        Wall-clock time that the measurements took, all together.
    provenance : dict
        Command, commit, date, machine and versions.
    """

    experiment: str
    budget: str
    device: str
    seeds: list
    settings: dict
    rows: list
    seconds: float
    provenance: dict = field(default_factory=dict)

    def select(self, **where) -> list[dict]:
        """Return the rows whose columns have the values given, as in ``select(arm="bn", depth=8)``."""
        return [row for row in self.rows if all(key in row and row[key] == value for key, value in where.items())]

    def column(self, name: str, /, **where) -> np.ndarray:
        """Return one column of the selected rows as an array, in the order of the rows.

        Raises
        ------
        KeyError
            If no row is selected, or if a selected row has no such column.
        """
        rows = self.select(**where)
        if not rows:
            seen = {key: sorted({str(row.get(key)) for row in self.rows}) for key in where}
            raise KeyError(f"no row of {self.experiment} has {where}; there are {seen}")
        missing = [row for row in rows if name not in row]
        if missing:
            raise KeyError(
                f"{len(missing)} of {len(rows)} rows have no {name!r}; the first one has {sorted(missing[0])}"
            )
        return np.array([row[name] for row in rows])

    def save(self, path) -> Path:
        """Write the result as JSON, in one step: a file is never half written.

        Not-a-number and infinite values, which JSON lacks, become the strings "NaN", "Infinity" and "-Infinity".
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{id(self):x}.part")
        draft.write_text(json.dumps(plain(asdict(self)), indent=1, allow_nan=False) + "\n")
        replace(draft, path)
        return path

    @classmethod
    def load(cls, path) -> "Result":
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it isn't a saved result.
        """
        path = Path(path)
        try:
            fields = _restored(json.loads(path.read_text()))
            return cls(**fields)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
            raise ValueError(
                f"{path} isn't a saved result ({error}): remove it and run the experiment again"
            ) from error


def plain(value):
    """Return a value as strict JSON has it: NumPy's and torch's numbers and arrays become Python's."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy scalar or array, or a tensor
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"a result can't hold {value!r} ({type(value).__name__}): give numbers, strings, lists or dictionaries"
    )


def _restored(value):
    if isinstance(value, dict):
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


def _number(value: float, spec: str) -> str:
    if math.isinf(value):
        return "never" if value > 0 else "-∞"
    # "1e+03" is no way to print a thousand
    if spec.endswith("g") and 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return format(value, spec)
