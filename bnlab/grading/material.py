"""What a problem set is graded with: the released notebook, the checks, the seed. Everything that decides a score.

It holds contents, not paths, so that it can be sent to another machine; and it has a fingerprint, so that a submission
is graded again exactly where something that matters has changed.
"""

import hashlib
import os
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass, fields
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from bnlab.checks.problem_set import CASES_VARIABLE, SEED_VARIABLE, ProblemSet, load_problem_set

IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w.]+))", re.MULTILINE)
PACKAGES = ("numpy", "torch", "matplotlib", "ipython")  # their versions may change what a student's code computes


@dataclass(frozen=True)
class Material:
    """What the submissions of one problem set are graded with.

    Attributes
    ----------
    name : str
        The problem set's; also that of its notebook, without the suffix.
    released : str
        The notebook as it was handed out, as JSON.
    checks : str
        The text of ``checks.py``.
    seed, cases : int
        The grading seed, and how many inputs are drawn for every part of a question.
    """

    name: str
    released: str
    checks: str
    seed: int
    cases: int

    @classmethod
    def of_course(cls, course: Path, name: str) -> "Material":
        """Read a problem set's material from a course directory.

        Parameters
        ----------
        course : Path
            The nbgrader course directory.
        name : str
            The problem set.

        Raises
        ------
        CourseError
            The problem set was not built, released or recorded in the gradebook.
        """
        # nbgrader and its database stay out of the processes that only grade
        from bnlab.grading.course import check_course, grading_environment, load_course

        coursedir = load_course(course)
        check_course(coursedir, name)
        settings = {**os.environ, **grading_environment(course.resolve())}
        released = Path(coursedir.format_path(coursedir.release_directory, ".", name)) / f"{name}.ipynb"
        checks = Path(coursedir.format_path(coursedir.source_directory, ".", name)) / "checks.py"
        return cls(
            name,
            released.read_text(encoding="utf-8"),
            checks.read_text(encoding="utf-8"),
            int(settings[SEED_VARIABLE]),
            int(settings[CASES_VARIABLE]),
        )

    def __reduce__(self) -> tuple:
        """The contents alone can be sent: not what was loaded from them."""
        return type(self), tuple(getattr(self, part.name) for part in fields(self))

    @cached_property
    def notebook(self) -> NotebookNode:
        """The notebook as it was handed out. Copy it before you change it."""
        return nbformat.reads(self.released, as_version=4)

    @cached_property
    def problem_set(self) -> ProblemSet:
        """The checks, loaded into this process."""
        room = Path(tempfile.mkdtemp(prefix="bnlab-checks-"))
        try:
            (room / "checks.py").write_text(self.checks, encoding="utf-8")
            return load_problem_set(room / "checks.py")
        finally:
            shutil.rmtree(room)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """What the notebook and the checks import: worth importing once for all submissions."""
        code = [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]
        return _imported("\n".join([*code, self.checks]))

    @cached_property
    def modules_of_checks(self) -> tuple[str, ...]:
        """What the checks alone import: worth importing once for all who ask the questions."""
        return _imported(self.checks)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the released notebook, the checks, the seed, the course's code and the environment."""
        parts = [self.name, self.released, self.checks, str(self.seed), str(self.cases), own_code()]
        parts += [f"{name} {version}" for name, version in environment().items()]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part.encode())
        return digest.hexdigest()


def _imported(code: str) -> tuple[str, ...]:
    found = [name for match in IMPORT.finditer(code) for name in match.groups() if name]
    return tuple(name for name in dict.fromkeys(found) if name != "checks")


@cache
def own_code() -> str:
    """SHA-256 over the course's own modules: the checks and the grader are among them."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def environment() -> dict[str, str]:
    """Versions of what a student's code runs with; "absent" for what is not installed."""

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "absent"

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
