"""Runs the cells of a page as Jupyter would, as far as the course's NumPy notebooks need it.

Every output goes, as it comes, to a function that is given the dictionary a notebook would hold (nbformat 4): a
stream, display_data, execute_result or error. The value of a cell's last expression is shown, `display` shows more, and
what prints goes to a stream. Lines that begin with % or ! belong to Jupyter and are left out.

What this isn't: IPython. It has no history, no completion, no await, and nothing to interrupt a cell with: the page
ends the whole worker.
"""

import ast
import builtins
import contextlib
import io
import linecache
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

PRINTED_LIMIT = 100_000  # characters that one cell may print
VALUE_LIMIT = 20_000  # of one value's text
SHOWN_LIMIT = 3_000_000  # of all values that one cell shows, pictures among them
TRACEBACK_LIMIT = 12  # frames
STREAM_PAUSE = 0.1  # seconds between two pieces of a stream
MAGIC = re.compile(r"^\s*(%|!|\?)|^\s*[\w.]+\?+\s*$")
SHOWN_BY_METHOD = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "text/latex": "_repr_latex_",
}

Send = Callable[[dict], None]


class Kernel:
    """One session: the names that its cells have defined, and how many of them have run.

    Parameters
    ----------
    send : callable
        Gets every output, an nbformat dictionary.
    """

    def __init__(self, send: Send):
        self.send = send
        self.count = 0
        self.module = ModuleType("__main__")  # classes of the reader's say that they come from there, as in Jupyter
        self.names = vars(self.module)
        self.names |= {"__builtins__": builtins, "display": self.display}
        self.after_cell: Callable[[bool], None] = lambda ok: None  # told how it went: open figures are shown now
        self._outputs = Outputs(send)

    def run(self, code: str) -> bool:
        """Run one cell.

        Returns
        -------
        bool
            Whether it ran to its end. If not, the last output is the error.
        """
        self.count += 1
        file = f"<cell {self.count}>"
        linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file
        self._outputs = outputs = Outputs(self.send)
        earlier, sys.modules["__main__"] = sys.modules.get("__main__"), self.module
        try:
            with contextlib.redirect_stdout(outputs.stdout), contextlib.redirect_stderr(outputs.stderr):
                try:
                    self._execute(code, file)
                    self.after_cell(True)
                except BaseException as error:  # of whatever kind: the reader sees it, and the session goes on
                    self.after_cell(False)
                    outputs.error(error)
                    return False
                return True
        finally:
            outputs.flush()
            sys.modules["__main__"] = earlier

    def _execute(self, code: str, file: str) -> None:
        try:
            tree = ast.parse(code, file)
        except SyntaxError:
            tree = ast.parse(without_magics(code), file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, file, "exec"), self.names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), file, "eval"), self.names)
            if value is not None and not silenced(code):
                self.names["_"] = value
                self._outputs.show(value, "execute_result", {"execution_count": self.count})

    def display(self, *values: Any, **_: Any) -> None:
        """Show each value as a picture, as HTML or as text, whichever it offers."""
        for value in values:
            self._outputs.show(value, "display_data", {})


class Outputs:
    """The outputs of one cell, sent as they come, until they are too much."""

    def __init__(self, send: Send):
        self._send = send
        self._room = {"printed": PRINTED_LIMIT, "shown": SHOWN_LIMIT}
        self._cut = False
        self.stdout, self.stderr = Stream("stdout", self), Stream("stderr", self)

    def show(self, value: Any, kind: str, more: dict) -> None:
        """Send a value in all the forms it has."""
        self.flush()
        data, metadata = forms(value)
        self._room["shown"] -= sum(len(str(form)) for form in data.values())
        if self._room["shown"] < 0:
            self._say_cut()
            return
        self._send({"output_type": kind, "data": data, "metadata": metadata, **more})

    def print(self, name: str, text: str) -> None:
        """Send a piece of a stream, or of it what there is room for."""
        kept = text[: max(self._room["printed"], 0)]
        self._room["printed"] -= len(text)
        if kept:
            self._send({"output_type": "stream", "name": name, "text": kept})
        if len(kept) < len(text):
            self._say_cut()

    def error(self, error: BaseException) -> None:
        """Send an error with its traceback, of which a reader sees the lines of his own cells."""
        self.flush()
        lines = shown_traceback(error)
        message = cut(message_of(error), 2_000)
        self._send({"output_type": "error", "ename": type(error).__name__, "evalue": message, "traceback": lines})

    def turn_to(self, stream: "Stream") -> None:
        """Send what the other stream holds back: the order is that of the printing."""
        (self.stderr if stream is self.stdout else self.stdout).flush()

    def flush(self) -> None:
        """Send what is held back."""
        self.stdout.flush()
        self.stderr.flush()

    @property
    def is_full(self) -> bool:
        """Whether nothing that is printed would be shown any more."""
        return self._room["printed"] < 0

    def _say_cut(self) -> None:
        if not self._cut:
            self._cut = True
            note = (
                f"[The rest is not shown: a cell shows up to {PRINTED_LIMIT // 1000} kB. Print less, or only a part.]"
            )
            self._send({"output_type": "stream", "name": "stderr", "text": f"\n{note}\n"})


