"""Grade one submission: read it, repair it, run it in the sandbox, and let the checks ask it questions from outside."""

import base64
import binascii
import hashlib
import signal
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import nbformat
from nbformat import NotebookNode

from bnlab.checks import Report
from bnlab.checks.report import JSON_MIME
from bnlab.grading.intake import EMPTY_ANSWER, UnreadableNotebook, belongs, parse_notebook, repair
from bnlab.grading.material import Material, environment
from bnlab.grading.record import (
    CRASHED,
    GRADED,
    MISSING,
    TIMEOUT,
    UNPROTECTED,
    UNREADABLE,
    Graded,
    QuestionResult,
    Record,
    WrittenAnswer,
)
from bnlab.grading.remote import Conversation, RemoteOracle, Stopped, text
from bnlab.grading.sandbox import ForkServer, Sandbox, SandboxUnavailable
from bnlab.grading.wire import OUTPUTS_LIMIT, BadMessage

FILE_LIMIT = 50 * 2**20  # bytes of a notebook
PNG = b"\x89PNG\r\n\x1a\n"
MARGIN = 10.0  # seconds by which the checks' own work may exceed the time for a question


class Grader:
    """Grades submissions of one problem set, one after the other.

    It holds a sandbox with a warm process open; use it as a context manager, one per process.

    Parameters
    ----------
    material : Material
    sandbox : Sandbox
        How students' code is kept apart.
    pictures : bool
        Whether to draw the figures of every submission anew, which takes longer than all the rest. Else the executed
        notebook shows the pictures that were handed in, and says so.
    server : ForkServer, optional
        One that several graders share, for this sandbox and material. Default: one of its own.

    Raises
    ------
    SandboxUnavailable
        The sandbox doesn't work here; by the first submission that needs it.
    """

    def __init__(self, material: Material, sandbox: Sandbox, pictures: bool = False, server: ForkServer | None = None):
        self.material = material
        self.sandbox = sandbox
        self.pictures = pictures
        self._server = server

    def grade(self, data: bytes | None, student: str, questions: Collection[str] | None = None) -> Graded:
        """Grade one submission.

        Parameters
        ----------
        data : bytes or None
            The notebook's file as handed in; None where nothing was.
        student : str
        questions : collection of str, optional
            Grade these questions alone; the record then holds only them. Default: all.

        Returns
        -------
        Graded
            Whatever the submission does: what could not be graded has a status that says so.

        Raises
        ------
        SandboxUnavailable
            Not the submission, but the sandbox failed.
        """
        started = time.monotonic()
        wanted = [name for name in self.material.problem_set.questions if questions is None or name in questions]
        digest = hashlib.sha256(data).hexdigest() if data is not None else ""
        try:
            if data is None:
                raise _Unusable(MISSING, "nothing was handed in")
            notebook, findings = self._read(data)
        except _Unusable as error:
            results = [self._without_score(name, error.status, str(error)) for name in wanted]
            return Graded(self._record(student, digest, results, (), ()), "", time.monotonic() - started)
        run = _Run(self, notebook, wanted)
        results = run.results()
        stopped = run.stopped_cells()  # the student sees them where they stand
        written = self._written(notebook) if questions is None else ()
        unprotected = [UNPROTECTED[self.sandbox.kind]] if self.sandbox.kind in UNPROTECTED else []
        _annotate(notebook, findings, results, [*unprotected, *stopped])
        record = self._record(student, digest, results, written, (*findings, *stopped))
        return Graded(record, nbformat.writes(notebook), time.monotonic() - started)

    def _read(self, data: bytes) -> tuple[NotebookNode, list[str]]:
        name = f"{self.material.name}.ipynb"
        if len(data) > FILE_LIMIT:
            raise _Unusable(UNREADABLE, f"{name} has {len(data) / 2**20:.0f} MB, allowed are {FILE_LIMIT // 2**20}")
        try:
            notebook = parse_notebook(data, name)
            if not belongs(notebook, self.material.notebook):
                raise UnreadableNotebook(
                    f"{name} has none of this problem set's cells: is it another notebook, renamed? "
                    f"Ask for the right file"
                )
            return repair(notebook, self.material.notebook)
        except UnreadableNotebook as error:
            raise _Unusable(UNREADABLE, str(error)) from None
        except Exception as error:  # a file that nobody has thought of; it must not stop the others
            raise _Unusable(UNREADABLE, f"{name} can't be read ({type(error).__name__}): look at the file") from None

    def _written(self, notebook: NotebookNode) -> tuple[WrittenAnswer, ...]:
        cells = {_mark(cell).get("grade_id"): cell.source.strip() for cell in notebook.cells}
        return tuple(
            WrittenAnswer(name, points, cells.get(name, "") not in ("", EMPTY_ANSWER))
            for name, points in self.material.problem_set.written_answers.items()
        )

    def _record(self, student: str, digest: str, results: list, written: tuple, findings: tuple) -> Record:
        name = text(student, 200)
        kind = self.sandbox.kind
        return Record(
            self.material.name, name, digest, environment(), kind, tuple(results), written, tuple(map(text, findings))
        )

    def _without_score(self, name: str, status: str, message: str) -> QuestionResult:
        points = self.material.problem_set.questions[name].points
        return QuestionResult(name, points, status, None, text(message), None, self.material.fingerprint)

    def fork(self, deadline: float) -> Conversation:
        """A fresh process for one submission, with ``checks.py`` in its directory."""
        try:
            return self._fork(deadline)
        except (SandboxUnavailable, Stopped):  # once more, with a fork server that is not the worse for wear
            self.close()
        try:
            return self._fork(deadline)
        except Stopped as stop:
            complaint = self._server.complaint()
            raise SandboxUnavailable(f"no process could be started for a submission: {stop}; {complaint}") from None

    def _fork(self, deadline: float) -> Conversation:
        if self._server is None:
            self._server = ForkServer(self.sandbox, self.material.modules, self.pictures)
        conversation = Conversation(self._server.fork(), deadline)
        conversation.ask(60, "files", {"checks.py": self.material.checks})
        return conversation

    def close(self) -> None:
        """End the sandbox."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Unusable(Exception):
    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status = status


class _Run:
    """One submission under way: its cells in order, and a process that is replaced when it is lost.

    Attributes
    ----------
    cut_off : dict of int to Stopped
        By place: the cells that ended the process or did not end themselves. They are left out when the others run
        again in a fresh one.
    """

    def __init__(self, grader: Grader, notebook: NotebookNode, wanted: Collection[str]):
        self._grader = grader
        self._limits = grader.sandbox.limits
        self._cells = notebook.cells
        self._wanted = wanted
        self._deadline = time.monotonic() + self._limits.submission_seconds
        self._room = self._limits.output_bytes
        self._conversation: Conversation | None = None
        self._handed_in: dict[int, list[str]] = {}  # pictures in the file, by the place of their cell
        self._behind = 0  # the present process has all cells before this place behind it
        self.cut_off: dict[int, Stopped] = {}

    def results(self) -> list[QuestionResult]:
        """Run the cells, grade at every test cell, and leave outputs and reports in the notebook."""
        found: dict[str, QuestionResult] = {}
        last = max((i for i, cell in enumerate(self._cells) if self._question(cell) in self._wanted), default=-1)
        count = 0
        try:
            for place, cell in enumerate(self._cells):
                if cell.cell_type != "code":
                    continue
                self._handed_in[place] = _pictures(cell.outputs)
                cell.outputs, cell.execution_count = [], None
                question = self._question(cell)
                if place > last or (question and question not in self._wanted):
                    continue
                count += 1
                cell.execution_count = count
                if question:
                    found[question] = self._grade(question)
                    cell.outputs = [_shown(found[question], count)]
                else:
                    cell.outputs = self._run(place, count)
        finally:
            self._end()
        absent = [name for name in self._wanted if name not in found]
        found |= {name: self._without_score(name, MISSING, "its test cell is not there") for name in absent}
        return [found[name] for name in self._wanted]

    def stopped_cells(self) -> list[str]:
        """What is to be said of cells that had to be left out."""
        return [
            f"A cell was stopped and left out ({self._first_line(place)}): {stop}"
            for place, stop in self.cut_off.items()
        ]

    def _first_line(self, place: int) -> str:
        return (self._cells[place].source.strip().splitlines() or [""])[0][:80]

    def _question(self, cell: NotebookNode) -> str:
        """Name of the question that a cell tests, or ''."""
        mark = _mark(cell)
        name = mark.get("grade_id", "") if mark.get("grade") and not mark.get("solution") else ""
        return name if name in self._grader.material.problem_set.questions else ""

    # --- cells -------------------------------------------------------------------------------------------------------

    def _run(self, place: int, count: int) -> list[NotebookNode]:
        """Run one cell; its outputs."""
        try:
            self._catch_up(place)
            answer = self._process().ask(self._limits.cell_seconds, "cell", self._cells[place].source)
            self._behind = place + 1
            return self._with_pictures(self._outputs(answer, count), self._handed_in[place])
        except Stopped as stop:
            self._lose()
            self.cut_off[place] = stop
            return [_error("Stopped", f"{stop.status}: {stop}. This cell was left out, and the others ran without it.")]

    def _catch_up(self, place: int) -> None:
        """Run in a fresh process what an earlier one had run before `place`."""
        while self._behind < place:
            cell = self._cells[self._behind]
            if cell.cell_type == "code" and not self._question(cell) and self._behind not in self.cut_off:
                try:
                    self._process().ask(self._limits.cell_seconds, "cell", cell.source)
                except Stopped as stop:  # it went well the first time
                    self._check_time()
                    self.cut_off[self._behind] = stop
                    self._lose()
                    continue
            self._behind += 1

    def _process(self) -> Conversation:
        self._check_time()
        if self._conversation is None:
            self._conversation = self._grader.fork(self._deadline)
        return self._conversation

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise Stopped(TIMEOUT, f"the whole submission took longer than {self._limits.submission_seconds:g} s")

    def _lose(self) -> None:
        self._end()
        self._behind = 0

    def _end(self) -> None:
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None

    def _outputs(self, answer: Any, count: int) -> list[NotebookNode]:
        """What the process says that a cell shows, if it has the form of outputs; as much as there is room for."""
        try:
            if type(answer) is not list or len(answer) > OUTPUTS_LIMIT:
                raise BadMessage(f"outputs are a list of at most {OUTPUTS_LIMIT}")
            return [output for one in answer if (output := self._output(one, count)) is not None]
        except BadMessage as error:
            raise self._process().stop(CRASHED, f"the outputs of a cell are none: {error}") from None

    def _output(self, one: Any, count: int) -> NotebookNode | None:
        kind = one.get("output_type") if type(one) is dict else None
        if kind == "stream":
            name = "stderr" if one.get("name") == "stderr" else "stdout"
            return nbformat.v4.new_output("stream", name=name, text=self._take(one.get("text")))
        if kind == "error":
            lines = one.get("traceback")
            if type(lines) is not list or len(lines) > OUTPUTS_LIMIT:
                raise BadMessage(f"a traceback is a list of at most {OUTPUTS_LIMIT} lines")
            ename, evalue = self._take(one.get("ename")), self._take(one.get("evalue"))
            return nbformat.v4.new_output("error", ename=ename, evalue=evalue, traceback=[*map(self._take, lines)])
        data = one.get("data") if kind in ("display_data", "execute_result") else None
        if type(data) is not dict:
            raise BadMessage("an output of a kind that there is none")
        kept = {}
        if "text/plain" in data:
            kept["text/plain"] = self._take(data["text/plain"])
        if "image/png" in data:
            picture = _picture(data["image/png"])
            if len(picture) <= self._room:
                kept["image/png"] = picture
                self._room -= len(picture)
        if not kept:
            return None
        more = {"execution_count": count} if kind == "execute_result" else {}
        return nbformat.v4.new_output(kind, data=kept, **more)

    def _with_pictures(self, outputs: list[NotebookNode], handed_in: list[str]) -> list[NotebookNode]:
        """The outputs, where figures were not drawn with the pictures of the file as it was handed in."""
        pictures = iter(handed_in)
        for output in outputs:
            data = output.get("data", {})
            if data.get("text/plain", "").startswith("<Figure size") and "image/png" not in data:
                picture = next(pictures, None)
                if picture is not None and len(picture) <= self._room:
                    self._room -= len(picture)
                    data["image/png"] = picture
                    output.metadata["bnlab"] = "picture as handed in"
                else:
                    data["text/plain"] = "(a figure, not drawn while grading)"
        return outputs

    def _take(self, value: Any) -> str:
        """A text, as long as there is room for it."""
        shown = text(value, max(0, min(self._room, 100_000)))
        self._room -= len(shown)
        return shown

    # --- questions ---------------------------------------------------------------------------------------------------

    def _grade(self, name: str) -> QuestionResult:
        question = self._grader.material.problem_set.questions[name]
        answer = next(
            (i for i, cell in enumerate(self._cells) if _mark(cell).get("grade_id") == f"{name}-solution"), -1
        )
        try:
            self._catch_up(next(i for i, cell in enumerate(self._cells) if self._question(cell) == name))
            if answer in self.cut_off:
                stop = self.cut_off[answer]
                return self._without_score(name, stop.status, f"the cell with the answer was stopped: {stop}")
            process = self._process()
            with _time_limit(self._limits.question_seconds + MARGIN), process.until(self._limits.question_seconds):
                problem = text(process.ask(60, "question", name, question.seconds, list(question.borrowed)))
                if not problem:
                    report = question.grade(
                        RemoteOracle(process, question.seconds), self._grader.material.seed, self._grader.material.cases
                    )
                    return self._graded(name, _clean(report))
        except Stopped as stop:
            self._lose()
            return self._without_score(name, stop.status, str(stop))
        except BadMessage as error:
            self._lose()
            return self._without_score(name, CRASHED, f"the process answered with something that is no answer: {error}")
        return self._undefined(name, answer, problem)

    def _graded(self, name: str, report: Report) -> QuestionResult:
        if self.cut_off and report.score == 0:
            return self._blamed(name)
        failed = next((part for part in report.parts if not part.passed), None)
        message = "\n".join(filter(None, [failed.message, failed.hint])) if failed else ""
        fingerprint = self._grader.material.fingerprint
        return QuestionResult(name, report.points, GRADED, report.score, message, report.to_dict(), fingerprint)

    def _undefined(self, name: str, answer: int, problem: str) -> QuestionResult:
        """The result where there is nothing to call."""
        if answer < 0:
            return self._without_score(name, MISSING, f"{name} {problem}, and its answer cell is gone")
        if self.cut_off:
            return self._blamed(name)
        error = next(
            (output for output in self._cells[answer].get("outputs", []) if output.output_type == "error"), None
        )
        why = f"its answer cell fails: {error.ename}: {error.evalue}" if error else "look at its answer cell"
        question = self._grader.material.problem_set.questions[name]
        message = f"{name} {problem}: {why}"
        return QuestionResult(
            name, question.points, GRADED, 0.0, text(message), None, self._grader.material.fingerprint
        )

    def _blamed(self, name: str) -> QuestionResult:
        """No points, but perhaps only because some other cell was stopped: a person must look."""
        place, stop = next(iter(self.cut_off.items()))
        message = f"no points without the cell that was stopped ({self._first_line(place)}): {stop}"
        return self._without_score(name, stop.status, message)

    def _without_score(self, name: str, status: str, message: str) -> QuestionResult:
        return self._grader._without_score(name, status, message)


def _mark(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def _clean(report: Report) -> Report:
    """The report with texts that can be written anywhere; the student's own words are among them."""
    parts = tuple(
        replace(
            part,
            message=text(part.message),
            hint=text(part.hint),
            tried=text(part.tried),
            printed=text(part.printed),
            warned=tuple(map(text, part.warned)),
        )
        for part in report.parts
    )
    return replace(report, parts=parts)


