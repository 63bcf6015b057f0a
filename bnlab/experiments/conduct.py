"""How an experiment is run: unit by unit, resumable, with its provenance; and how a page takes up a finished run.

An experiment is a module of this package with an `EXPERIMENT`, a `run`, a `plot` and `verdicts`. Its `run` splits the
work into units and calls `conduct`, which measures each unit that isn't in the journal yet. `recall` gives a page the
result of the very code that is installed: from the cache, or by running it.
"""

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from time import perf_counter, sleep

from bnlab.experiments.claims import CLAIMS
from bnlab.experiments.result import Result, Verdict, plain

BUDGETS = ("small", "full")
PACKAGES = ("numpy", "torch", "scikit-learn", "numba")  # whose versions can change a result
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Experiment:
    """What an experiment is about.

    Attributes
    ----------
    name : str
        The name of its module.
    title : str
    claims : tuple of str
        Ids of the claims that it judges.
    section : str
        The label of the section of the book that teaches it.
    fair : str
        What makes the comparison fair: initialization, optimizer, schedule, and how learning rates were chosen.
    packages : tuple of str
        Packages, besides NumPy, torch, scikit-learn and numba, whose versions can change the result.
    cpu_only : bool
        Whether it computes on the CPU alone, and so refuses another device.
    """

    name: str
    title: str
    claims: tuple[str, ...]
    section: str
    fair: str
    packages: tuple[str, ...] = ()
    cpu_only: bool = False

    def __post_init__(self):
        unknown = [claim for claim in self.claims if claim not in CLAIMS]
        if unknown:
            raise ValueError(f"{self.name} judges {unknown}, which are no claims: see bnlab.experiments.CLAIMS")

    def check_device(self, device) -> None:
        """Refuse a device that torch can't use here, or that this experiment doesn't use.

        Raises
        ------
        ValueError
            Saying which it can.
        """
        if str(device) == "cpu":
            return
        if self.cpu_only:
            raise ValueError(f"the device is {str(device)!r}, but {self.name} computes on the CPU only: give 'cpu'")
        import torch

        try:
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"the device {str(device)!r} can't be used here: give 'cpu', or 'cuda' where torch finds a GPU"
            ) from error


class Share:
    """The part of one process in a run that several processes share through one journal: whoever is free takes a unit.

    Parameters
    ----------
    taken : dict
        Which process has taken which unit; a dictionary that all of them see, as `multiprocessing.Manager` makes it.
    number, of : int
        Which of how many processes this is. Each begins at another place of the list, so that neighbors, which often
        have some preparation in common, stay together.
    """

    def __init__(self, taken, number: int = 0, of: int = 1):
        self.taken, self.number, self.of = taken, number, of

    def order(self, keys: list[str]) -> list[str]:
        """Return the units' keys in the order in which this process asks for them."""
        first = len(keys) * self.number // self.of
        return keys[first:] + keys[:first]

    def takes(self, key: str) -> bool:
        """Take a unit, unless another process has it."""
        return self.taken.setdefault(key, self.number) == self.number

    def returns(self, key: str) -> None:
        """Leave a unit that couldn't be measured to the others, so that none waits for it."""
        self.taken.pop(key, None)


class Journal:
    """Remembers measured units, in a file if it has a path, so that a run that was cut off goes on where it stopped.

    Parameters
    ----------
    path : path or None
        A file of JSON lines, made where it doesn't exist. None keeps everything in memory.
    advance : callable or None
        Called as ``advance(done, total)`` after every unit, and once before the first; of a shared run, with the units
        of this share.
    share : Share or None
        Where several processes write into this file. None measures everything here.
    """

    def __init__(self, path=None, advance: Callable[[int, int], None] | None = None, share: Share | None = None):
        self.path = None if path is None else Path(path)
        self.advance = advance or (lambda done, total: None)
        self.share = share or Share({})
        self.entries = {}
        if self.path and self._read()[-1:] not in ("", "\n"):
            self._write("\n")  # what comes next must not continue a cut line

    def measure(self, units: Iterable[dict], compute: Callable[[dict], object]) -> list[dict]:
        """Return the entry of each unit, {"unit", "rows", "seconds"}; compute those that there are none of."""
        units = list(units)
        keys = [json.dumps(plain(unit), sort_keys=True) for unit in units]
        wanted = dict(zip(keys, units, strict=True))
        missing, done = self.share.order(list(wanted)), 0
        self.advance(0, len(wanted))
        while missing:
            for key in missing:
                if self.share.takes(key):
                    if key not in self.entries:
                        self._compute(key, wanted[key], compute)
                    done += 1
                    self.advance(done, len(wanted))
            missing = [key for key in missing if key not in self.entries]
            if missing:  # the others are still at work on them
                sleep(0.1)
                self._read()
        return [self.entries[key] for key in keys]

    def _compute(self, key: str, unit: dict, compute: Callable[[dict], object]) -> None:
        start = perf_counter()
        try:
            rows = compute(unit)
            rows = [rows] if isinstance(rows, dict) else list(rows)  # a generator does its work here
        except BaseException:
            self.share.returns(key)
            raise
        seconds = perf_counter() - start
        self.entries[key] = {"unit": key, "rows": plain([{**unit, **row} for row in rows]), "seconds": seconds}
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(json.dumps(self.entries[key]) + "\n")

    def _read(self) -> str:
        """Take up what the file has."""
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.entries[entry["unit"]] = {key: entry[key] for key in ("unit", "rows", "seconds")}
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # a line that is being written or was when the run was cut off, or that is none of ours
        return text

    def _write(self, text: str) -> None:
        with self.path.open("ab", buffering=0) as file:  # in one piece: others may be writing too
            file.write(text.encode())


