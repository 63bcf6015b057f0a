"""Every hostile submission: no more points than honest work earns, nothing read, changed or left, nobody harmed."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="nbgrader is not installed: make test installs it")
pytest.importorskip("torch", reason="torch is not installed: make test installs it")

from bnlab.grading.grade import Grader
from bnlab.grading.sandbox import Sandbox, SandboxUnavailable

from .attack import load_corpus
from .trial import LIMITS, benches

CORPUS = load_corpus()


@pytest.fixture(scope="session", autouse=True)
def sandbox():
    """Without a sandbox none of this may run."""
    try:
        Sandbox(limits=LIMITS).probe()
    except SandboxUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no sandbox: {error}")


@pytest.fixture(scope="session")
def ready(sandbox, tmp_path_factory):
    kept = {name: os.environ.pop(name) for name in ("BNLAB_DB_URL", "BNLAB_SEED", "BNLAB_CASES") if name in os.environ}
    with benches(tmp_path_factory.mktemp("attacks") / "course") as made:
        yield made
    os.environ.update(kept)


@pytest.mark.parametrize("one", CORPUS, ids=lambda one: one.name)
def test_attack(one, ready, record_property):
    """Graded between two honest submissions; see `trial.py` for all that is looked at."""
    trial = ready[one.victim].run(one)
    record_property("trial", trial.row())
    assert not trial.problems, "\n".join(trial.problems)


@pytest.mark.parametrize("victim", ["arrays", "tensors"])
def test_another_grader_gives_the_same(ready, victim):
    bench = ready[victim]
    with Grader(bench.material, Sandbox(limits=LIMITS)) as grader:
        for name, data in bench.honest.items():
            graded = grader.grade(data, name)
            assert (graded.record, graded.notebook) == (bench.expected[name].record, bench.expected[name].notebook)


ALONGSIDE = ("many_busy_processes", "fork_bomb", "memory_in_many_processes", "kills_everything", "left_for_the_next")


def grade_alongside(material, data: bytes, times: int) -> list[str]:
    """Grade a submission several times; the records."""
    with Grader(material, Sandbox(limits=LIMITS)) as grader:
        return [grader.grade(data, "before").record.to_json() for _ in range(times)]


def test_honest_work_at_the_same_time(ready):
    """Another process of the same class run grades an honest submission again and again while attacks go on."""
    bench = ready["arrays"]
    expected = bench.expected["before"].record.to_json()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        alongside = pool.submit(grade_alongside, replace(bench.material), bench.honest["before"], 25)
        for one in CORPUS:
            if one.name in ALONGSIDE:
                assert not bench.run(one).problems
        found = set(alongside.result())
    differences = [line for one in found for line in unified_diff(expected.splitlines(), one.splitlines(), n=0)]
    assert not differences, "\n".join(differences)


def test_there_are_enough():
    assert len(CORPUS) >= 60
    assert all(one.tries.endswith(".") for one in CORPUS)


# --- what would be noticed -------------------------------------------------------------------------------------------


@pytest.fixture
def watched(ready, monkeypatch):
    """The watch of the benches, and what it finds after something has happened."""
    watch = ready.watch
    before, counts = watch.state(), watch.counts()
    monkeypatch.setattr(watch, "patience", 0.2)
    return watch, lambda: watch.differences(before, counts, 2**40)


def test_nothing_is_noticed_where_nothing_happens(watched):
    _, found = watched
    assert found() == []


def test_a_changed_file_is_noticed(watched):
    watch, found = watched
    path = Path(watch.files[0])
    kept = path.read_text()
    path.write_text("changed")
    assert found() == ["the course's files changed"]
    path.write_text(kept)


def test_a_file_left_behind_is_noticed(watched):
    watch, found = watched
    left = Path("/tmp") / f"{watch.mark}-left"
    left.touch()
    assert found() == [f"{left} was left behind"]
    left.unlink()


@pytest.mark.parametrize("kind", ["port", "socket", "abstract"])
def test_a_call_is_noticed(watched, kind):
    watch, found = watched
    family = socket.AF_INET if kind == "port" else socket.AF_UNIX
    address = {"port": ("127.0.0.1", watch.port), "socket": watch.socket, "abstract": f"\0{watch.abstract}"}[kind]
    with socket.socket(family) as caller:
        caller.connect(address)
        problems = found()
    assert any("somebody connected" in problem for problem in problems)


def test_a_process_left_behind_is_noticed(watched):
    """Also one whose parents have gone."""
    watch, found = watched
    code = "import os, time\nif os.fork() == 0:\n if os.fork() == 0:\n  time.sleep(60)\n os._exit(0)\nos.wait()"
    before = set(watch.processes())
    subprocess.run([sys.executable, "-c", code], check=True)
    assert any("processes" in problem for problem in found())
    for pid in set(watch.processes()) - before:
        os.kill(pid, 9)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_secrets_are_noticed(ready):
    watch = ready.watch
    assert watch.told(f"... {watch.secrets['gradebook']} ... {watch.seed}") == [
        "the gradebook secret got out",
        "the grading seed got out",
    ]


def test_what_code_tells_comes_to_light(ready):
    """The attacks boast of what they reach; this one reaches something."""
    bench = ready["arrays"]
    notebook = bench.scene.notebook(first="tell('this')", mean_of="def mean_of(x):\n    tell('that')\n    return x")
    with Grader(bench.material, Sandbox(limits=LIMITS)) as grader:
        graded = grader.grade(nbformat.writes(notebook).encode(), "somebody")
    assert "BREACH this" in graded.notebook and "BREACH that" in graded.record.to_json()


def test_secrets_are_where_attacks_look(ready):
    watch = ready.watch
    texts = [Path(path).read_bytes() for path in watch.files]
    secrets = [watch.secrets[name] for name in ("course", "submission", "gradebook", "temporary")] + [watch.seed]
    assert all(any(secret.encode() in text for text in texts) for secret in secrets)
