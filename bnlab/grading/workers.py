"""Grade many submissions at once: the unit of work that any process can do, and processes of this machine that do it.

A worker process is a fresh Python that keeps one grader for its life. It gets no more than one unit at a time, so that
it is known what a process that dies was doing.
"""

import contextlib
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import Any, Protocol

from bnlab.grading.grade import Grader
from bnlab.grading.record import Graded

POLL_SECONDS = 0.2  # how often a waiting engine looks whether it should stop


class ClassError(Exception):
    """Grading can't start or go on: what is wrong, and what to do."""


@dataclass(frozen=True)
class Unit:
    """A submission to grade.

    Attributes
    ----------
    student : str
    data : bytes
        The notebook's file.
    questions : tuple of str or None
        Grade these alone. None: all.
    """

    student: str
    data: bytes
    questions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Done:
    """What became of a unit.

    Attributes
    ----------
    student : str
    graded : Graded or None
        None where whoever graded it failed; that is never the submission's result.
    problem : str
        Why, where it is None.
    """

    student: str
    graded: Graded | None
    problem: str = ""


class Engine(Protocol):
    """Something that grades units."""

    def run(self, units: Iterable[Unit], stop: Callable[[], bool]) -> Iterator[Done]:
        """Grade units, in any order, taking only a few at a time from `units`.

        When `stop` says so, what is graded already is still handed out, and the rest is dropped.

        Raises
        ------
        ClassError
            It can't grade at all.
        """


class Pool:
    """Worker processes on this machine, each with a grader of its own that it keeps. Use it as a context manager.

    Processes start when there is work for them. One that dies is replaced, and takes nothing but its unit with it.

    Parameters
    ----------
    make_grader : callable
        Makes a `Grader`, in the worker process; it can be pickled.
    jobs : int
        Processes at most.
    """

    def __init__(self, make_grader: Callable[[], Grader], jobs: int):
        self._make_grader = make_grader
        self._jobs = jobs
        self._workers: list[_Worker] = []

    def run(self, units: Iterable[Unit], stop: Callable[[], bool] = lambda: False) -> Iterator[Done]:
        """Grade units; see :meth:`Engine.run`."""
        source = iter(units)
        waiting: deque[Unit] = deque()
        done: list[Done] = []
        exhausted = False
        while True:
            stopping = stop()
            if stopping:
                waiting.clear()
            while not (exhausted or stopping) and len(waiting) < self._jobs - self._busy:
                unit = next(source, None)
                exhausted = unit is None
                waiting += [] if exhausted else [unit]
                done += self._hand_out(waiting)
            yield from done  # the workers have work while this process writes results
            if (exhausted or stopping) and not waiting and not self._busy:
                return
            active = [worker for worker in self._workers if worker.is_busy or worker.is_starting]
            # When it has to stop, only what has come already counts: a grading may take minutes.
            ready = connections.wait([worker.connection for worker in active], 0 if stopping else POLL_SECONDS)
            if stopping and not ready:
                return
            done = [one for worker in active if worker.connection in ready for one in self._take_from(worker)]
            done += self._hand_out(waiting)

    @property
    def _busy(self) -> int:
        return sum(worker.is_busy for worker in self._workers)

    def _hand_out(self, waiting: deque[Unit]) -> list[Done]:
        """Give waiting units to idle workers, and start workers for the others. Returns those that a worker refused."""
        refused = []
        for worker in [worker for worker in self._workers if not worker.is_busy and not worker.is_starting]:
            if not waiting:
                break
            unit = waiting.popleft()
            if not worker.give(unit):
                self._workers.remove(worker)
                refused.append(Done(unit.student, None, f"a worker process ended ({worker.end()})"))
        starting = sum(worker.is_starting for worker in self._workers)
        for _ in range(min(len(waiting) - starting, self._jobs - len(self._workers))):
            self._workers.append(_Worker())
        return refused

    def _take_from(self, worker: "_Worker") -> list[Done]:
        """What a worker that has something to say says: a result, or nothing if it says that it is ready."""
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            how = worker.end()
            if worker.is_starting:
                problem = f"a worker process ended before it was ready ({how}): its own message is above"
                raise ClassError(problem) from None
            return [Done(worker.student, None, f"the process that graded it ended ({how})")]
        if kind == "hello":
            worker.send(self._make_grader)  # not before: it would wait here for the other's imports
            return []
        if kind == "failed":
            raise ClassError(f"a worker process could not start: {content}")
        if worker.is_starting:
            worker.is_starting = False
            return []
        student, worker.student = worker.student, ""
        worker.is_busy = False
        return [Done(student, content) if kind == "graded" else Done(student, None, content)]

    def close(self) -> None:
        """End the processes, also those that are grading."""
        for worker in self._workers:
            worker.connection.close()  # an idle one closes its sandbox and ends by itself
        for worker in self._workers:
            worker.end(patience=0 if worker.is_busy else 10)
        self._workers.clear()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Worker:
    """The parent's side of one worker process: a fresh Python with nothing of this process in it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            serve = f"from bnlab.grading.workers import serve; serve({theirs.fileno()})"
            # A group of its own: Ctrl-C is the parent's affair, and must not look like a crash of a submission.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", serve],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.connection = connections.Connection(ours.detach())
        self.is_starting, self.is_busy, self.student = True, False, ""

    def give(self, unit: Unit) -> bool:
        """Send a unit; False where the process is gone."""
        self.is_busy, self.student = True, unit.student
        return self.send(unit)

    def send(self, content: Any) -> bool:
        """Send something; False where the process is gone."""
        try:
            self.connection.send(content)
        except OSError:
            return False
        return True

    def end(self, patience: float = 1) -> str:
        """End the process. Returns how it ended, in words."""
        self.connection.close()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"


def serve(descriptor: int) -> None:
    """A worker process: grade what comes through a socket, until nothing can come any more."""
    connection = connections.Connection(descriptor)
    connection.send(("hello", None))
    try:
        grader = connection.recv()()
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}"))
        return
    with grader, contextlib.suppress(EOFError, OSError):  # the parent is gone, or needs nothing more
        connection.send(("ready", None))
        while True:
            unit = connection.recv()
            try:
                answer = ("graded", grader.grade(unit.data, unit.student, unit.questions))
            except Exception as error:
                answer = ("error", f"the grader failed ({type(error).__name__}: {error})")
            connection.send(answer)
