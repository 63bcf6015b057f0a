"""How students' code is kept apart from everything else, and the way in.

A :class:`Sandbox` starts a fork server (`fork_server.py`) behind bubblewrap: it sees the Python environment read-only
and nothing of the course directory or of anybody's home, it has no network, and its environment variables are chosen
here. For every submission it makes a copy of itself, which locks itself in further (`confine.py`) before it runs the
student's code. The only way between is a socket with plain data (`wire.py`).
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import bnlab
from bnlab.grading.confine import ROOM, Limits
from bnlab.grading.fork_server import UIDS, core_order
from bnlab.grading.wire import Channel

KINDS = ("bubblewrap", "container", "none")
START_SECONDS = 120.0  # the imports of a fork server on a slow disk
FIRST_UID = 1_900_000_000  # user ids that nobody has; one for each submission at work, so that limits count it alone
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
)
_servers = itertools.count()  # how many this process has started
APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


class SandboxUnavailable(Exception):
    """The sandbox can't work here: why, and what to do."""


@dataclass(frozen=True)
class Sandbox:
    """A way to keep students' code apart.

    Attributes
    ----------
    kind : str
        "bubblewrap"; "container" where the machine around is one that may be thrown away and has neither network nor
        secrets: limits and a user of its own, but no namespaces; "none": limits alone, for code that you trust.
    limits : Limits
    """

    kind: str = "bubblewrap"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"sandbox {self.kind!r}, expected one of {', '.join(KINDS)}")

    def probe(self) -> None:
        """Look whether it works here: start a fork server and let it answer.

        Raises
        ------
        SandboxUnavailable
            It doesn't. The message says why and what to do.
        """
        with ForkServer(self) as server:
            server.check()

    def command(self, descriptor: int, modules: tuple[str, ...], pictures: bool) -> list[str]:
        """The command that starts the fork server."""
        mine = FIRST_UID + (os.getpid() % 2**14 * 4 + next(_servers) % 4) * UIDS
        uid = mine if os.getuid() == 0 and self.kind != "none" else 0
        settings = {"kind": self.kind, "uid": uid, "limits": asdict(self.limits), "hides_tmp": _can_hide_tmp()}
        settings = json.dumps({**settings, "modules": modules, "pictures": pictures})
        python = [sys.executable, "-s", "-P", "-m", "bnlab.grading.fork_server", str(descriptor), settings]
        return [*_bubblewrap(), *python] if self.kind == "bubblewrap" else python

    def _advice(self, why: str) -> str:
        advice = "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap)"
        if shutil.which("bwrap"):
            advice = (
                "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), or in a container "
                "grant CAP_SYS_ADMIN"
            )
            with suppress(OSError):
                if Path(APPARMOR).read_text().strip() == "1":
                    advice = "AppArmor forbids user namespaces here: give /usr/bin/bwrap a profile that allows userns"
        return (
            f"submissions can't be kept apart here ({why.strip('; ')}): {advice}. If this machine is itself a "
            f"container that holds nothing but the submissions, use --sandbox container; to run submissions "
            f"unprotected, --no-sandbox"
        )