class Stream(io.TextIOBase):
    """What a cell prints to: it passes on at once what comes first, and then some pieces a second."""

    def __init__(self, name: str, outputs: Outputs):
        self._name, self._outputs = name, outputs
        self._pieces: list[str] = []
        self._size = 0
        self._sent = -STREAM_PAUSE

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._outputs.is_full:
            self._outputs.turn_to(self)
            self._pieces.append(text)
            self._size += len(text)
            if self._size > 10_000 or time.monotonic() - self._sent > STREAM_PAUSE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces, self._size, self._sent = [], 0, time.monotonic()
            self._outputs.print(self._name, text)

    def close(self) -> None:
        """Stay open: `sys.stdout.close()` in a cell is no reason to lose what later cells print."""


class NoInput(io.TextIOBase):
    """What a cell reads from: there is nobody to ask while it runs."""

    def readline(self, size: int = -1) -> str:
        raise EOFError("a cell in a page can't ask for input: write the value into the code")

    def close(self) -> None:
        """Stay open: `exit()` closes it, and ends nothing here."""


def without_magics(code: str) -> str:
    """The code with nothing in the place of Jupyter's own lines, so that all others keep their numbers."""
    return "\n".join("" if MAGIC.match(line) else line for line in code.split("\n"))


def silenced(code: str) -> bool:
    """Whether a cell's last line ends with a semicolon: Jupyter shows no value then."""
    return code.rstrip().endswith(";")


def forms(value: Any) -> tuple[dict, dict]:
    """A value as MIME types, text/plain among them, and their metadata."""
    bundle = getattr(type(value), "_repr_mimebundle_", None)
    if bundle is not None:
        found = bundle(value)
        data, metadata = found if isinstance(found, tuple) else (found, {})
        return {"text/plain": repr(value), **data}, metadata
    data = {"text/plain": cut(shown(value), VALUE_LIMIT)}
    for mime, method in SHOWN_BY_METHOD.items():
        if not isinstance(value, type) and callable(getattr(value, method, None)):
            form = getattr(value, method)()
            if form is not None:
                data[mime] = form
    return data, {}


def shown(value: Any) -> str:
    """A value as a notebook writes it: long lists and dictionaries over several lines."""
    if type(value) in (list, tuple, dict, set) and len(text := repr(value)) > 79:
        import pprint  # seldom needed, and not small

        return pprint.pformat(value, sort_dicts=False) if len(text) < VALUE_LIMIT else text
    return repr(value)


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} [...]"


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a class of the reader's own
        return "(its message can't be shown)"


def shown_traceback(error: BaseException) -> list[str]:
    """The lines of a traceback as a notebook shows them: of the cells' frames alone, and of the cause first."""
    chain, seen = [error], {id(error)}
    while (before := earlier_error(chain[-1])) is not None and id(before) not in seen:
        chain.append(before)
        seen.add(id(before))
    lines = []
    for number, part in enumerate(reversed(chain)):
        if number:
            after = chain[len(chain) - 1 - number]
            direct = after.__cause__ is not None
            lines += [
                "\nThe above exception was the direct cause of the following exception:\n"
                if direct
                else "\nDuring handling of the above exception, another exception occurred:\n"
            ]
        lines += ["-" * 75, f"{type(part).__name__:<42}Traceback (most recent call last)"]
        lines += frames_of(part)
        lines += [f"{cut(line, 2_000)}" for line in summary(part)]
    return lines


def earlier_error(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def frames_of(error: BaseException) -> Iterator[str]:
    """Each frame of the reader's with the lines around the one that failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<cell ")]
    if len(frames) > TRACEBACK_LIMIT:
        left_out = len(frames) - TRACEBACK_LIMIT
        frames[TRACEBACK_LIMIT // 2 : -TRACEBACK_LIMIT // 2] = [left_out]
    for frame in frames:
        if isinstance(frame, int):
            yield f"\n[... {frame} more of these ...]\n"
            continue
        where = "" if frame.name == "<module>" else f", in {frame.name}"
        yield f"Cell In[{frame.filename[6:-1]}], line {frame.lineno}{where}"
        source = linecache.getlines(frame.filename)
        for number in range(max(1, frame.lineno - 2), min(len(source), frame.lineno + 2) + 1):
            arrow = "---->" if number == frame.lineno else "     "
            yield f"{arrow} {number:>3} {source[number - 1].rstrip()}"
        yield ""


def summary(error: BaseException) -> list[str]:
    """The last lines of a traceback: the kind of error and its message, and for a syntax error the place."""
    try:
        text = "".join(traceback.format_exception_only(type(error), error))
    except Exception:
        text = f"{type(error).__name__}: {message_of(error)}"
    text = re.sub(r'File "<cell (\d+)>"', r"Cell In[\1]", text)
    return text.rstrip("\n").split("\n")
