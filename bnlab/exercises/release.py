"""Make what students get: nbgrader's release version, and a zip that holds all they need to work and to check.

The zip carries the notebook, its checks, a wheel of bnlab, and a page that says how to start.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bnlab.exercises.source import Source, SourceError

EARLIEST = (1980, 1, 1, 0, 0, 0)  # one date for all entries: the same content gives the same zip

README = """\
# {name}

{functions} functions to write{by_hand}, {points} points. You need Python 3.11 or newer.

Start, in this folder:

    python3 -m venv .venv
    source .venv/bin/activate
    pip install -r requirements.txt
    jupyter lab {name}.ipynb

The third line downloads what the set needs, for some minutes.{torch}

On Windows the first two lines are

    python -m venv .venv
    .venv\\Scripts\\activate

If you have done so for another problem set of this course, activate that environment and begin with the third line.

Work: replace each `raise NotImplementedError()` by your code, then run the cell below it. It says what is
right, what isn't yet, and what the likely mistake is. Points are given part by part.

Before you hand in, save, open a second terminal in this folder, activate the environment there too, and run the
whole notebook once from top to bottom, as the grader will:

    bnlab check {name}.ipynb

Hand in the file {name}.ipynb alone. Leave the cells in place: you may add cells, but don't delete,
copy or rename the ones that are there. Your grade comes from the same checks with other numbers.
"""

TORCH = """ PyTorch is part of that; on Linux it brings the libraries
for NVIDIA's graphics cards, some gigabytes. If you have no such card, install PyTorch's smaller version for processors
before the third line, in the activated environment, as https://pytorch.org/get-started shows.
"""


def release(source: Source, course: Path) -> Path:
    """Run ``nbgrader generate_assignment`` on a built problem set.

    Returns
    -------
    Path
        ``release/psN/``, the student version.

    Raises
    ------
    SourceError
        nbgrader refused; its last words are in the message. An earlier release stays as it was.
    """
    directory = course / "release" / source.name
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", source.name, "--force", "--log-level=WARN"]
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / source.name  # nbgrader deletes the release before it makes a new one
        if directory.is_dir():
            shutil.copytree(directory, kept)
        done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
        if done.returncode == 0 and (directory / f"{source.name}.ipynb").is_file():
            return directory
        if kept.is_dir():
            shutil.copytree(kept, directory, dirs_exist_ok=True)
    said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
    raise SourceError(f"nbgrader could not make the student version of {source.name}. Its last words:\n{said}")


def build_wheel(repository: Path, directory: Path) -> Path:
    """Build bnlab's wheel into `directory`, without the network.

    Raises
    ------
    SourceError
        `repository` isn't this project's, or the build failed.
    """
    if not (repository / "pyproject.toml").is_file():
        raise SourceError(f"{repository} has no pyproject.toml: the zip needs bnlab's wheel, built from the repository")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory.resolve())]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if done.returncode != 0:
        raise SourceError(f"bnlab's wheel could not be built:\n{done.stdout}{done.stderr}")
    return next(directory.glob("bnlab-*.whl"))


def zip_for_students(source: Source, course: Path, wheel: Path, destination: Path) -> Path:
    """Pack a released problem set.

    Parameters
    ----------
    source : Source
    course : Path
        Holds ``release/psN/``.
    wheel : Path
        bnlab's, from :func:`build_wheel`.
    destination : Path
        Directory for ``psN.zip``.

    Returns
    -------
    Path
        The zip.
    """
    destination.mkdir(parents=True, exist_ok=True)
    archive = destination / f"{source.name}.zip"
    with tempfile.TemporaryDirectory(dir=destination) as scratch:
        stage = Path(scratch) / source.name
        shutil.copytree(course / "release" / source.name, stage)
        shutil.copyfile(wheel, stage / wheel.name)
        extra = "[lab]" if source.needs_torch else ""
        (stage / "requirements.txt").write_text(f"./{wheel.name}{extra}\njupyterlab\n", encoding="utf-8")
        (stage / "README.md").write_text(_readme(source), encoding="utf-8")
        partial = Path(scratch) / archive.name
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(p for p in stage.rglob("*") if p.is_file()):
                entry = zipfile.ZipInfo(str(path.relative_to(scratch)), EARLIEST)
                entry.external_attr = 0o644 << 16
                packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        partial.replace(archive)
    return archive


def _readme(source: Source) -> str:
    written = len(source.problem_set.written_answers)
    by_hand = f" and {written} to answer in words" if written else ""
    torch = TORCH.rstrip() if source.needs_torch else ""
    return README.format(
        name=source.name,
        functions=len(source.problem_set.questions),
        by_hand=by_hand,
        points=f"{source.problem_set.points:g}",
        torch=torch,
    )
