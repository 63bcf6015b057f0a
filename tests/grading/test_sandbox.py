"""What a student's process can see and do: almost nothing, in every kind of sandbox as much as that kind promises."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnlab.grading import sandbox as module
from bnlab.grading.confine import Limits
from bnlab.grading.remote import Conversation, Stopped
from bnlab.grading.sandbox import ForkServer, Sandbox, SandboxUnavailable

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap"
)
SMALL = Limits(cell_seconds=5, question_seconds=5, submission_seconds=30, memory=200 * 2**20, file_bytes=2**20)


def run(process, code):
    """Run a cell in the process; what it prints."""
    outputs = Conversation(process, time.monotonic() + 60).ask(30, "cell", code)
    return "".join(output.get("text", "") or str(output.get("evalue", "")) for output in outputs)


@pytest.fixture(scope="module")
def server():
    with ForkServer(Sandbox(limits=SMALL)) as server:
        yield server


@needs_bubblewrap
def test_the_probe_is_content_where_the_sandbox_works():
    Sandbox().probe()


@needs_bubblewrap
def test_the_process_is_nobody_and_may_nothing(server):
    with server.fork() as process:
        status = run(process, "print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split() and "0" not in fields["Gid"].split()
    assert all(int(fields[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2" and fields["Pid"] == "1"


@needs_bubblewrap
def test_it_sees_neither_other_processes_nor_others_files(server, tmp_path):
    canary = tmp_path / "gradebook.db"
    canary.write_text("secret")
    course = Path(__file__).parents[2] / "exercises"
    with server.fork() as process:
        seen = run(
            process,
            f"import os\nprint([p for p in os.listdir('/proc') if p.isdigit()], os.listdir('.'), "
            f"os.path.exists({str(canary)!r}), os.path.exists({str(course)!r}), os.path.exists({str(Path.home())!r}) "
            f"and os.listdir({str(Path.home())!r}), sorted(os.environ))",
        )
    assert seen.startswith("['1'] [] False False ")
    assert not any(name in seen for name in (".ssh", ".bash", "BNLAB", "TOKEN"))
    assert set(os.environ) & {"USER", "LOGNAME", "SSH_AUTH_SOCK"} & set(seen.split("'")) == set()


@needs_bubblewrap
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', PORT), 2)",
        "import socket; socket.socket(socket.AF_UNIX).connect('\\0bnlab-test')",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "open('/etc/passwd', 'w')",
        "open('/usr/new', 'w')",
        "open('/dev/new', 'w')",
        "import os; os.mknod('/tmp/sda', 0o600 | 0o060000, os.makedev(8, 0))",
        "import os; os.chroot('/tmp')",
        "import os; os.setuid(0)",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); assert libc.unshare(0x10000000) == 0",
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); assert libc.ptrace(0, 0, 0, 0) == 0",
        "import os; os.memfd_create('x')",
        "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999))",
    ],
)
def test_what_it_may_not_do_fails(server, code):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        code = code.replace("PORT", str(listener.getsockname()[1]))
        with server.fork() as process:
            said = run(
                process,
                "\n    ".join(["try:", *code.split("; ")]) + "\nexcept BaseException as e:\n    print('refused', e)",
            )
        assert said.startswith("refused"), said
        with pytest.raises(TimeoutError):
            listener.accept()


@needs_bubblewrap
def test_nothing_is_left_for_the_next(server):
    with server.fork() as process:
        run(process, "import os, sys\nopen('x', 'w').write('1'); open('/dev/shm/x', 'w').write('1')")
        run(process, "sys.modules['planted'] = os; os.environ['PLANTED'] = '1'; import builtins; builtins.planted = 1")
    with server.fork() as process:
        code = "import builtins, os, sys\nprint(os.listdir('.'), os.listdir('/dev/shm'), 'planted' in sys.modules, "
        assert (
            run(process, code + "'PLANTED' in os.environ, hasattr(builtins, 'planted'))") == "[] [] False False False\n"
        )


@needs_bubblewrap
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(3)", "crashed"),
        ("import ctypes; ctypes.string_at(0)", "crashed"),
        ("while True: pass", "timeout"),
        ("keep = []\nwhile True: keep.append(bytearray(10_000_000))", None),  # a MemoryError that the student sees
        (
            "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        keep = [b'x' * 80_000_000]\n"
            "        time.sleep(60)\ntime.sleep(60)",
            "memory",
        ),
    ],
)
def test_how_it_ended_is_told(server, code, status):
    conversation = Conversation(server.fork(), time.monotonic() + 60)
    try:
        if status is None:
            assert "MemoryError" in str(conversation.ask(30, "cell", code))
        else:
            with pytest.raises(Stopped) as stopped:
                conversation.ask(3, "cell", code)
            assert stopped.value.status == status
    finally:
        conversation.close()


@needs_bubblewrap
def test_too_many_processes_are_refused_and_all_end_with_the_first(server):
    conversation = Conversation(server.fork(), time.monotonic() + 60)
    code = (
        "import os, time\ncount = 0\ntry:\n    for _ in range(500):\n        if os.fork() == 0:\n"
        "            os.setsid()\n            time.sleep(60)\n        count += 1\n"
        "except OSError as e:\n    print(count, e)"
    )
    said = str(conversation.ask(20, "cell", code))
    assert "Resource temporarily unavailable" in said
    started = time.monotonic()
    conversation.close()
    assert time.monotonic() - started < 5
    with server.fork() as process:  # nobody holds the places of the next
        assert (
            run(process, "import os\nfor _ in range(20):\n    if os.fork() == 0: os._exit(0)\nprint('fine')")
            == "fine\n"
        )


@needs_bubblewrap
def test_a_fork_server_that_was_killed_says_so(tmp_path):
    server = ForkServer(Sandbox(limits=SMALL))
    os.kill(server.pid, 9)
    time.sleep(0.2)
    with pytest.raises((SandboxUnavailable, Stopped)):
        Conversation(server.fork(), time.monotonic() + 5).ask(5, "ping")
    server.close()


FOREIGN = """
import os, sys, time
sys.path.insert(0, os.path.dirname(sys.argv[0]) or ".")
from bnlab.grading.remote import Conversation
from bnlab.grading.sandbox import ForkServer, Sandbox

