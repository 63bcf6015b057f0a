"""scripts/fetch_in_page.py: what it takes, what it refuses, and what it does without network."""

import importlib.util
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import browsing
import pytest
from browsing import ROOT

DOWNLOADS = ROOT / "_build" / "in_page" / "downloads"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The script as a module, which works in a folder of its own."""
    spec = importlib.util.spec_from_file_location("fetch_in_page", ROOT / "scripts" / "fetch_in_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PLACE", tmp_path)
    return module


@pytest.fixture
def fetched(script):
    """The script with the archives that were fetched before, and no way to fetch any."""
    names = [script.PYODIDE[0], script.XEUS_PYTHON[0]]
    if not all((DOWNLOADS / name).is_file() for name in names):
        browsing.absent("the archives are not there: run `make in-page`")
    (script.PLACE / "downloads").mkdir()
    for name in names:
        shutil.copy(DOWNLOADS / name, script.PLACE / "downloads")
    script.subprocess = None
    return script


def no_network(command, **_):
    """Fail as a client does without network."""
    return subprocess.CompletedProcess(command, 1, "", "noise\ngetaddrinfo ENOTFOUND")


def test_nothing_is_fetched_twice_and_the_same_comes_out(fetched, capsys):
    assert fetched.main([]) == 0
    first = (fetched.PLACE / "python" / "contents.json").read_text(encoding="utf-8")
    assert fetched.main([]) == 0
    assert (fetched.PLACE / "python" / "contents.json").read_text(encoding="utf-8") == first
    listed = json.loads(first)["files"]
    assert sorted([*listed, "contents.json"]) == sorted(path.name for path in (fetched.PLACE / "python").iterdir())
    assert sum(entry["bytes"] for entry in listed.values()) < 13e6
    assert "MB" in capsys.readouterr().out


def test_every_served_file_has_its_licence(fetched):
    assert fetched.main([]) == 0
    licenses = ROOT / "book" / "_static" / "in_page" / "licenses"
    about = (licenses / "README.md").read_text(encoding="utf-8")
    for name in json.loads((fetched.PLACE / "python" / "contents.json").read_text(encoding="utf-8"))["files"]:
        assert f"`{name}`" in about
    for text in licenses.glob("*.txt"):
        assert f"`{text.name}`" in about


@pytest.mark.parametrize("arguments", [[], ["--if-possible"]])
def test_another_archive_is_refused(fetched, arguments, capsys):
    name, expected = fetched.PYODIDE
    path = fetched.PLACE / "downloads" / name
    path.write_bytes(path.read_bytes() + b"!")
    assert fetched.main(arguments) == 1
    said = capsys.readouterr().err
    assert str(path) in said and expected in said and "Delete it" in said
    assert not (fetched.PLACE / "python").exists()


@pytest.mark.parametrize(("arguments", "status", "word"), [([], 1, "error:"), (["--if-possible"], 0, "note:")])
def test_without_network_it_says_so(script, monkeypatch, arguments, status, word, capsys):
    monkeypatch.setattr(script.subprocess, "run", no_network)
    assert script.main(arguments) == status
    said = capsys.readouterr().err
    assert word in said and script.PYODIDE[0] in said and "ENOTFOUND" in said
    assert not (script.PLACE / "python").exists()


def test_a_missing_client_is_named(script, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert script.main([]) == 1
    assert "npm, which is not on PATH" in capsys.readouterr().err


def test_a_problem_set_brings_its_checks_and_nothing_else(script):
    names = [name for name, _ in script.of_the_course()]
    assert [name for name in names if name.startswith("problem_sets/")] == [
        f"problem_sets/{name}/checks.py" for name in script.SETS
    ]
    assert "bnlab/reference.py" in names and "bnlab/functional.py" not in names
    assert not [name for name in names if "submissions" in name or "notebook" in name]


def test_a_tar_can_be_read_and_holds_no_date(script):
    data = script.pack([("b/two.py", b"2"), ("a.py", b"1")])
    assert data == script.pack([("a.py", b"1"), ("b/two.py", b"2")])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(member.name, member.mtime) for member in archive] == [("a.py", 0), ("b/two.py", 0)]


def test_the_extension_copies_what_is_there_and_says_what_is_not(tmp_path, monkeypatch):
    import sys

    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    import in_page_python
    from sphinx.errors import ExtensionError

    class App:
        class builder:
            format = "html"

        class config:
            in_page_python = str(tmp_path / "made")

        outdir = str(tmp_path / "html")

    served = Path(App.outdir) / "_static" / "in_page" / "python"
    served.mkdir(parents=True)
    (served / "old").write_text("of an earlier build", encoding="utf-8")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ExtensionError, match="make in-page"):
        in_page_python.copy(App, None)
    monkeypatch.delenv("CI")
    in_page_python.copy(App, None)
    assert not served.exists()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "contents.json").write_text("{}", encoding="utf-8")
    in_page_python.copy(App, None)
    assert [path.name for path in served.iterdir()] == ["contents.json"]