def _shown(result: QuestionResult, count: int) -> NotebookNode:
    """What a test cell shows: the report of the checks, or why there is none."""
    if result.status != GRADED:
        return _error("CouldNotGrade", f"{result.status}: {result.message}")
    if result.report is None:
        data = {"text/plain": "0", JSON_MIME: {"question": result.question, "points": result.points, "score": 0.0}}
    else:
        data = Report.from_dict(result.report)._repr_mimebundle_()
    return nbformat.v4.new_output("execute_result", data=data, execution_count=count)


def _error(name: str, message: str) -> NotebookNode:
    return nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])


def _picture(value: Any) -> str:
    """A PNG in base64.

    Raises
    ------
    BadMessage
        It is none.
    """
    if type(value) is not str:
        raise BadMessage("a picture is text in base64")
    try:
        data = base64.b64decode(value, validate=False)
    except binascii.Error:
        raise BadMessage("a picture is text in base64") from None
    if not data.startswith(PNG):
        raise BadMessage("a picture is no PNG")
    return base64.b64encode(data).decode()


def _pictures(outputs: list[NotebookNode]) -> list[str]:
    """The PNG pictures among the outputs of a file that was handed in."""
    found = []
    for output in outputs:
        with suppress(BadMessage, AttributeError):
            found.append(_picture(output.get("data", {}).get("image/png")))
    return found


