"""A course directory: whether it is ready for grading, the seed of its grading runs, and nbgrader's commands in it.

nbgrader itself makes an empty gradebook where there is none, and then finds no assignment in it; without ``source/`` it
grades with whatever ``checks.py`` a student handed in. Here both are errors that say what to type.
"""

import contextlib
import difflib
import io
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import sqlalchemy
from jupyter_core.application import NoStart
from nbgrader.apps import NbGraderApp
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config, PyFileConfigLoader

from bnlab.checks.problem_set import CASES_VARIABLE, SEED_VARIABLE
from bnlab.grading.confine import Limits
from bnlab.grading.sandbox import Sandbox

GRADING_CASES = 5  # a student's copy draws 3


class CourseError(Exception):
    """A course directory is not ready: what is missing, and what to do."""


def grading_environment(course: Path) -> dict[str, str]:
    """Environment variables by which the checks draw other inputs than a student's copy, and more of them.

    Parameters
    ----------
    course : Path
        Its file ``grading_seed`` keeps the seed, so that grading again gives the same score. It is made when it is
        missing. ``BNLAB_SEED`` in the environment goes first.

    Returns
    -------
    dict of str to str

    Raises
    ------
    CourseError
        The file holds no seed.
    """
    if SEED_VARIABLE in os.environ:
        return {CASES_VARIABLE: str(GRADING_CASES)}
    path = course / "grading_seed"
    try:
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as made:
            made.write(f"{secrets.randbits(63)}\n")
    except FileExistsError:
        pass
    seed = path.read_text(encoding="ascii", errors="replace").strip()
    if not (seed.isascii() and seed.isdigit()):
        raise CourseError(f"{path} holds {seed[:20]!r}, expected one whole number: delete the file for a new seed")
    return {SEED_VARIABLE: seed, CASES_VARIABLE: str(GRADING_CASES)}


def preflight(course: Path, name: str) -> None:
    """Look whether the submissions of a problem set can be graded.

    Parameters
    ----------
    course : Path
        The nbgrader course directory.
    name : str
        The problem set.

    Raises
    ------
    CourseError
        The first thing that is missing: the configuration, the source, the release, the gradebook, submissions.
    """
    coursedir = load_course(course)
    check_course(coursedir, name)
    pattern = f"{coursedir.submitted_directory}/*/{name}/*.ipynb"
    students = {path.parent.parent.name for path in Path(coursedir.root).glob(pattern)}
    unusable = sorted(filter(name_problem, students))
    if unusable and len(unusable) == len(students):  # beside others, autograde leaves them out
        raise CourseError(f"{unusable[0]!r} in {coursedir.submitted_directory}: {name_problem(unusable[0])}")
    if not students:
        raise CourseError(
            f"nobody has handed in {name}, there is no {pattern}: collect submissions: nbgrader zip_collect {name}"
        )


def load_course(course: Path) -> CourseDirectory:
    """nbgrader's settings for the directories and the gradebook of a course.

    Raises
    ------
    CourseError
        There is no ``nbgrader_config.py``.
    """
    course = course.resolve()
    if not (course / "nbgrader_config.py").is_file():
        raise CourseError(f"{course} has no nbgrader_config.py, so it is no course directory: name another one")
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    _check_late_policy(config)
    return CourseDirectory(config=config, root=str(course))


def _check_late_policy(config: Config) -> None:
    """A policy that nbgrader would pass over in silence: settings that there are none, or nobody to read them."""
    if "LatePolicy" not in config:
        return
    from bnlab.grading.late import LatePolicy

    known = sorted(set(LatePolicy.class_trait_names(config=True)))
    for name in config.LatePolicy:
        if name not in known:
            raise CourseError(f"c.LatePolicy has no setting {name!r}, it has {', '.join(known)}: correct the name")
    if not config.AssignLatePenalties.get("plugin_class"):
        raise CourseError(
            "c.LatePolicy is set in nbgrader_config.py, but nothing reads it: add "
            'c.AssignLatePenalties.plugin_class = "bnlab.grading.late.LatePolicy"'
        )


def check_course(coursedir: CourseDirectory, name: str) -> None:
    """Look whether `name` was built, released and recorded in the gradebook. Raises :class:`CourseError` where not."""
    root = Path(coursedir.root)
    built = sorted(path.parent.name for path in root.glob(f"{coursedir.source_directory}/*/*.ipynb"))
    if name not in built:
        has = f"it has {', '.join(built)}" if built else "it has none"
        near = difflib.get_close_matches(name, built, n=1, cutoff=0.3)
        raise CourseError(
            f"{root / coursedir.source_directory} has no problem set {name!r}, {has}: "
            + (f"did you mean {near[0]}? If not: " if near else "")
            + f"bnlab exercises release {name}"
        )
    released = root / coursedir.release_directory / name
    release_it = f"nbgrader generate_assignment {name}"
    if not any(released.glob("*.ipynb")):
        raise CourseError(f"{released} has no notebook: release it first: {release_it}")
    known = assignments_in(coursedir.db_url)
    if name not in known:
        has = f"only {', '.join(known)}" if known else "nor any other"
        raise CourseError(f"the gradebook does not know {name}, {has}: record it: {release_it}")


