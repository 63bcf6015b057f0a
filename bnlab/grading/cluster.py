"""Grade on a Dask cluster: the same units as on this machine, on the workers of a scheduler that is there already.

Each thread of a Dask worker keeps a grading process, the same that a local :class:`~bnlab.grading.workers.Pool` has,
and hands it the units that it gets. So a submission is graded behind the same sandbox, in the main thread of a process
that knows nothing of Dask, wherever that is. A unit is keyed by the hash of all that decides its result; one whose
worker is lost goes to another worker.

Dask trusts whoever reaches its scheduler, and speaks pickle: keep it in a network of your own.
"""

import hashlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bnlab.grading.grade import Grader
from bnlab.grading.material import Material, environment
from bnlab.grading.record import Graded
from bnlab.grading.sandbox import Sandbox
from bnlab.grading.workers import ClassError, Done, Pool, Unit

if TYPE_CHECKING:
    from distributed import Future

CONNECT_SECONDS = 30
POLL_SECONDS = 0.2  # how often it looks whether it should stop
CENSUS_SECONDS = 2.0  # how often it counts the workers
RETRIES = 2  # of a unit whose grading failed. A lost worker is the scheduler's to deal with: it gives up after three.
AHEAD = 2  # units for every thread, so that none waits for its next one


class Cluster:
    """The workers of a Dask scheduler. Use it as a context manager.

    Parameters
    ----------
    address : str
        The scheduler's, such as ``tcp://host:8786``.
    material : Material
    sandbox : Sandbox
        It has to work on the workers.
    note : callable
        Called with what the instructor should know.

    Raises
    ------
    ClassError
        The package ``distributed`` is missing, or there is no scheduler, or it has no workers.
    """

    def __init__(self, address: str, material: Material, sandbox: Sandbox, note: Callable[[str], None]):
        try:
            from distributed import Client
        except ImportError:
            raise ClassError(
                "--scheduler needs the package distributed, here and on the workers: pip install 'bnlab[grading]'"
            ) from None
        self._address = address
        self._note = note
        self._desk = _Desk(replace(material), sandbox, material.fingerprint, environment())
        self._failures: Counter[str] = Counter()  # of units, by student
        self._counted, self._threads = 0.0, 0
        try:
            self._client: Client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ClassError(f"there is no Dask scheduler at {address} ({error}): start one: dask scheduler") from None
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            self.close()
            raise ClassError(
                f"the scheduler at {address} has no workers: start some, in the same Python environment as here: "
                f"dask worker {address}"
            ) from None
        self._resources = self._gpu() if _wants_gpu(material) else None

    def close(self) -> None:
        """Leave the cluster. What is still being graded there is dropped."""
        self._client.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, units: Iterable[Unit], stop: Callable[[], bool] = lambda: False) -> Iterator[Done]:
        """Grade units; see :meth:`~bnlab.grading.workers.Engine.run`."""
        # A task and not scattered data: if all workers that have it are lost, the scheduler can make it again.
        parts = self._desk.parts
        key = hashlib.sha256(f"{self._desk.fingerprint} {self._desk.sandbox}".encode()).hexdigest()
        desk = self._client.submit(_Desk, *parts, key=f"bnlab-material-{key}")
        source = iter(units)
        exhausted = False
        in_work: dict[str, tuple[Future, str]] = {}  # by key: the future, and whose submission it is
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        while True:
            stopping = stop()
            while not (exhausted or stopping) and len(in_work) < AHEAD * max(1, self._census()):
                unit = next(source, None)
                if unit is None:
                    exhausted = True
                    break
                future = self._submit(desk, unit)
                in_work[future.key] = future, unit.student
                future.add_done_callback(ended.put)
            if not in_work:
                return
            try:
                future = ended.get(timeout=0 if stopping else POLL_SECONDS)
            except queue.Empty:
                if stopping:
                    self._client.cancel([future for future, _ in in_work.values()])
                    return
                continue
            _, student = in_work.pop(future.key)
            yield self._outcome(future, student)

    def _submit(self, desk: "Future", unit: Unit) -> "Future":
        submission = hashlib.sha256(unit.data).hexdigest()
        attempt = self._failures[unit.student]  # a unit that failed is tried again, which is another task
        parts = (unit.student, submission, unit.questions, desk.key, attempt)
        key = f"bnlab-grade-{hashlib.sha256(repr(parts).encode()).hexdigest()}"
        return self._client.submit(_grade, desk, unit, key=key, retries=RETRIES, resources=self._resources)

    def _outcome(self, future: "Future", student: str) -> Done:
        from distributed import KilledWorker

        if future.status == "finished":
            try:
                return Done(student, future.result())
            except Exception as error:
                if self._client.status != "running":
                    raise self._lost() from error
                self._failures[student] += 1
                return Done(student, None, f"its result was lost with a worker ({type(error).__name__}: {error})")
        if future.status == "cancelled":
            raise self._lost()
        self._failures[student] += 1
        error = future.exception()
        if isinstance(error, GradingFailed):
            return Done(student, None, str(error))
        if isinstance(error, KilledWorker):
            return Done(student, None, f"the workers that graded it were lost, {error.allowed_failures + 1} in a row")
        if isinstance(error, ClassError):
            raise error
        raise ClassError(f"the workers can't grade ({type(error).__name__}: {error}): is bnlab installed there?")

    def _lost(self) -> ClassError:
        return ClassError(f"the connection to the scheduler at {self._address} is lost: run it again, it goes on")

    def _census(self) -> int:
        """Threads of all workers, counted now and then: workers come and go."""
        now = time.monotonic()
        if now - self._counted > CENSUS_SECONDS:
            try:
                before, self._threads = self._threads, sum(self._client.nthreads().values())
            except (OSError, TimeoutError) as error:
                raise self._lost() from error
            self._counted = now
            if before and not self._threads:
                self._note("No worker is left. Grading goes on when there is one again; Ctrl-C stops.")
        return self._threads

    def _gpu(self) -> dict[str, float] | None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if any(worker["resources"].get("GPU", 0) >= 1 for worker in workers):
            return {"GPU": 1}
        self._note(
            "This problem set asks for a GPU, and no worker offers one (dask worker ADDRESS --resources GPU=1): "
            "it is graded without."
        )
        return None


