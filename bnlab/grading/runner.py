"""The process that holds one submission: it runs the student's cells, then answers the checks' calls.

Everything here runs beside code that may be hostile and is believed nothing. It knows neither the grading seed nor an
expected value: it is asked ``batch_moments(x) = ?`` and answers with numbers.
"""

import base64
import contextlib
import io
import os
import random
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type

from bnlab.checks.in_kernel import InKernel
from bnlab.checks.oracle import Failure, Reply
from bnlab.grading.wire import OUTPUTS_LIMIT, Channel

TEXT_LIMIT = 100_000  # characters of one output
CELL_LIMIT = 2 * 2**20  # characters of all outputs of one cell; a picture that doesn't fit is left out
MIME_TYPES = ("text/plain", "image/png")  # what leaves here; HTML and scripts would run where a person looks at them


class _Outputs:
    """What the cell that runs has shown, up to a limit."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self._room = CELL_LIMIT

    def start(self) -> None:
        """Forget what an earlier cell has shown."""
        self.shown, self._room = [], CELL_LIMIT

    def add(self, output: dict[str, Any], size: int) -> None:
        """Keep an output of so many characters, if there is room for it."""
        if len(self.shown) < OUTPUTS_LIMIT and size <= self._room:
            self._room -= size
            self.shown.append(output)

    def write(self, name: str, text: str) -> None:
        """Add to a stream; what is too long is cut."""
        last = self.shown[-1] if self.shown else {}
        if last.get("name") != name:
            last = {"output_type": "stream", "name": name, "text": ""}
            self.add(last, 0)
        if last is self.shown[-1]:
            piece = text[: max(0, min(TEXT_LIMIT - len(last["text"]), self._room))]
            last["text"] += piece
            self._room -= len(piece)


_outputs = _Outputs()


def _bundle(data: dict[str, Any]) -> tuple[dict[str, str], int]:
    """What is kept of a display's data, as text; and how many characters that are."""
    kept = {}
    for kind in MIME_TYPES:
        value = data.get(kind)
        if kind == "image/png" and isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        if isinstance(value, str):
            kept[kind] = value[:TEXT_LIMIT] if kind == "text/plain" else value
    return kept, sum(map(len, kept.values()))


class _Publisher(DisplayPublisher):
    def publish(self, data: dict, metadata: dict | None = None, **_: Any) -> None:
        kept, size = _bundle(data)
        if kept:
            _outputs.add({"output_type": "display_data", "data": kept}, size)

    def clear_output(self, wait: bool = False) -> None:
        _outputs.start()


class _Hook(DisplayHook):
    def __call__(self, result: Any = None) -> None:
        if result is None:
            return
        self.check_for_underscore()
        if self.quiet():
            return
        data, _ = self.compute_format_data(result)
        kept, size = _bundle(data)
        if kept:
            _outputs.add({"output_type": "execute_result", "data": kept}, size)
        self.update_user_ns(result)


class _Stream(io.TextIOBase):
    """Standard output or error: text goes to the cell's outputs, up to a limit."""

    def __init__(self, name: str):
        self._name = name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        _outputs.write(self._name, text)
        return len(text)

    def fileno(self) -> int:
        return 1 if self._name == "stdout" else 2


class Shell(InteractiveShell):
    """IPython without terminal and history; what a cell shows is collected."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        name = getattr(etype, "__name__", str(etype))
        lines = [str(line)[:TEXT_LIMIT] for line in stb][:OUTPUTS_LIMIT]
        output = {"output_type": "error", "ename": str(name)[:200], "evalue": str(evalue)[:TEXT_LIMIT]}
        _outputs.add({**output, "traceback": lines}, len(output["evalue"]) + sum(map(len, lines)))

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no window here, so ``%matplotlib`` of any kind draws inline."""

    def init_history(self) -> None:
        super().init_history()
        self.history_manager.enabled = False

    def ask_exit(self) -> None:
        """A cell that says exit() ends itself, not the others."""


