"""Worker processes: one that dies takes nothing with it, none gets more than it can do, and none is left."""

import os
from pathlib import Path

import psutil
import pytest
from stand_in import StandIn, no_grader, no_process

from bnlab.grading.workers import ClassError, Pool, Unit


@pytest.fixture
def can_import_this(monkeypatch):
    """Worker processes find the stand-in."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


def test_a_dying_worker_takes_nothing_but_its_unit_with_it(can_import_this):
    texts = {f"s{number:02}": "die" if number in (3, 11) else "fail" if number == 7 else "5" for number in range(15)}
    with Pool(StandIn, 2) as pool:
        done = {one.student: one for one in pool.run(Unit(student, text.encode()) for student, text in texts.items())}
    assert done.keys() == texts.keys()
    assert {student for student, one in done.items() if one.graded is None} == {"s03", "s07", "s11"}
    assert done["s03"].problem == "the process that graded it ended"
    assert done["s07"].problem == "the grader failed (SandboxUnavailable: no sandbox left)"


def test_units_are_taken_a_few_at_a_time_and_workers_stay(can_import_this):
    drawn, most = 0, 0

    def units():
        nonlocal drawn
        for number in range(40):
            drawn += 1
            yield Unit(f"s{number}", b"5" + b" " * 1_000_000)  # more than a pipe holds

    with Pool(StandIn, 2) as pool:
        for count, _ in enumerate(pool.run(units()), 1):
            most = max(most, drawn - count)
            processes = {worker.pid for worker in pool._workers}
        assert len(list(pool.run([Unit("again", b"5")]))) == 1
        assert {worker.pid for worker in pool._workers} == processes
    assert most <= 4
    assert drawn == 40


@pytest.mark.parametrize(
    ("make_grader", "message"),
    [(no_grader, "SandboxUnavailable: bwrap is missing"), (no_process, "ended before it was ready")],
)
def test_a_pool_that_cannot_grade_says_so(can_import_this, make_grader, message):
    with Pool(make_grader, 2) as pool, pytest.raises(ClassError, match=message):
        list(pool.run([Unit("amara", b"5"), Unit("boris", b"5")]))


def test_when_it_has_to_stop_what_is_done_is_handed_out(can_import_this):
    texts = ["5", "5", "5", "sleep 1000", "sleep 1000", "5", "5"]
    done = []
    with Pool(StandIn, 2) as pool:
        for one in pool.run((Unit(str(n), text.encode()) for n, text in enumerate(texts)), lambda: len(done) >= 3):
            done.append(one.student)
        processes = [worker.pid for worker in pool._workers]
    assert sorted(done) == ["0", "1", "2"]
    assert len(processes) == 2 and not any(map(psutil.pid_exists, processes))
