"""What students get: the release holds no solution, the zip holds all they need and is the same each time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from bnlab.cli import app
from bnlab.exercises.build import build
from bnlab.exercises.release import build_wheel, release, zip_for_students
from bnlab.exercises.source import SourceError, find_sources

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling is not installed: make test installs it")
    return build_wheel(REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.mark.nbgrader
def test_release_and_zip(course, wheel, tmp_path):
    pytest.importorskip("nbgrader", reason="nbgrader is not installed: make test installs it")
    source = find_sources(course)[0]
    build(source, course)
    student = nbformat.read(release(source, course) / "ps0_small.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in student.cells)
    assert "raise NotImplementedError()" in text and "x.mean(axis=0)" not in text and "SOLUTION" not in text
    first = zip_for_students(source, course, wheel, tmp_path / "zips").read_bytes()
    archive = zip_for_students(source, course, wheel, tmp_path / "zips")
    assert archive.read_bytes() == first and [p.name for p in archive.parent.iterdir()] == ["ps0_small.zip"]
    with zipfile.ZipFile(archive) as packed:
        names = {name.split("/", 1)[1] for name in packed.namelist()}
        assert names == {"ps0_small.ipynb", "checks.py", "README.md", "requirements.txt", wheel.name}
        packed.extractall(tmp_path / "student")
    assert wheel.name in (tmp_path / "student" / "ps0_small" / "requirements.txt").read_text()


def test_wheel_carries_the_whole_package(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "bnlab").rglob("*.py")}
    assert modules <= set(names) and "bnlab/course.mplstyle" in names
    assert not [name for name in names if name.startswith(("tests", "book", "exercises"))]


def test_what_nbgrader_says_reaches_the_instructor_and_an_earlier_release_stays(course):
    source = find_sources(course)[0]
    with pytest.raises(SourceError, match="could not make the student version of ps0_small"):
        release(source, course)  # not built
    notebook = build(source, course)
    released = release(source, course) / "ps0_small.ipynb"
    before = released.read_bytes()
    notebook.write_text("no notebook")
    with pytest.raises(SourceError, match="could not make the student version of ps0_small"):
        release(source, course)
    assert released.read_bytes() == before


def test_wheel_needs_the_repository(tmp_path):
    with pytest.raises(SourceError, match=r"has no pyproject\.toml"):
        build_wheel(tmp_path, tmp_path)


def test_commands(course, tmp_path):
    run = CliRunner().invoke
    built = run(app, ["exercises", "build", "--course", str(course)])
    assert built.exit_code == 0 and (course / "source" / "ps0_small" / "ps0_small.ipynb").is_file()
    proven = run(app, ["exercises", "verify", "--course", str(course), "--jobs", "1"])
    assert (
        proven.exit_code == 0
        and "5 of 5 proven (1 right alternatives, 2 mistakes, 0 borrowed answers)" in proven.stdout
    )
    unknown = run(app, ["exercises", "build", "ps9", "--course", str(course)])
    assert unknown.exit_code == 2 and "no problem set 'ps9'; it has ps0_small" in unknown.stderr
    nowhere = run(app, ["exercises", "verify", "--course", str(tmp_path / "nowhere")])
    assert nowhere.exit_code == 2 and "is not a directory" in nowhere.stderr
    wrong = course / "ps0_small" / "submissions" / "wrong_mean_axis.py"
    wrong.write_text(wrong.read_text().replace("axis=1", "axis=0"))
    broken = run(app, ["exercises", "verify", "--course", str(course), "--jobs", "1"])
    assert broken.exit_code == 1 and "4 of 5 proven" in broken.stdout


def test_help_names_every_command():
    done = subprocess.run([sys.executable, "-m", "bnlab.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for command in ("check", "doctor", "exercises"):
        assert command in done.stdout