def make_shell(with_matplotlib: bool = False, with_pictures: bool = False) -> Shell:
    """Make the shell; once, before the fork.

    Parameters
    ----------
    with_matplotlib : bool
        Whether figures are shown below the cell that draws them.
    with_pictures : bool
        Whether they are drawn; it takes longer than all the rest. Else only that there is one is shown.
    """
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.HistoryManager.hist_file = ":memory:"
    settings.InteractiveShell.colors = "NoColor"
    settings.InteractiveShell.separate_in = ""
    shell = Shell.instance(config=settings)
    if with_matplotlib:
        from matplotlib_inline.backend_inline import configure_inline_support

        shell.run_line_magic("matplotlib", "inline")
        configure_inline_support(shell, "module://matplotlib_inline.backend_inline")
        if not with_pictures:
            from matplotlib.figure import Figure

            shell.display_formatter.formatters["image/png"].for_type(Figure, lambda figure: None)
    return shell


def serve(connection: socket.socket, walls: list[str]) -> None:
    """Answer the grader's messages until it hangs up.

    Parameters
    ----------
    connection : socket.socket
    walls : list of str
        What locks this process in beside the sandbox, for who asks.
    """
    channel = Channel(connection)
    work = _Work(walls)
    # Whoever draws without a seed of their own draws the same whenever they are graded.
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the global generator is what students use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    while True:
        try:
            number, what, *operands = channel.receive()
        except EOFError:
            return
        try:
            answer = getattr(work, what)(*operands)
        except KeyboardInterrupt as error:  # the student's own: nobody else can interrupt this process
            answer = _told(Reply(failure=Failure("raised", ("KeyboardInterrupt", "BaseException"), str(error)[:1000])))
        try:
            channel.send((number, answer))
        except Exception as error:  # an integer of 5000 digits, a list inside itself, a view of more than there is
            kind, why = type(error).__name__, f"what it returned can't be sent: {str(error)[:1000]}"
            channel.send((number, _told(Reply(failure=Failure("raised", (kind,), why)))))


class _Work:
    """What the grader may ask for: each method is one kind of message."""

    def __init__(self, walls: list[str]):
        self._walls = walls
        self._oracle: InKernel | None = None
        self._question = contextlib.ExitStack()  # what lasts as long as a question does
        self._shell = Shell.instance()

    def ping(self) -> dict:
        """What the walls are made of."""
        return {
            "uid": os.getuid(),
            "isolated": os.getpid() == 1 and os.getuid() != 0,
            "can_import": all(os.access(path, os.R_OK) for path in (os.__file__, np.__file__)),
            "walls": list(self._walls),
        }

    def files(self, contents: dict[str, str]) -> None:
        """Write the files that lie beside the notebook, and let it import them."""
        for name, text in contents.items():
            Path(name).write_text(text, encoding="utf-8")
        sys.path.insert(0, os.getcwd())

    def cell(self, source: str) -> list[dict]:
        """Run one cell; its outputs, in nbformat's form."""
        self._question.close()
        _outputs.start()
        with contextlib.redirect_stdout(_Stream("stdout")), contextlib.redirect_stderr(_Stream("stderr")):
            self._shell.run_cell(source, store_history=False)
        return _outputs.shown

    def question(self, name: str, seconds: float, watch: list[str]) -> str:
        """Take the answer to a question into hand; why there is none, or ''."""
        self._question.close()
        self._oracle = None
        if name not in self._shell.user_ns:
            return "is not defined"
        work = self._shell.user_ns[name]
        if not callable(work):
            return f"is a {type(work).__name__[:100]}"
        self._oracle = InKernel(work, seconds, "checks", tuple(watch))
        self._question.enter_context(self._oracle.many_calls())
        return ""

    def ask(self, watching: bool, what: str, *operands: Any) -> tuple:
        """Let the oracle of this process answer one call of a check."""
        self._oracle.watching = watching
        return _told(getattr(self._oracle, what)(*operands))


def _told(reply: Reply) -> tuple:
    """A reply as plain data."""
    failure = reply.failure and (reply.failure.kind, reply.failure.types, reply.failure.message, reply.failure.where)
    return (reply.value, failure, reply.changed, reply.printed, reply.warned, reply.borrowed)