def _annotate(notebook: NotebookNode, findings: list[str], results: list[QuestionResult], remarks: list[str]) -> None:
    """Write into the notebook what a person should know about it, and a note that the student reads."""
    notebook.metadata.pop("bnlab", None)
    if findings:
        lines = [
            "**About the file that you handed in.** Not everything was as it was handed out. It was graded all the "
            "same:\n",
            *(f"- {finding}" for finding in findings),
            "\nYour own code was not changed.",
        ]
        note = nbformat.v4.new_markdown_cell(
            "\n".join(lines), id="note-on-this-file", metadata={"bnlab": {"note": True}}
        )
        notebook.cells.insert(0, note)
    flags = [
        f"{result.question} calls {', '.join(result.borrowed)}, which already is the answer."
        for result in results
        if result.borrowed
    ]
    if remarks or findings or flags:
        notebook.metadata["bnlab"] = {"findings": [*remarks, *findings, *flags]}


def with_remarks(notebook: str, remarks: Collection[str]) -> str:
    """An executed notebook with remarks for the instructor among the findings in its metadata."""
    if not remarks:
        return notebook
    content = nbformat.reads(notebook, as_version=4)
    findings = [*remarks, *content.metadata.get("bnlab", {}).get("findings", [])]
    content.metadata["bnlab"] = {"findings": list(dict.fromkeys(findings))}
    return nbformat.writes(content)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop the checks' own work when it takes too long, as an answer of a hostile size might make it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        raise Stopped(TIMEOUT, f"the checks of this answer did not end within {seconds:g} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