sandbox = Sandbox(sys.argv[1])
sandbox.probe()
with ForkServer(sandbox) as server:
    process = server.fork()
    ask = Conversation(process, time.monotonic() + 60).ask
    ask(30, "cell", "import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    time.sleep(60)\\n    os._exit(0)")
    place, uid = ask(30, "cell", "print(os.getcwd(), os.getuid())")[0]["text"].split()
    how, rest = process.end(), [name for name in os.listdir("/tmp") if name.startswith("bnlab-submission")]
    print(place, uid, how, os.path.exists(place), rest)
"""


@pytest.mark.parametrize(
    "kind",
    ["none", pytest.param("container", marks=[needs_bubblewrap, pytest.mark.skipif(os.getuid(), reason="root")])],
)
def test_other_kinds_run_and_leave_nothing_behind(kind):
    """Where there is no wall of our own. For "container" bubblewrap plays the container, with root's usual rights."""
    around = []
    if kind == "container":
        *around, end = module._bubblewrap()
        around += ["--cap-add", "CAP_CHOWN", "--cap-add", "CAP_DAC_OVERRIDE", end]
    command = [*around, sys.executable, "-c", FOREIGN, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    place, uid, how, rest = done.stdout.split(maxsplit=3)
    assert place.startswith("/tmp/bnlab-submission-") and how == "killed" and rest.strip() == "False []"
    assert kind == "none" or int(uid) > 0


def test_a_container_in_which_students_cannot_read_python_is_refused():
    try:
        Sandbox("container").probe()
    except SandboxUnavailable as refused:
        assert "must be able to read" in str(refused)


def test_without_bubblewrap_it_refuses_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap") as refused:
        Sandbox().probe()
    assert "--no-sandbox" in str(refused.value)


def test_a_kind_that_there_is_none_is_refused():
    with pytest.raises(ValueError, match="expected one of bubblewrap, container, none"):
        Sandbox("chroot")