class GradingFailed(Exception):
    """A grading process ended or failed. That is no result of the submission."""


@dataclass(frozen=True)
class _Desk:
    """All that a worker needs besides the units.

    Attributes
    ----------
    material : Material
    sandbox : Sandbox
    fingerprint : str
        The material's, where the run was started.
    environment : dict of str to str
        Versions of packages there.
    """

    material: Material
    sandbox: Sandbox
    fingerprint: str
    environment: dict[str, str]

    @property
    def parts(self) -> tuple:
        return self.material, self.sandbox, self.fingerprint, self.environment

    def check(self) -> None:
        """Raise :class:`ClassError` where this worker would grade otherwise than the machine that started the run."""
        if replace(self.material).fingerprint == self.fingerprint:
            return
        here = environment()
        others = [f"{name} {here.get(name)} for {it}" for name, it in self.environment.items() if here.get(name) != it]
        raise ClassError(
            f"a worker has other software than the machine that started the run "
            f"({', '.join(others) or 'another version of bnlab'}), and would grade otherwise: install the same there"
        )


_here = threading.local()  # the grading process of each thread of a worker, and what it grades with


def _grade(desk: _Desk, unit: Unit) -> Graded:
    """Grade one unit on a worker."""
    key = (desk.fingerprint, desk.sandbox)
    if getattr(_here, "key", None) != key:
        desk.check()
        if hasattr(_here, "pool"):
            _here.pool.close()
        _here.pool = Pool(partial(Grader, desk.material, desk.sandbox), 1)
        _here.key = key
    (done,) = _here.pool.run([unit])
    if done.graded is None:
        raise GradingFailed(done.problem)
    return done.graded


def _wants_gpu(material: Material) -> bool:
    """Whether the notebook's metadata says ``"bnlab": {"gpu": true}``."""
    return bool(material.notebook.metadata.get("bnlab", {}).get("gpu"))
