"""Watches the machine while attacks run: secrets that must stay secret, and things that must stay as they are."""

import contextlib
import ctypes
import hashlib
import os
import secrets
import socket
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import psutil

import bnlab

PR_SET_CHILD_SUBREAPER = 36
GROWTH = 400 * 2**20  # bytes by which an attack may make the grader's memory grow
SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/")
SYSTEM_V_KEYS = range(0x62A7, 0x62A7 + 100)  # the attacks'
VARIABLE = "BNLAB_SECRET_OF_THE_GRADER"


def new_secret() -> str:
    """A secret, of a form that attacks know to look for."""
    return f"hush-{secrets.token_hex(8)}"


class Watch:
    """What must not be read, changed, called or left over.

    Parameters
    ----------
    course : Path
        The course directory. Secrets are put into it, and into its gradebook.
    """

    def __init__(self, course: Path):
        # Whatever any process leaves behind becomes a child of this one, instead of being lost sight of.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.course = course
        self.patience = 5.0  # seconds for processes to end
        self.mark = f"mark-{secrets.token_hex(6)}"
        self.secrets = {name: new_secret() for name in ("course", "submission", "gradebook", "temporary", "variable")}
        self.room = Path(tempfile.mkdtemp(prefix="bnlab-attacks-"))
        (course / "secret.txt").write_text(self.secrets["course"])
        other = course / "submitted" / "somebody" / "ps1_arrays" / "ps1_arrays.ipynb"
        other.parent.mkdir(parents=True)
        other.write_text(f'{{"cells": [], "nbformat": 4, "secret": "{self.secrets["submission"]}"}}')
        with contextlib.closing(sqlite3.connect(course / "gradebook.db")) as gradebook, gradebook:
            gradebook.execute("CREATE TABLE attack_canary (secret TEXT)")
            gradebook.execute("INSERT INTO attack_canary VALUES (?)", (self.secrets["gradebook"],))
        (self.room / "secret.txt").write_text(self.secrets["temporary"])
        (self.room / "secret.txt").chmod(0o666)
        self.room.chmod(0o777)
        os.environ[VARIABLE] = self.secrets["variable"]
        self.files = [
            str(path) for path in (course / "secret.txt", other, course / "gradebook.db", course / "grading_seed")
        ]
        self.files.append(str(self.room / "secret.txt"))
        self.seed = (course / "grading_seed").read_text().strip()
        self._listen()
        self._temporary = Path(tempfile.mkdtemp(prefix="bnlab-attacks-"))  # where the grader's own files go
        self._temporary.chmod(0o755)  # other tests of this process, as other users, may have files in it
        self._kept = os.environ.get("TMPDIR"), tempfile.tempdir
        os.environ["TMPDIR"] = tempfile.tempdir = str(self._temporary)

    def _listen(self) -> None:
        self.socket, self.abstract = str(self.room / "socket"), f"bnlab-{self.mark}"
        self._listeners = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self._listeners[0].bind(("0.0.0.0", 0))
        self.port = self._listeners[0].getsockname()[1]
        self._listeners[1].bind(self.socket)
        os.chmod(self.socket, 0o777)
        self._listeners[2].bind(f"\0{self.abstract}")
        for listener in self._listeners:
            listener.listen()
            listener.setblocking(False)
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("0.0.0.0", self.port))
        self._datagrams.setblocking(False)

    def close(self) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        for each in (*self._listeners, self._datagrams):
            each.close()
        os.environ.pop(VARIABLE, None)
        tempfile.tempdir = self._kept[1]
        if self._kept[0] is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = self._kept[0]
        for directory in (self.room, self._temporary):
            for path in sorted(directory.rglob("*"), reverse=True):
                path.unlink() if not path.is_dir() else path.rmdir()
            directory.rmdir()

    # --- what there is -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, object]:
        """What must be the same after an attack as before it."""
        return {
            "the course's files": {str(path): _digest(path) for path in sorted(self.course.rglob("*"))},
            "the secret in a temporary directory": {str(path): _digest(path) for path in sorted(self.room.rglob("*"))},
            "the grader's temporary files": sorted(map(str, self._temporary.rglob("*"))),
            "shared memory, semaphores, message queues": [_keys(f"/proc/sysvipc/{n}") for n in ("shm", "sem", "msg")],
            "installed packages": [_digest(Path(module.__file__)) for module in (bnlab, psutil)],
            "the grader's limits and rights": (
                os.getpriority(os.PRIO_PROCESS, 0),
                sorted(os.sched_getaffinity(0)),
                os.getcwd(),
            ),
        }

    def counts(self) -> dict[str, int]:
        """What must not become more."""
        return {
            "open files": len(os.listdir("/proc/self/fd")),
            "processes": len(self.processes()),
            "threads": threading.active_count(),
        }

    def processes(self) -> list[int]:
        """All that lives and descends from this process."""
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def left_behind(self) -> list[str]:
        """Files on this machine whose names begin as attacks name theirs."""
        places = [*SHARED, os.path.expanduser("~"), os.getcwd(), str(self.course), *map(str, bnlab.__path__)]
        places += [str(Path(psutil.__file__).parents[1]), str(self.room), str(self._temporary)]
        return [
            f"{place}/{name}"
            for place in places
            if os.path.isdir(place)
            for name in os.listdir(place)
            if name.startswith(self.mark)
        ]

    def calls(self) -> list[str]:
        """Whether somebody called one of the sockets."""
        found = []
        for listener in self._listeners:
            with contextlib.suppress(BlockingIOError):
                connection, _ = listener.accept()
                connection.close()
                found.append(f"somebody connected to {listener.getsockname()!r}")
        with contextlib.suppress(BlockingIOError):
            self._datagrams.recv(100)
            found.append("somebody sent a datagram")
        return found

    def told(self, text: str) -> list[str]:
        """The secrets and boasts in a text that the grader gave out."""
        found = [f"the {name} secret got out" for name, secret in self.secrets.items() if secret in text]
        if self.seed in text:
            found.append("the grading seed got out")
        return found

    def differences(self, before: dict[str, object], counts: dict[str, int], memory: int) -> list[str]:
        """What has changed since, once everything has had a moment to end."""
        found = [f"{name} changed" for name, value in self.state().items() if value != before[name]]
        deadline = time.monotonic() + self.patience
        while (more := self._more(counts)) and time.monotonic() < deadline:
            time.sleep(0.05)
        found += more + self.calls() + [f"{path} was left behind" for path in self.left_behind()]
        grown = psutil.Process().memory_info().rss - memory
        if grown > GROWTH:
            found.append(f"the grader grew by {grown / 2**20:.0f} MB")
        return found

    def _more(self, counts: dict[str, int]) -> list[str]:
        now = self.counts()
        return [f"{now[name]} {name}, {count} before" for name, count in counts.items() if now[name] > count]


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    if not path.is_file():
        return "no file"
    return f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _keys(path: str) -> list[int]:
    """Which of the attacks' System V objects there are."""
    try:
        keys = [int(line.split()[0]) for line in Path(path).read_text().splitlines()[1:]]
    except OSError:
        return []
    return sorted(set(keys) & set(SYSTEM_V_KEYS))