class ForkServer:
    """A process behind the sandbox's wall that has imported everything once and forks for every submission.

    Parameters
    ----------
    sandbox : Sandbox
    modules : tuple of str
        What it imports.
    pictures : bool
        Whether students' figures are drawn.

    Raises
    ------
    SandboxUnavailable
        It did not start.
    """

    def __init__(self, sandbox: Sandbox, modules: tuple[str, ...] = (), pictures: bool = False):
        self._sandbox = sandbox
        if sandbox.kind == "bubblewrap" and shutil.which("bwrap") is None:
            raise SandboxUnavailable(sandbox._advice("there is no program bwrap"))
        self._control, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile(prefix="bnlab-sandbox-")
        try:
            self._process = subprocess.Popen(
                sandbox.command(theirs.fileno(), modules, pictures),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=_environment(sandbox.kind),
                start_new_session=True,  # Ctrl-C is for the grader, which ends what it has begun
            )
        except OSError as error:
            raise SandboxUnavailable(sandbox._advice(str(error))) from None
        finally:
            theirs.close()
        self._control.settimeout(START_SECONDS)
        try:
            ready = self._control.recv(1)
        except OSError as error:
            ready, problem = b"", str(error)
        else:
            problem = "the fork server ended at its start"
        if not ready:
            self.close()
            raise SandboxUnavailable(sandbox._advice(f"{problem}: {self.complaint()}"))

    @property
    def entrance(self) -> socket.socket:
        """The socket by which it is asked for copies; several processes may share it, through :meth:`at`."""
        return self._control

    @classmethod
    def at(cls, entrance: socket.socket) -> "ForkServer":
        """A fork server that another process has started and will end.

        Parameters
        ----------
        entrance : socket.socket
            That process's `entrance`, or a duplicate of it.
        """
        server = cls.__new__(cls)
        server._control, server._process, server._errors = entrance, None, None
        return server

    def check(self) -> None:
        """See to it that a submission would be where it should be: behind the wall, and able to run.

        Raises
        ------
        SandboxUnavailable
            It wouldn't. The message says why and what to do.
        """
        with self.fork() as process:
            process.channel.send((0, "ping"), time.monotonic() + START_SECONDS)
            try:
                _, answer = process.channel.receive(time.monotonic() + START_SECONDS)
            except (EOFError, OSError) as error:
                raise SandboxUnavailable(self._sandbox._advice(f"{error}; {self.complaint()}")) from None
        if not answer["can_import"]:
            raise SandboxUnavailable(
                f"submissions run as a user of their own, who must be able to read {sys.base_prefix} and "
                f"{sys.prefix}: install Python and the course where everybody may read"
            )
        if self._sandbox.kind == "bubblewrap" and not answer["isolated"]:
            raise SandboxUnavailable(self._sandbox._advice(f"the process is not isolated: {answer}"))

    def fork(self) -> "SandboxedProcess":
        """A fresh process for one submission, where nothing of an earlier one is left.

        Where this process stays on one core, the other runs there too: then nobody has to be woken on another core for
        each message, and either of the two waits while the other works anyhow.

        Raises
        ------
        SandboxUnavailable
            The fork server is gone.
        """
        ours, theirs = socket.socketpair()
        keeper, keepers = socket.socketpair()
        try:
            socket.send_fds(self._control, [core_order(_own_core())], [theirs.fileno(), keepers.fileno()])
        except OSError as error:
            ours.close()
            keeper.close()
            raise SandboxUnavailable(f"the fork server is gone ({error}): {self.complaint()}") from None
        finally:
            theirs.close()
            keepers.close()
        return SandboxedProcess(Channel(ours), keeper)

    @property
    def pid(self) -> int:
        """Its process id, or that of the bubblewrap around it."""
        return self._process.pid

    def complaint(self) -> str:
        """The last line that it wrote to standard error."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else ""

    def close(self) -> None:
        """End it and everything that it has forked."""
        self._control.close()  # it ends when nobody can ask it for anything
        if self._process is None:
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class SandboxedProcess:
    """The process of one submission.

    Attributes
    ----------
    channel : Channel
        Speaks with what may be hostile code.
    """

    def __init__(self, channel: Channel, keeper: socket.socket):
        self.channel = channel
        self._keeper = keeper

    def end(self, patience: float = 0.0) -> str:
        """End it and all that it has started.

        Parameters
        ----------
        patience : float
            Seconds to wait for it to end by itself: one that has closed its end of the channel is about to.

        Returns
        -------
        str
            How it ended, in words: "killed" if it was still there, else what it died of; "memory" if it had wanted more
            than it may have.
        """
        how = self._report(patience) if patience else ""
        if not how:
            with suppress(OSError):  # also where it was ended before
                self._keeper.sendall(b"k")
            how = self._report(30)
        self.channel.close()
        self._keeper.close()
        return how

    def _report(self, seconds: float) -> str:
        """What the keeper says within this time, or ''."""
        try:
            self._keeper.settimeout(seconds)
            return self._keeper.recv(200).decode(errors="replace")
        except OSError:
            return ""

    def __enter__(self) -> "SandboxedProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _own_core() -> int | None:
    """The core that this process stays on; None where it may run on several."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return next(iter(cores)) if len(cores) == 1 else None


def _environment(kind: str) -> dict[str, str]:
    """All the environment variables there are inside."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": ROOM if kind == "bubblewrap" else "/tmp",
        "TMPDIR": ROOM if kind == "bubblewrap" else "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the same submission gives the same record
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA")},
    }


def _bubblewrap() -> list[str]:
    """bubblewrap with a view of the system's programs and of the Python environment, and nothing else."""
    is_root = os.getuid() == 0
    # Root keeps its user namespace, so that the fork server can give every submission a user id of its own; for
    # others the kernel makes a new one, in which nobody is root.
    rights = ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"] if is_root else ["CAP_SYS_ADMIN"]
    user = [] if is_root else ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command = [shutil.which("bwrap"), "--die-with-parent", "--new-session", *user]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--hostname", "sandbox", "--cap-drop", "ALL"]
    for right in rights:
        command += ["--cap-add", right]
    # Before the places of Python, which may lie inside.
    command += ["--tmpfs", "/tmp", "--tmpfs", ROOM]
    for place in SYSTEM:
        if os.path.islink(place):
            command += ["--symlink", os.readlink(place), place]
        elif os.path.exists(place):
            command += ["--ro-bind", place, place]
    for place in _python_places():
        for parent in reversed(Path(place).parents[:-1]):  # bubblewrap would make them for root alone
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", place, place]
    return [*command, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]


def _can_hide_tmp() -> bool:
    """Whether nothing of Python lies in /tmp, so that every submission can have an empty one."""
    return not any(place.startswith("/tmp/") for place in _python_places())


def _python_places() -> list[str]:
    """The directories that hold this Python, its packages and the course's own, outside the system's."""
    own = [sys.prefix, sys.base_prefix, *map(str, bnlab.__path__)]
    own += [path for path in sys.path if path and Path(path).name in ("site-packages", "dist-packages")]
    places: list[str] = []
    for place in sorted({str(Path(path).resolve()) for path in own} | set(own), key=len):
        inside = any(place == other or place.startswith(f"{other}/") for other in (*places, "/usr"))
        if not inside and os.path.isdir(place):
            places.append(place)
    return places