def conduct(
    experiment: Experiment,
    units: Iterable[dict],
    measure: Callable[[dict], dict | list[dict]],
    *,
    seeds: Sequence[int],
    device: str,
    budget: str,
    settings: dict | None = None,
    journal: Journal | None = None,
) -> Result:
    """Measure every unit and return the rows, in the order of the units.

    Parameters
    ----------
    experiment : Experiment
    units : iterable of dict
        What to measure: plain values. A unit should take seconds, not minutes: it is the step of the progress bar,
        what is lost when a run is cut off, and what processes that share a run take in turn.
    measure : callable
        ``measure(unit)`` returns a row or yields rows (dictionaries); the unit's own entries are added to each.
    seeds, device, budget
        As given to the experiment's `run`.
    settings : dict
        What else defines this run, for the record.
    journal : Journal or None
        Where finished units are remembered.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        For a budget that is neither "small" nor "full", no or repeated seeds, or a device that can't be used.
    """
    seeds = _checked(seeds, budget)
    experiment.check_device(device)
    entries = (journal or Journal()).measure(units, measure)
    result = Result(
        experiment=experiment.name,
        budget=budget,
        device=str(device),
        seeds=seeds,
        settings=plain(settings or {}),
        rows=[row for entry in entries for row in entry["rows"]],
        seconds=sum(entry["seconds"] for entry in entries),
        provenance=provenance(
            f"python -m bnlab.experiments run {experiment.name} "
            f"--seeds {len(seeds)} --device {device} --budget {budget}",
            device,
            experiment.packages,
        ),
    )
    # as if read from a file: fresh and recalled results can't differ in a type
    return Result(**{**vars(result), "rows": _through_json(result.rows)})


def names() -> list[str]:
    """Return the names of all experiments, in the alphabet's order."""
    found = []
    for module in iter_modules([str(Path(__file__).parent)]):
        source = (Path(__file__).parent / f"{module.name}.py").read_text() if not module.ispkg else ""
        if "\nEXPERIMENT = " in source:
            found.append(module.name)
    return sorted(found)


def find(name: str):
    """Return the module of an experiment.

    Raises
    ------
    ValueError
        If there is no such experiment.
    """
    if name not in names():
        raise ValueError(f"there is no experiment {name!r}: give one of {', '.join(names())}")
    return import_module(f"bnlab.experiments.{name}")


def recall(name: str, budget: str = "small") -> Result:
    """Return the result of the installed code with five seeds on the CPU: from the cache, or by running it now.

    The cache is the folder named by the environment variable BNLAB_CACHE, else a folder ``bnlab`` in the user's cache
    directory. A result is taken from there only if nothing that it was computed with has changed: the source files that
    the experiment imports, and the versions of Python, NumPy, torch, scikit-learn and numba.

    Parameters
    ----------
    name : str
        An experiment: one of `names()`.
    budget : {"small", "full"}
    """
    module = find(name)
    path = cached(name, budget)
    if path.exists():
        return Result.load(path)
    journal = Journal(path.with_suffix(".jsonl"))
    result = module.run(budget=budget, journal=journal)
    result.save(path)
    journal.path.unlink(missing_ok=True)
    return result


def recorded(name: str) -> Result | None:
    """Return the recorded full run, ``book/results/NAME.json``, or None where none has been recorded.

    Pages are executed in ``book/``, tests in the repository's root: the file is looked for from both.
    """
    for folder in (Path("results"), Path("book/results")):
        if (folder / f"{name}.json").exists():
            return Result.load(folder / f"{name}.json")
    return None


