"""Grade many submissions at once: the unit of work that any process can do, and processes of this machine that do it.

A worker process keeps one grader for its life. It gets no more than one unit at a time, so that it is known what a
process that dies was doing. Workers are forked from one process that has imported what the checks need, so that this is
in memory once.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection as connections
from typing import Any, Protocol

from bnlab.grading.grade import Grader
from bnlab.grading.record import Graded
from bnlab.grading.sandbox import ForkServer

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
    server : ForkServer, optional
        One for all of them: `make_grader` gets it as its argument `server`. What it has imported is in memory once.
    modules : tuple of str
        What workers will import.
    """

    def __init__(
        self,
        make_grader: Callable[..., Grader],
        jobs: int,
        server: ForkServer | None = None,
        modules: tuple[str, ...] = (),
    ):
        self._make_grader = make_grader
        self._jobs = jobs
        self._nursery = _Nursery(server, modules)
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
                worker.end()
                refused.append(Done(unit.student, None, "a worker process ended"))
        starting = sum(worker.is_starting for worker in self._workers)
        for _ in range(min(len(waiting) - starting, self._jobs - len(self._workers))):
            taken = {worker.place for worker in self._workers}
            place = next(place for place in range(self._jobs) if place not in taken)
            self._workers.append(_Worker(self._nursery, place))
        return refused

    def _take_from(self, worker: "_Worker") -> list[Done]:
        """What a worker that has something to say says: a result, or nothing if it says that it is ready."""
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.end()
            if worker.is_starting:
                raise ClassError("a worker process ended before it was ready: its own message is above") from None
            return [Done(worker.student, None, "the process that graded it ended")]
        if kind == "hello":
            worker.greet(content)
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
        self._nursery.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Nursery:
    """The process that worker processes are forked from. It starts with the first of them."""

    def __init__(self, server: ForkServer | None, modules: tuple[str, ...]):
        self._server = server
        self._modules = modules
        self._process: subprocess.Popen | None = None

    def fork(self, theirs: socket.socket, place: int) -> None:
        """Start a worker at the other end of a socket, on the core that goes with its place."""
        if self._process is None or self._process.poll() is not None:
            self._control, control = socket.socketpair()
            nurse = f"from bnlab.grading.workers import nurse; nurse({control.fileno()}, {self._modules!r})"
            with control:
                # A group of its own: Ctrl-C is the parent's affair, and must not look like a crash of a submission.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", nurse],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[control.fileno()],
                    process_group=0,
                )
        entrance = [self._server.entrance.fileno()] if self._server else []
        with contextlib.suppress(OSError):  # it has ended already: nothing will come from the worker
            socket.send_fds(self._control, [str(place).encode()], [theirs.fileno(), *entrance])

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._control.close()
            self._process.wait()


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, nursery: _Nursery, place: int):
        self.place = place  # among the workers at work
        ours, theirs = socket.socketpair()
        with theirs:
            nursery.fork(theirs, place)
        self.connection = connections.Connection(ours.detach())
        self.is_starting, self.is_busy, self.student = True, False, ""
        self.pid = 0
        self._process: int | None = None  # its file descriptor

    def greet(self, pid: int) -> None:
        """Take note of which process it is, while it waits for an answer and so is there."""
        self.pid, self._process = pid, os.pidfd_open(pid)

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

    def end(self, patience: float = 1) -> None:
        """End the process: it has so many seconds to end by itself."""
        self.connection.close()
        if self._process is None:
            return
        ended = select.poll()
        ended.register(self._process, select.POLLIN)
        if not ended.poll(1000 * patience):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            ended.poll()
        os.close(self._process)
        self._process = None


def nurse(descriptor: int, modules: tuple[str, ...]) -> None:
    """The process that worker processes are forked from: import what they need, and fork one whenever asked.

    Parameters
    ----------
    descriptor : int
        The file descriptor of the socket by which it is asked. It ends when nobody can ask any more.
    modules : tuple of str
    """
    for name in modules:
        with contextlib.suppress(ImportError):  # whoever needs it will say so
            importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # there are as many workers as cores
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, handed, _, _ = socket.recv_fds(control, 20, 2)
        if not order:
            return
        if os.fork() == 0:
            status = 1
            try:
                _use_one_core(int(order))
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                control.close()
                serve(*handed)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        for one in handed:
            os.close(one)


def _use_one_core(place: int) -> None:
    """Stay on one core, and let the submissions run there too; the next worker takes the next core."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place % len(cores)]})


def serve(descriptor: int, entrance: int | None = None) -> None:
    """A worker process: grade what comes through a socket, until nothing can come any more.

    Parameters
    ----------
    descriptor : int
        The socket's file descriptor.
    entrance : int, optional
        That of the entrance to a fork server.
    """
    connection = connections.Connection(descriptor)
    connection.send(("hello", os.getpid()))
    shared = {} if entrance is None else {"server": ForkServer.at(socket.socket(fileno=entrance))}
    try:
        grader = connection.recv()(**shared)
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
