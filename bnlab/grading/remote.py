"""The grader's side of the socket: the oracle that the checks ask, and what it makes of the answers.

Whatever comes back is looked at as if it came from an attacker. It is of the right form, or the process that sent it is
ended.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bnlab.checks.oracle import Failure, Handle, Named, Reply
from bnlab.grading.record import CRASHED, MEMORY, TIMEOUT
from bnlab.grading.sandbox import SandboxedProcess
from bnlab.grading.wire import BadMessage

GRACE = 3.0  # seconds by which a call may exceed its own limit before the process is ended
PATIENCE = 5.0  # seconds for a process that has hung up to end by itself, so that it is known what of
TEXT_LIMIT = 4_000  # characters of anything that a student's code says about itself
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey; line break and tab stay
FAILURES = ("raised", "not answered", "timeout", "exit")


class Stopped(BaseException):
    """The student's process can't go on. Not an Exception, so that no check takes it for a wrong answer.

    Attributes
    ----------
    status : str
        "crashed", "timeout" or "memory".
    """

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


class Conversation:
    """Questions to one sandboxed process and its answers, each within a time limit.

    Parameters
    ----------
    process : SandboxedProcess
    deadline : float
        When the whole submission must be done, by `time.monotonic`.
    """

    def __init__(self, process: SandboxedProcess, deadline: float):
        self._process = process
        self._number = 0
        self.deadline = deadline

    def ask(self, seconds: float, what: str, *operands: Any) -> Any:
        """Send one message and wait for its answer.

        Raises
        ------
        Stopped
            It did not come in time, or is no answer. The process is ended.
        """
        self._number += 1
        deadline = min(time.monotonic() + seconds, self.deadline)
        try:
            self._process.channel.send((self._number, what, *operands), deadline)
            answer = self._process.channel.receive(deadline)
            if not (type(answer) is tuple and len(answer) == 2 and answer[0] == self._number):
                raise BadMessage("an answer to nothing that was asked")
            return answer[1]
        except TimeoutError:
            how, why = TIMEOUT, f"no answer within {seconds:.0f} s"
            if time.monotonic() >= self.deadline:
                why = "the time for this question, or for the whole submission, was used up"
        except BadMessage as error:
            how, why = CRASHED, f"the process answered with something that is no answer: {error}"
        except (EOFError, OSError):
            how, why = CRASHED, ""
        raise self.stop(how, why)

    @contextmanager
    def until(self, seconds: float) -> Iterator[None]:
        """Let all that is asked inside take no longer than this together."""
        outer = self.deadline
        self.deadline = min(outer, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = outer

    def close(self) -> None:
        """End the process."""
        self._process.end()

    def stop(self, status: str, why: str = "") -> Stopped:
        """End the process; the error to raise, which says "memory" where that is what it was ended for."""
        ending = self._process.end(patience=0 if why else PATIENCE)
        if ending == "memory":
            return Stopped(MEMORY, "it took more memory than there is for it")
        return Stopped(status, why or f"the process {'ended' if ending in ('', 'killed') else ending}")


class RemoteOracle:
    """The oracle in front of a student's work in another process; see `bnlab.checks.oracle.Oracle`.

    Parameters
    ----------
    conversation : Conversation
    seconds : float
        Time limit of one call.
    """

    def __init__(self, conversation: Conversation, seconds: float):
        self._conversation = conversation
        self._seconds = seconds
        self.watching = True

    def call(self, args: tuple, kwargs: dict) -> Reply:
        return self._ask("call", args, kwargs)

    def method(self, handle: Handle, name: str, args: tuple, kwargs: dict) -> Reply:
        return self._ask("method", handle, name, args, kwargs)

    def attribute(self, handle: Handle, name: str) -> Reply:
        return self._ask("attribute", handle, name)

    def make(self, what: Named, args: tuple, kwargs: dict) -> Reply:
        return self._ask("make", what, args, kwargs)

    def vjp(self, handle: Handle | None, args: tuple, cotangent: Any, directions: tuple | None) -> Reply:
        return self._ask("vjp", handle, args, cotangent, directions)

    def _ask(self, what: str, *operands: Any) -> Reply:
        answer = self._conversation.ask(self._seconds + GRACE, "ask", self.watching, what, *operands)
        try:
            reply = _reply(answer)
        except BadMessage as error:
            why = f"the process answered with something that is no answer: {error}"
            raise self._conversation.stop(CRASHED, why) from None
        if reply.failure and reply.failure.kind == "timeout":
            raise self._conversation.stop(TIMEOUT, f"a call did not end within {self._seconds:g} s")
        if reply.failure and reply.failure.types[:1] == ("MemoryError",):
            raise self._conversation.stop(
                MEMORY, f"it wanted more memory than there is for it: {reply.failure.message}"
            )
        return reply


def _reply(answer: Any) -> Reply:
    if not (type(answer) is tuple and len(answer) == 6):
        raise BadMessage("it is no reply")
    value, failure, changed, printed, warned, borrowed = answer
    if failure is not None:
        kind, types, message, where = _items(failure, tuple, 4)
        if kind not in FAILURES:
            raise BadMessage("it fails in a way that there is none")
        failure = Failure(kind, tuple(map(text, _items(types, tuple)))[:20], text(message), text(where))
    for key in _items(changed, tuple):
        if type(key) not in (int, str):
            raise BadMessage("it names no argument")
    changed = tuple(key if type(key) is int else text(key) for key in changed)
    return Reply(
        value, failure, changed, text(printed), tuple(map(text, _items(warned, tuple)))[:20],
        tuple(map(text, _items(borrowed, tuple)))[:20],
    )  # fmt: skip


def text(value: Any, limit: int = TEXT_LIMIT) -> str:
    """A string of the student's, cut, and such that it can be written to a file.

    Raises
    ------
    BadMessage
        It is none.
    """
    if type(value) is not str:
        raise BadMessage("a text is missing")
    if not value:
        return ""
    shown = value if len(value) <= limit else f"{value[:limit]} [...]"
    shown = CONTROL.sub("", ADDRESS.sub("0x...", shown))  # an address is another one every time
    return shown.encode("utf-8", "replace").decode()


def _items(value: Any, kind: type, count: int | None = None) -> Any:
    if type(value) is not kind or (count is not None and len(value) != count):
        raise BadMessage(f"a {kind.__name__} is missing")
    return value