def sandbox_of(coursedir: CourseDirectory) -> tuple[Sandbox, bool]:
    """The sandbox that a course's configuration names, and whether figures are to be drawn.

    Raises
    ------
    CourseError
        ``c.TrustedGrading`` has a limit or a sandbox that there is none.
    """
    settings = coursedir.config.TrustedGrading
    try:
        limits = Limits(**settings.get("limits", {}))
        return Sandbox(settings.get("sandbox", "bubblewrap"), limits), bool(settings.get("pictures", False))
    except (TypeError, ValueError) as error:
        raise CourseError(f"c.TrustedGrading in nbgrader_config.py: {error}") from None


def students_in(coursedir: CourseDirectory) -> list[str]:
    """Names of the folders (or whatever lies in their place) of those who handed something in, sorted."""
    submitted = Path(coursedir.root) / coursedir.submitted_directory
    if not submitted.is_dir():
        return []
    # Jupyter and others keep hidden folders of their own there.
    return sorted(
        path.name for path in submitted.iterdir() if not path.name.startswith(".") or any(path.glob("[!.]*/*.ipynb"))
    )


def name_problem(student: str) -> str:
    """Why nbgrader can't grade what lies in a folder of this name, or "" where it can."""
    if not student.isprintable():
        return "its folder's name has a line break or another character that can't be shown: rename the folder"
    if student.startswith("."):
        return "its folder's name begins with a dot, so it is hidden: rename the folder"
    wild = sorted(set(student) & set("[]*?"))
    if wild:  # nbgrader searches with the name as a pattern, and finds nothing, or another student's notebook
        return f"its folder's name has {' '.join(wild)}, which nbgrader takes for a pattern: rename the folder"
    return ""


def assignments_in(db_url: str) -> list[str]:
    """Names of the assignments that a gradebook knows. Unlike nbgrader, it makes no gradebook where there is none.

    Raises
    ------
    CourseError
        There is no gradebook, or it cannot be read.
    """
    make_it = "record a problem set in it: nbgrader generate_assignment NAME"
    try:
        url = sqlalchemy.make_url(db_url)
        if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).is_file():
            raise CourseError(f"there is no gradebook {url.database}: {make_it}")
        engine = sqlalchemy.create_engine(url)
        with contextlib.closing(engine.connect()) as connection:
            if not sqlalchemy.inspect(connection).has_table("assignment"):
                raise CourseError(f"the gradebook {url.render_as_string(hide_password=True)} is empty: {make_it}")
            return list(connection.execute(sqlalchemy.text("SELECT name FROM assignment ORDER BY name")).scalars())
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:  # ImportError: the database's driver
        why = str(error.__cause__ or error).strip().partition("\n")[0]
        raise CourseError(f"the gradebook cannot be read ({why}): check BNLAB_DB_URL in the environment") from error


def run_nbgrader(course: Path, *arguments: str, line: Callable[[str], None] = lambda text: None) -> tuple[int, str]:
    """Run one command of nbgrader's command line in a course directory, in this process.

    It does what ``cd COURSE; nbgrader ARGUMENTS`` does; only the seconds of starting Python and nbgrader are paid once.

    Parameters
    ----------
    course : Path
    arguments : str
        Such as ``"autograde", "ps1_scaling"``.
    line : callable, optional
        Called with every line of nbgrader's log as it is written.

    Returns
    -------
    status : int
        The exit status: 0 where all went well.
    log : str
    """
    log = _Lines(line)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    kept = dict(os.environ)
    status = 0
    app = NbGraderApp.instance()
    try:
        os.environ["PATH"] = programs  # nbgrader calls alembic
        with contextlib.chdir(course), contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
            app.initialize(list(arguments))
            with contextlib.suppress(NoStart):  # how a command with a subcommand says that it is done
                app.start()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        app.reset()
        os.environ.clear()
        os.environ.update(kept)
    return status, log.getvalue()


class _Lines(io.StringIO):
    """Text that is kept, and handed on line by line."""

    def __init__(self, line: Callable[[str], None]):
        super().__init__()
        self._line = line

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._line(line)
        return super().write(text)