def expect(result: Result, **verdicts: str) -> None:
    """See to it that a page's printed verdict is the measured one.

    Where it isn't, a build with the environment variable CI stops. Elsewhere, on a machine whose rounding tips a close
    verdict, the page shows a box that says so, and the build goes on: a reader's build should not fail for that.

    Parameters
    ----------
    result : Result
    **verdicts : str
        What the page says, as in ``expect(result, C07="conditions")``.

    Raises
    ------
    AssertionError
        If the experiment has no verdict on the claim; where CI is set, also if the verdict differs.
    """
    found: dict[str, Verdict] = {verdict.claim: verdict for verdict in find(result.experiment).verdicts(result)}
    for claim, printed in verdicts.items():
        if claim not in found:
            raise AssertionError(f"{result.experiment} says nothing about {claim}, only about {sorted(found)}")
        measured = found[claim]
        if measured.verdict != printed:
            number = f"{measured.number} {measured.what}"
            _part(
                f"the page says {claim} {printed!r}, but {result.experiment} measured {measured.verdict!r}: {number}",
                f"{claim} came out as **{measured.words}**: {number}.",
            )


def holds(condition, *details) -> None:
    """See to it that what a page says in words is what its cells computed; as `expect`, for everything but verdicts.

    Parameters
    ----------
    condition : bool
        What must be true for the text to be, as in ``holds(error["bn"] < error["plain"])``.
    *details
        What to show where it isn't.

    Raises
    ------
    AssertionError
        If the condition is false and the environment variable CI is set.
    """
    if not condition:
        call = " ".join([traceback.extract_stack(limit=2)[0].line or "holds(...)", *map(str, details)])
        _part(f"the page's words don't fit its numbers: {call}", f"one number isn't as the text says: `{call}`.")


def _part(error: str, note: str) -> None:
    """Stop the build in CI; elsewhere put a box on the page."""
    if os.environ.get("CI"):
        raise AssertionError(f"{error}. Look at the numbers, then change the page or the experiment")
    from IPython.display import Markdown, display

    display(Markdown(f"```{{warning}}\nOn the machine that built this page, {note}\n```"))


def cached(name: str, budget: str, seeds: Sequence[int] = range(5), device: str = "cpu") -> Path:
    """Return where the cache has, or would have, a result of the installed code."""
    folder = os.environ.get("BNLAB_CACHE")
    if not folder:
        from platformdirs import user_cache_dir

        folder = user_cache_dir("bnlab")
    key = json.dumps([fingerprint(name), list(seeds), str(device)])
    return Path(folder) / f"{name}-{budget}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def fingerprint(name: str) -> str:
    """Return a hash of what an experiment's numbers depend on: its sources and the versions of what they use."""
    digest = hashlib.sha256(platform.python_version().encode())
    for package, number in versions(find(name).EXPERIMENT.packages).items():
        digest.update(f"{package}=={number}".encode())
    for path in sorted(_sources(PACKAGE / "experiments" / f"{name}.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def versions(further: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of the packages that can change a result, as far as they are installed."""
    found = {}
    for package in (*PACKAGES, *further):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def provenance(command: str, device: str = "cpu", packages: Iterable[str] = ()) -> dict:
    """Return command, commit, date, machine and versions of a run that takes place now."""
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(device),
        "python": platform.python_version(),
        **versions(packages),
    }


def _checked(seeds, budget) -> list[int]:
    if budget not in BUDGETS:
        raise ValueError(
            f"the budget is {budget!r}: give 'small' (under a minute) or 'full' (what a results file records)"
        )
    seeds = [int(seed) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"the seeds are {seeds}: give at least one, each once; five or more give an honest spread")
    return seeds


def _through_json(rows):
    from bnlab.experiments.result import _restored

    return _restored(json.loads(json.dumps(plain(rows), allow_nan=False)))


def _sources(path: Path, seen: set[Path] | None = None) -> set[Path]:
    """Return a source file and all files of bnlab that it imports, directly or not."""
    seen = set() if seen is None else seen
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            if module and module.split(".")[0] == "bnlab":
                inner = PACKAGE.joinpath(*module.split(".")[1:])
                _sources(inner.with_suffix(".py"), seen)
                # The experiments' __init__ imports every part of the framework: a run depends on what it names only.
                if inner != PACKAGE and inner != PACKAGE / "experiments":
                    _sources(inner / "__init__.py", seen)
    return seen


def _commit() -> str:
    try:
        git = ["git", "-C", str(PACKAGE.parent)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "bnlab"], capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not run from a repository"
    return f"{commit} with changes" if changed.strip() else commit


def _machine(device) -> str:
    if str(device).startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"
