"""The same units on a real Dask scheduler with worker processes, one of them killed while it grades."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from conftest import NAME, RIGHT, hand_in

pytest.importorskip("distributed", reason="distributed is not installed: make test installs it")

import psutil  # distributed brings it

from bnlab.grading import cluster as cluster_module
from bnlab.grading.class_run import ClassRun
from bnlab.grading.cluster import Cluster
from bnlab.grading.grade import Grader
from bnlab.grading.material import Material
from bnlab.grading.record import CRASHED, GRADED, UNREADABLE, Record
from bnlab.grading.sandbox import Sandbox, SandboxUnavailable
from bnlab.grading.workers import ClassError, Pool, Unit


@pytest.fixture
def sandbox():
    try:
        Sandbox().probe()
    except SandboxUnavailable as error:
        pytest.skip(f"bubblewrap does not work here: {error}")
    return Sandbox()


class Dask:
    """A scheduler on the loopback interface, and workers by name."""

    def __init__(self, room):
        self.room = room
        self.processes = {}
        self.address = ""

    def open(self):
        self.start("scheduler", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 120
        while not self.address:
            assert time.monotonic() < deadline, (self.room / "scheduler.log").read_text()
            time.sleep(0.05)
            with suppress(OSError, ValueError):  # it is not there yet, or not all of it
                self.address = json.loads((self.room / "scheduler.json").read_text())["address"]

    def start(self, kind, *arguments, name=None):
        name = name or kind
        command = [sys.executable, "-m", "dask", kind, "--host", "127.0.0.1", *arguments]
        if kind == "scheduler":
            command += ["--scheduler-file", str(self.room / "scheduler.json")]
        with (self.room / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, cwd=self.room, stdout=log, stderr=log)

    def work(self, name, *arguments):
        alone = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.room)]
        self.start("worker", self.address, "--name", name, *alone, *arguments, name=name)

    def end(self):
        for process in reversed(self.processes.values()):  # the scheduler last, or workers look for it
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def dask(tmp_path):
    dask = Dask(tmp_path)
    try:
        dask.open()
        yield dask
    finally:
        dask.end()


def grade(course, engine, sandbox, after=lambda count: None):
    outcomes = {}
    with ClassRun(course, NAME, sandbox) as run:

        def report(outcome):
            assert outcome.record.student not in outcomes, "settled twice"
            outcomes[outcome.record.student] = outcome
            after(len(outcomes))

        run.run(engine, report)
    return outcomes


def files(course):
    root = course / "autograded"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_worker_killed_in_the_middle_loses_nothing(course, answered, sandbox, dask, tmp_path):
    hand_in(course, "amara", answered(center="def center(x):\n    return x"))
    hand_in(course, "boris", "%PDF-1.7")
    hand_in(course, "chloe", answered(scale="import os\ndef scale(x):\n    os._exit(0)"))
    for number in range(17):
        hand_in(course, f"dmitri{number:02}", answered(mean_of=RIGHT["mean_of"] + f"\n# {number}"))
    material = Material.of_course(course, NAME)
    with Pool(partial(Grader, material, sandbox), 1) as pool:
        local = grade(course, pool, sandbox)
    expected = files(course)
    (course / "autograded").rename(tmp_path / "local")

    dask.work("one")
    dask.work("two")

    def kill(count):
        if count == 4:
            dask.processes["one"].send_signal(signal.SIGKILL)

    with Cluster(dask.address, material, sandbox, print) as cluster:
        cluster._client.wait_for_workers(2, timeout=120)
        outcomes = grade(course, cluster, sandbox, kill)
    assert dask.processes["one"].wait(20) == -signal.SIGKILL
    assert outcomes.keys() == local.keys()
    assert all(outcome.deed == "graded" and not outcome.problem for outcome in outcomes.values())
    assert files(course) == expected
    statuses = {student: [r.status for r in outcome.record.questions] for student, outcome in outcomes.items()}
    assert statuses["amara"] == statuses["dmitri16"] == [GRADED] * 3
    assert (statuses["boris"], statuses["chloe"][2]) == ([UNREADABLE] * 3, CRASHED)
    assert Record.from_json(expected[f"dmitri00/{NAME}/record.json"].decode()).score == 100.0


def test_a_gpu_problem_set_goes_where_a_gpu_is_offered(course, answered, sandbox, dask):
    material = Material.of_course(course, NAME)
    released = json.loads(material.released)
    released["metadata"]["bnlab"] = {"gpu": True}
    material = replace(material, released=json.dumps(released))
    units = [Unit(f"student{number}", json.dumps(answered()).encode()) for number in range(3)]
    dask.work("plain")
    notes = []
    with Cluster(dask.address, material, sandbox, notes.append) as cluster:
        assert [done.graded.record.score for done in cluster.run(units)] == [100.0] * 3
    dask.work("with-gpu", "--resources", "GPU=1")
    dask.work("also-plain")
    with Cluster(dask.address, material, sandbox, print) as waiting:
        waiting._client.wait_for_workers(3, timeout=120)
    with Cluster(dask.address, material, sandbox, notes.append) as cluster:
        assert sorted(done.student for done in cluster.run(units)) == ["student0", "student1", "student2"]
    assert len(notes) == 1 and "no worker offers one" in notes[0], "the first time"
    graders = {name: len(psutil.Process(process.pid).children()) for name, process in dask.processes.items()}
    assert graders == {"scheduler": 0, "plain": 1, "with-gpu": 1, "also-plain": 0}


def test_stopping_drops_what_is_not_done(course, answered, sandbox, dask):
    dask.work("one")
    units = (Unit(f"student{number}", json.dumps(answered()).encode()) for number in range(100))
    done = []
    with Cluster(dask.address, Material.of_course(course, NAME), sandbox, print) as cluster:
        for one in cluster.run(units, lambda: len(done) >= 2):
            done.append(one.student)
    assert 2 <= len(done) <= 6
    assert len(list(units)) > 80, "only a few were taken"


def test_a_lost_scheduler_ends_the_run_and_what_is_graded_stays(course, answered, sandbox, dask):
    for number in range(12):
        hand_in(course, f"amara{number:02}", answered(mean_of=RIGHT["mean_of"] + f"\n# {number}"))
    material = Material.of_course(course, NAME)
    dask.work("one")

    def kill(count):
        if count == 2:
            dask.processes["scheduler"].kill()

    with (
        Cluster(dask.address, material, sandbox, print) as cluster,
        pytest.raises(ClassError, match=r"connection to the scheduler .* is lost: run it again"),
    ):
        grade(course, cluster, sandbox, kill)
    dask.processes["one"].kill()
    done = len([path for path in files(course) if path.endswith("record.json")])
    assert 2 <= done < 12
    with Pool(partial(Grader, material, sandbox), 1) as pool:
        outcomes = grade(course, pool, sandbox)
    deeds = [outcome.deed for outcome in outcomes.values()]
    assert (deeds.count("kept"), deeds.count("graded")) == (done, 12 - done)


def test_workers_with_other_software_grade_nothing(course, answered, sandbox, dask):
    dask.work("one")
    with Cluster(dask.address, Material.of_course(course, NAME), sandbox, print) as cluster:
        cluster._desk = replace(
            cluster._desk, fingerprint="0" * 64, environment=cluster._desk.environment | {"numpy": "1.25.0"}
        )
        with pytest.raises(ClassError, match=r"other software .*numpy .* for 1\.25\.0.*install the same"):
            list(cluster.run([Unit("amara", json.dumps(answered()).encode())]))


def test_no_scheduler_and_no_workers(course, dask, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 5)
    material = Material.of_course(course, NAME)
    with pytest.raises(ClassError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1 "):
        Cluster("tcp://127.0.0.1:1", material, Sandbox(), print)
    with pytest.raises(ClassError, match="no Dask scheduler at nonsense"):
        Cluster("nonsense", material, Sandbox(), print)
    with pytest.raises(ClassError, match=f"has no workers.*dask worker {dask.address}"):
        Cluster(dask.address, material, Sandbox(), print)


def test_without_distributed_it_says_what_to_install(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClassError, match=r"pip install 'bnlab\[grading\]'"):
        Cluster("tcp://127.0.0.1:1", Material.of_course(course, NAME), Sandbox(), print)
