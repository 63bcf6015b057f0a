"""What is installed here, what is missing for which part of the course, and what to type.

It looks and never installs.
"""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True)
class Finding:
    """One thing looked for.

    Attributes
    ----------
    part : str
        The part of the course that needs it.
    name : str
    version : str
        What was found; '' if nothing.
    remedy : str
        What to type where it is missing or too old.
    ok : bool
    """

    part: str
    name: str
    version: str
    remedy: str
    ok: bool


# (part of the course, distribution, oldest version that works, what to type)
PACKAGES = [
    ("NumPy problem sets", "numpy", "1.25", "pip install 'numpy>=1.25'"),
    ("NumPy problem sets", "matplotlib", "3.8", "pip install matplotlib"),
    ("NumPy problem sets", "jupyterlab", "4", "pip install jupyterlab"),
    ("torch chapters and sets", "torch", "2.11", "pip install torch (see pytorch.org for the build without CUDA)"),
    ("experiments", "scikit-learn", "1.4", "pip install 'bnlab[lab]'"),
    ("experiments", "mnist1d", "0.0.2", "pip install 'bnlab[lab]'"),
    ("experiments", "scikit-image", "0.22", "pip install 'bnlab[lab]'"),
    ("fast batch normalization on a CPU", "numba", "0.60", "pip install 'bnlab[fast]'"),
    ("batch normalization kernels for a GPU", "triton", "3.3", "pip install 'bnlab[gpu]'"),
    ("chapter on frameworks", "keras", "3.10", "pip install 'bnlab[frameworks]'"),
    ("chapter on frameworks", "flax", "0.12", "pip install 'bnlab[frameworks]'"),
    ("chapter on frameworks", "onnxruntime", "1.20", "pip install 'bnlab[frameworks]'"),
    ("building the website", "jupyter-book", "1.0.4", "in the repository: make book"),
    ("grading", "nbgrader", "0.9.5", "in the repository: make book"),
    ("grading", "jupytext", "1.16", "in the repository: make book"),
    ("grading", "sandlock", "0.9", "pip install sandlock (a second wall, on Linux)"),
    ("grading on several machines", "distributed", "2024.8", "pip install 'bnlab[grading]'"),
    ("a gradebook on PostgreSQL", "psycopg", "3.1", "pip install 'psycopg[binary]'"),
    ("the test suite", "pytest", "8", "in the repository: make test"),
]

# (part of the course, names of the program, what to type)
PROGRAMS = [
    ("grading", ("alembic",), "activate the environment in which nbgrader is installed"),
    ("grading", ("bwrap",), "apt-get install bubblewrap"),
    ("a gradebook on PostgreSQL", ("postgres", "pg_ctl", "psql"), "apt-get install postgresql"),
    ("Python in the pages", ("npm",), "apt-get install npm"),
    ("looking at the website in tests", ("chromium", "chromium-browser", "google-chrome"), "apt-get install chromium"),
]


def examine() -> list[Finding]:
    """Look for everything that some part of the course needs."""
    python = platform.python_version()
    findings = [Finding("everything", "Python", python, "install Python 3.11 or newer", sys.version_info >= (3, 11))]
    for part, name, oldest, remedy in PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            findings.append(Finding(part, name, "", remedy, False))
        else:
            findings.append(Finding(part, name, version, remedy, _numbers(version) >= _numbers(oldest)))
    for part, names, remedy in PROGRAMS:
        path = next((found for found in map(shutil.which, names) if found), None)
        findings.append(Finding(part, names[0], "found" if path else "", remedy, path is not None))
        if names[0] == "bwrap" and path:
            findings.append(_wall())
    return findings + _backends()


def _backends() -> list[Finding]:
    """Which code normalizes large batches here, on each device that there is."""
    try:
        import torch

        from bnlab import backends
    except ImportError:
        return []
    found = []
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        name = backends.choose(torch.empty(1, 1, backends.SMALL, device=device)).__name__.rpartition(".")[2]
        ours = name == backends.FASTEST.get(device)
        used = name if ours else "torch's own"
        remedy = "pip install 'bnlab[fast]': several times as fast"
        found.append(Finding("batch normalization", f"loops on {device}", used, remedy, ours or device != "cpu"))
    return found


def _wall() -> Finding:
    """Whether bubblewrap can keep submissions apart here: that the program is there doesn't say that it may."""
    part, name = "grading", "a wall around submissions"
    try:
        from bnlab.grading.sandbox import Sandbox, SandboxUnavailable
    except ImportError as error:
        return Finding(part, name, "", f"first install {error.name}: pip install 'bnlab[grading]'", False)
    try:
        Sandbox().probe()
    except SandboxUnavailable as error:
        return Finding(part, name, "", str(error), False)
    return Finding(part, name, "stands", "", True)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: '1.0.4.post1' -> (1, 0, 4)."""
    numbers = []
    for piece in version.split("+")[0].split("."):
        if not piece.isdigit():
            break
        numbers.append(int(piece))
    return tuple(numbers)
