"""The process behind the wall that forks for every submission: ``python -m bnlab.grading.fork_server``.

It imports once what students import, runs on one thread and holds no secret. For every submission it forks a keeper,
which never runs a student's code: the keeper puts its own child into new namespaces, watches how much memory the child
and its children take, ends them when it is told to, and tells what they died of. The child locks itself in
(`confine.py`) and then serves (`runner.py`).
"""

import contextlib
import fcntl
import gc
import importlib
import io
import itertools
import json
import os
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
from pathlib import Path

from bnlab.grading import confine
from bnlab.grading.confine import Limits

UIDS = 256  # user ids that the copies take in turn; many more than are at work at one time
ORDER = 2  # bytes of a message that asks for a copy
WATCH = 0.05  # seconds between two looks at the memory


def main(descriptor: int, settings: dict) -> None:
    """Serve until the grader closes its end.

    Parameters
    ----------
    descriptor : int
        The file descriptor of the socket to the grader.
    settings : dict
        Kind of sandbox, user id, limits, modules to import, and whether to draw figures.
    """
    limits = Limits(**settings["limits"])
    warm_up(settings["modules"], settings["pictures"])
    gc.collect()
    gc.freeze()  # so that no copy of this process writes to, and copies, what all of them share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers end by themselves
    control = socket.socket(fileno=descriptor)
    control.sendall(b"r")
    for number in itertools.count():
        order, handed, _, _ = socket.recv_fds(control, ORDER, 2)
        if not order:
            return
        if os.fork() == 0:
            control.close()
            _stay_on_core(order)
            uid = settings["uid"] and settings["uid"] + number % UIDS
            _keep(*handed, settings["kind"], uid, settings["hides_tmp"], limits)
        for one in handed:
            os.close(one)


def core_order(core: int | None) -> bytes:
    """The message that asks for a copy, which stays on this core; None: on any."""
    return (0 if core is None else core + 1).to_bytes(ORDER, "little")


def _stay_on_core(order: bytes) -> None:
    core = int.from_bytes(order, "little") - 1
    if core >= 0:
        with contextlib.suppress(OSError):  # not one of ours: then any will do
            os.sched_setaffinity(0, {core})


def warm_up(modules: list[str], pictures: bool) -> None:
    """Import what is slow to import, and draw a figure, so that no submission pays for it."""
    from bnlab.grading import runner

    for name in modules:
        with contextlib.suppress(ImportError):  # a student who imports it sees the error where it belongs
            importlib.import_module(name)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
        # torch imports this at its first use of cotangents
        with contextlib.suppress(ImportError):
            importlib.import_module("torch.fx.experimental.symbolic_shapes")
    runner.make_shell("matplotlib.pyplot" in modules, pictures)
    if "matplotlib.pyplot" in modules:
        from matplotlib.figure import Figure

        figure = Figure()
        figure.subplots().set_title("$\\hat{x}$")
        figure.savefig(io.BytesIO(), format="png")


def _keep(channel: int, report: int, kind: str, uid: int, hides_tmp: bool, limits: Limits) -> None:
    """The keeper's life; it never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    grader = socket.socket(fileno=report)
    room = confine.ROOM
    try:
        if kind == "bubblewrap":
            confine.new_namespaces()
        else:
            confine.adopt_orphans()
            room = tempfile.mkdtemp(prefix="bnlab-submission-")
            if uid and os.getuid() == 0:
                os.chown(room, uid, uid)
        child = os.fork()
    except OSError as error:
        _tell(grader, f"could not fork: {error}")
        os._exit(1)
    if child == 0:
        grader.close()
        _become_runner(channel, kind, uid, room, hides_tmp, limits)
    os.close(channel)
    how = _watch(child, grader, limits)
    if kind != "bubblewrap":
        shutil.rmtree(room, ignore_errors=True)
    _tell(grader, how)
    os._exit(0)


def _tell(grader: socket.socket, how: str) -> None:
    with contextlib.suppress(OSError):
        grader.sendall(how.encode())


def _watch(child: int, grader: socket.socket, limits: Limits) -> str:
    """Wait for the child's end, or make it; say what it was."""
    ended = os.pidfd_open(child)
    own = _resident(os.getpid())  # what every copy shares with this process
    how = ""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(grader, select.POLLIN)
    while True:
        ready = dict(poll.poll(WATCH * 1000))
        if ended in ready:
            break
        if grader.fileno() in ready:
            how = "killed"
        elif _holds_more_than(own + limits.memory):
            how = "memory"
        if how:
            _kill_family()
            break
    status = 0 if how else os.waitpid(child, 0)[1]
    _kill_family()
    if how:
        return how
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with exit code {os.WEXITSTATUS(status)}"


def _family() -> list[int]:
    """All that descends from this process."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = Path(f"/proc/{entry}/stat").read_text()
                parents[int(entry)] = int(line.rpartition(")")[2].split()[1])
    family, found = {os.getpid()}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in family} - family
        family |= found
    return sorted(family - {os.getpid()})


def _holds_more_than(most: int) -> bool:
    """Whether the family holds more bytes of memory; pages that several share are counted once."""
    family = _family()
    return sum(map(_resident, family)) > most and sum(map(_proportional, family)) > most


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return _resident(pid)


def _kill_family() -> None:
    """End all that descends from this process. In a namespace of its own the kernel helps: all end with the first."""
    while family := _family():
        for pid in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _close_all_but(connection: int) -> None:
    """Close what this process has inherited, but not the files that libraries read: matplotlib's fonts are open."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        with contextlib.suppress(OSError):  # the one of the listing itself is gone
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            is_read = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            if descriptor > 2 and descriptor != connection and not (is_file and is_read):
                os.close(descriptor)


def _become_runner(channel: int, kind: str, uid: int, room: str, hides_tmp: bool, limits: Limits) -> None:
    """Lock this process in, then serve; it never returns."""
    from bnlab.grading import runner

    try:
        if kind == "bubblewrap":
            confine.own_mounts(limits, hides_tmp)
        connection = channel if channel == 3 else os.dup2(channel, 3, inheritable=False)
        _close_all_but(connection)
        os.chdir(room)
        if kind != "none":
            confine.drop_rights(uid)
        confine.limit_resources(limits)
        walls = []
        if kind != "none":
            walls += ["landlock"] if confine.confine_files() else []
            walls += ["seccomp"] if confine.refuse_system_calls() else []
        nothing = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        runner.serve(socket.socket(fileno=connection), walls)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
