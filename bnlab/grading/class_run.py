"""Grade a problem set for a whole class: find what was handed in, grade it in many processes, and lose nothing.

Every submission is read once, into bytes; whatever happens to its file later, these bytes are graded. It is a unit of
work that any process can do; the units go to an engine, processes here (`workers.py`) or a cluster (`cluster.py`), and
the results come back to this process, which alone writes files and the gradebook.

For each submission, ``autograded/STUDENT/PROBLEM_SET/`` gets the executed notebook, ``timestamp.txt``, and the record:
first as ``record.pending.json``, which is renamed to ``record.json`` when the gradebook has it. So a run that ends
anywhere, even between the two, is finished by the next one, and what ``record.json`` says the gradebook has.
"""

import contextlib
import difflib
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import nbformat
from nbgrader.utils import parse_utc

from bnlab.grading.course import check_course, load_course, name_problem, students_in
from bnlab.grading.grade import FILE_LIMIT, with_remarks
from bnlab.grading.gradebook import GradebookError, GradebookWriter
from bnlab.grading.material import Material, environment
from bnlab.grading.record import (
    CRASHED,
    MISSING,
    UNREADABLE,
    Graded,
    QuestionResult,
    Record,
)
from bnlab.grading.sandbox import Sandbox
from bnlab.grading.workers import ClassError, Engine, Unit

TIMESTAMP_LIMIT = 1000  # bytes
NAME_LIMIT = 128  # characters of a student's name; nbgrader's tables have no room for more
GIVE_UP = 10  # failures without a single success: then it is not the submissions
SANDBOXES = ("none", "container", "bubblewrap")  # from weak to strong
RECORD, PENDING, PENDING_NOTEBOOK = "record.json", "record.pending.json", "notebook.pending"


# --- what was handed in ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HandedIn:
    """What lies in a student's folder for a problem set.

    Attributes
    ----------
    student : str
    data : bytes or None
        The notebook's file; None where it can't be graded.
    digest : str
        SHA-256 of the data, "" where there is none.
    status, problem : str
        "missing" or "unreadable" and why, where there is no data.
    timestamp : datetime or None
        When it was handed in, UTC without a time zone, if ``timestamp.txt`` says so.
    stamp : bytes
        That file, if it does.
    remarks : tuple of str
        What a person should know about the files around the notebook.
    """

    student: str
    data: bytes | None
    digest: str = ""
    status: str = ""
    problem: str = ""
    timestamp: datetime | None = None
    stamp: bytes = b""
    remarks: tuple[str, ...] = ()


def read_submission(submitted: Path, student: str, name: str) -> HandedIn | None:
    """Read a submission: each file once, through no link, and never one that isn't an ordinary file.

    Parameters
    ----------
    submitted : Path
        The course's directory of submissions.
    student, name : str
        The student, and the problem set.

    Returns
    -------
    HandedIn or None
        None where there is no folder for this problem set: nothing was handed in.
    """
    with contextlib.ExitStack() as stack:
        place = os.open(submitted, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, place)
        for step in (student, name):
            try:
                place = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
            except FileNotFoundError:
                return None
            except OSError as error:
                problem = _what_is(step, place, error, "a folder")
                return HandedIn(student, None, status=UNREADABLE, problem=problem)
            stack.callback(os.close, place)
        timestamp, stamp = _read_timestamp(place)
        try:
            data = _read_file(f"{name}.ipynb", place, FILE_LIMIT)
        except FileNotFoundError:
            # Files of another name are no reason to say that nothing was handed in.
            status = UNREADABLE if _other_names(place) else MISSING
            return HandedIn(student, None, "", status, _what_else(place, name), timestamp, stamp)
        except OSError as error:
            problem = _what_is(f"{name}.ipynb", place, error, "the notebook's file itself")
            return HandedIn(student, None, "", UNREADABLE, problem, timestamp, stamp)
        has_stamp = any(entry == "timestamp.txt" for entry in os.listdir(place))
        remarks = ("timestamp.txt holds no time: ignored.",) if has_stamp and timestamp is None else ()
        digest = hashlib.sha256(data).hexdigest()
        return HandedIn(student, data, digest, timestamp=timestamp, stamp=stamp, remarks=remarks)


class _NotOrdinary(OSError):
    """Something other than an ordinary file of a decent size. Its text is the reason."""


def _read_file(name: str, folder: int, limit: int) -> bytes:
    """The bytes of a file in an open folder. What is looked at and what is read is the same open file."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NotOrdinary("is no ordinary file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise _NotOrdinary(f"is larger than {limit / 2**20:.3g} MB: clear its outputs, save it, and hand it in again")
    return data


def _what_is(name: str, folder: int, error: OSError, expected: str) -> str:
    """Why something in a submission could not be read."""
    if isinstance(error, _NotOrdinary) and str(error).startswith("is larger"):
        return f"{_shown(name)} {error}"
    if isinstance(error, _NotOrdinary):
        what = str(error)
    else:
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except OSError:
            mode = 0
        if stat.S_ISLNK(mode):
            what = "is a link"
        elif mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "is no ordinary file"
        elif stat.S_ISREG(mode) and expected == "a folder":
            what = "is a file"
        else:
            return f"{_shown(name)} cannot be read ({error.strerror}): check its permissions"
    return f"{_shown(name)} {what}, expected {expected}: ask for the file"


def _other_names(folder: int) -> list[str]:
    return [name for name in sorted(os.listdir(folder)) if name != "timestamp.txt" and not name.startswith(".")]


def _what_else(folder: int, name: str) -> str:
    """What a folder holds in place of the notebook."""
    others = [_shown(other) for other in _other_names(folder)]
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    return f"{name}.ipynb is not among the files handed in ({', '.join(others[:5]) or 'none'}{more})"


def _shown(name: str) -> str:
    """A file's name without anything that could be more than a name where it is shown."""
    return re.sub(r"[^\w ./-]", "?", name)[:100]


def _read_timestamp(folder: int) -> tuple[datetime | None, bytes]:
    try:
        stamp = _read_file("timestamp.txt", folder, TIMESTAMP_LIMIT)
        text = stamp.decode().strip()
        return (parse_utc(text), stamp) if text else (None, b"")
    except Exception:  # a link, a device, or what nbgrader's parser raises for a binary file or a year 99999
        return None, b""


# --- a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a run did about one submission.

    Attributes
    ----------
    record : Record
        All of it, also where only some questions were graded.
    deed : str
        "graded"; "kept": it was graded already; "recorded": it was graded already, but the gradebook didn't have it.
    seconds : float
        How long grading it took.
    problem : str
        Why it was not written where it should be, or "".
    by_hand : frozenset of str
        The questions that a person has given points; they need no eye any more.
    """

    record: Record
    deed: str
    seconds: float = 0.0
    problem: str = ""
    by_hand: frozenset[str] = frozenset()


class ClassRun:
    """One run over the submissions of a problem set. Use it as a context manager; it holds the gradebook open.

    Parameters
    ----------
    course : Path
        The nbgrader course directory.
    name : str
        The problem set.
    sandbox : Sandbox
        How students' code is kept apart. A record that was made with less protection is not kept.
    students, questions : collection of str
        Only these. Default: all.
    regrade : bool
        Grade also what is graded already.

    Attributes
    ----------
    material : Material
    students : list of str
        Those who have a folder for this problem set, and are wanted.
    unusable : dict of str to str
        Folders that are left out, and why.

    Raises
    ------
    CourseError, ClassError, GradebookError
        Something is missing, or there is no such student or question, or another run is at work.
    """

    def __init__(
        self,
        course: Path,
        name: str,
        sandbox: Sandbox,
        *,
        students: Collection[str] = (),
        questions: Collection[str] = (),
        regrade: bool = False,
    ):
        coursedir = load_course(course)
        check_course(coursedir, name)
        root = Path(coursedir.root)
        self._submitted = root / coursedir.submitted_directory
        self._autograded = root / coursedir.autograded_directory
        self._regrade = regrade
        self.name = name
        self.sandbox = sandbox
        self.material = Material.of_course(course, name)
        self._questions = _questions_of(self.material)
        in_words = _questions_of(self.material, by_hand=True).keys() & {*questions}
        if in_words:
            raise ClassError(
                f"{', '.join(sorted(in_words))} is an answer in words: a person grades it, in formgrader; "
                f"checks grade {', '.join(self._questions)}"
            )
        self._only = _choose("question", questions, list(self._questions), f"{name}'s")
        everyone = students_in(coursedir)
        wanted = _choose("folder of a student", students, everyone, f"{self._submitted} has") or everyone
        found = [student for student in wanted if os.path.lexists(self._submitted / student / name)]
        absent = sorted({*students} - {*found})
        if absent:
            raise ClassError(f"{', '.join(absent)} handed in nothing for {name}: leave out --student {absent[0]}")
        self.unusable = {student: problem for student in found if (problem := _name_problem(student))}
        self.students = [student for student in found if student not in self.unusable]
        if not found:
            raise ClassError(
                f"nobody has handed in {name}, there is no {self._submitted}/*/{name}: "
                f"collect submissions: nbgrader zip_collect {name}"
            )
        # What an engine has taken, without the data, and the questions asked.
        self._in_work: dict[str, tuple[HandedIn, tuple[str, ...] | None]] = {}
        self._lock = self._only_one()
        try:
            self._gradebook = GradebookWriter(coursedir, name)
        except BaseException:
            os.close(self._lock)
            raise

    def _only_one(self) -> int:
        """Keep another run out: two writers would overwrite each other's files."""
        self._autograded.mkdir(exist_ok=True)
        lock = os.open(self._autograded, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ClassError(f"another bnlab grade is at work in {self._autograded}: wait until it is done") from None
        return lock

    def close(self) -> None:
        """Close the gradebook and let other runs in."""
        self._gradebook.close()
        os.close(self._lock)

    def __enter__(self) -> "ClassRun":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, engine: Engine, report: Callable[[Outcome], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Grade what has to be graded.

        Parameters
        ----------
        engine : Engine
        report : callable
            Called for every submission that is done, in any order.
        stop : callable
            Whether to stop: what is graded already is still written.

        Raises
        ------
        ClassError
            The engine can't grade at all. What was graded before is written.
        """
        suspects: list[str] = []
        is_working = False
        for done in engine.run(self._units(self.students, report, stop), stop):
            handed_in, questions = self._in_work.pop(done.student)
            if done.graded is None:
                suspects.append(done.student)
                if len(suspects) >= GIVE_UP and not is_working:
                    raise ClassError(f"none of the first {GIVE_UP} submissions could be graded: {done.problem}")
            else:
                is_working = True
                self._finish(handed_in, done.graded, questions, report)
        # Grading it ended a process of ours, or one beside it did. Now it has everything to itself.
        for student in suspects:
            for done in engine.run(self._units([student], report, stop), stop):
                handed_in, questions = self._in_work.pop(done.student)
                graded = done.graded or Graded(
                    self._ungraded(handed_in, CRASHED, f"it could not be graded, twice: {done.problem}", questions)
                )
                self._finish(handed_in, graded, questions, report)
        self._in_work.clear()

    def _units(
        self, students: Iterable[str], report: Callable[[Outcome], None], stop: Callable[[], bool]
    ) -> Iterator[Unit]:
        """The submissions that have to be graded. The others are settled on the way."""
        for student in students:
            if stop():
                return
            handed_in = read_submission(self._submitted, student, self.name)
            if handed_in is None or self._is_settled(handed_in, report):
                continue
            if handed_in.data is None:
                self._finish(handed_in, Graded(self._ungraded_file(handed_in)), None, report)
                continue
            # Scores of two different files would make no record: if another one was graded, this one is graded whole.
            stored = self._read(student, RECORD)
            is_same = stored is not None and stored.submission == handed_in.digest
            questions = tuple(self._only) if self._only and is_same else None
            self._in_work[student] = replace(handed_in, data=None), questions
            yield Unit(student, handed_in.data, questions)

    def _is_settled(self, handed_in: HandedIn, report: Callable[[Outcome], None]) -> bool:
        """Whether a submission needs no grading. What is graded but not in the gradebook is written there."""
        if self._regrade:
            return False
        pending, record = self._read(handed_in.student, PENDING), self._read(handed_in.student, RECORD)
        if pending and self._is_current(pending, handed_in):
            is_same = record is not None and record.submission == pending.submission
            known = record.questions if is_same else ()
            news = tuple(result.question for result in pending.questions if result not in known)
            self._record(handed_in, pending, Outcome(pending, "recorded"), report, news if is_same else None)
            return True
        folder = self._folder(handed_in.student)
        if not record or not self._is_current(record, handed_in) or (folder / PENDING).exists():
            return False
        if handed_in.data is not None and not (folder / f"{self.name}.ipynb").is_file() and _was_read(record):
            return False
        try:
            by_hand = self._gradebook.find(record, handed_in.timestamp)
        except GradebookError as error:
            report(Outcome(record, "kept", problem=str(error)))
            return True
        if by_hand is not None:
            report(Outcome(record, "kept", by_hand=by_hand))
        else:
            self._record(handed_in, record, Outcome(record, "recorded"), report)
        return True

    def _is_current(self, record: Record, handed_in: HandedIn) -> bool:
        """Whether a record is of this very file, graded with what is there now, and as well protected."""
        if handed_in.data is None:
            return record == self._ungraded_file(handed_in)
        graded_with = {result.question: result.material for result in record.questions}
        return (
            record.submission == handed_in.digest
            and all(graded_with.get(name) == self.material.fingerprint for name in self._only or self._questions)
            and record.sandbox in SANDBOXES[SANDBOXES.index(self.sandbox.kind) :]
        )

    def _finish(
        self,
        handed_in: HandedIn,
        graded: Graded,
        questions: tuple[str, ...] | None,
        report: Callable[[Outcome], None],
    ) -> None:
        """Write what came of grading: beside what is there, then to the gradebook, then in its place."""
        folder = self._folder(handed_in.student)
        record, notebook = graded.record, graded.notebook
        try:
            if questions is not None:
                record, notebook = self._merge(folder, graded, questions)
            folder.mkdir(parents=True, exist_ok=True)
            if notebook:
                notebook = with_remarks(notebook, handed_in.remarks)
            _write(folder / PENDING_NOTEBOOK, notebook.encode())
            _write(folder / PENDING, record.to_json().encode())
        except OSError as error:
            report(Outcome(record, "graded", graded.seconds, f"{folder} cannot be written ({error.strerror})"))
            return
        self._record(handed_in, record, Outcome(record, "graded", graded.seconds), report, questions)

    def _record(
        self,
        handed_in: HandedIn,
        record: Record,
        outcome: Outcome,
        report: Callable[[Outcome], None],
        questions: tuple[str, ...] | None = None,
    ) -> None:
        """Write to the gradebook what is graded (or these questions of it); only after that the files say so."""
        folder = self._folder(handed_in.student)
        part = record
        if questions is not None:  # a grade by hand of another question must not be flagged again
            results = tuple(result for result in record.questions if result.question in questions)
            part = replace(record, questions=results, written=())
        try:
            outcome = replace(outcome, by_hand=self._gradebook.write(part, handed_in.timestamp))
            if handed_in.stamp:
                _write(folder / "timestamp.txt", handed_in.stamp)
            else:
                (folder / "timestamp.txt").unlink(missing_ok=True)
            if (folder / PENDING).exists():
                self._put_in_place(folder)
        except GradebookError as error:
            outcome = replace(outcome, problem=str(error))
        except OSError as error:
            outcome = replace(outcome, problem=f"{folder} cannot be written ({error.strerror})")
        report(outcome)

    def _put_in_place(self, folder: Path) -> None:
        notebook, pending = folder / f"{self.name}.ipynb", folder / PENDING_NOTEBOOK
        if pending.exists() and pending.stat().st_size:
            pending.replace(notebook)
        elif pending.exists():  # there is none; an earlier one would be taken for this submission's
            notebook.unlink(missing_ok=True)
            pending.unlink()
        (folder / PENDING).replace(folder / RECORD)

    def _merge(self, folder: Path, graded: Graded, questions: tuple[str, ...]) -> tuple[Record, str]:
        """The earlier record and notebook with these questions graded anew."""
        earlier = Record.from_json((folder / RECORD).read_text(encoding="utf-8"))
        new = {result.question: result for result in graded.record.questions}
        results = [new.pop(result.question, result) for result in earlier.questions] + list(new.values())
        weaker = min(earlier.sandbox, graded.record.sandbox, key=SANDBOXES.index)
        findings = dict.fromkeys([*earlier.findings, *graded.record.findings])
        record = replace(
            graded.record,
            sandbox=weaker,
            questions=tuple(sorted(results, key=lambda result: list(self._questions).index(result.question))),
            written=earlier.written,
            findings=tuple(findings),
        )
        path = folder / f"{self.name}.ipynb"
        if not (graded.notebook and path.is_file()):
            return record, graded.notebook
        return record, merge_outputs(path.read_text(encoding="utf-8"), graded.notebook, questions)

    def _ungraded_file(self, handed_in: HandedIn) -> Record:
        return self._ungraded(handed_in, handed_in.status, handed_in.problem)

    def _ungraded(
        self, handed_in: HandedIn, status: str, message: str, questions: tuple[str, ...] | None = None
    ) -> Record:
        """A record without scores."""
        points = {name: value for name, value in self._questions.items() if questions is None or name in questions}
        material = self.material.fingerprint
        return Record(
            self.name,
            handed_in.student,
            handed_in.digest,
            environment(),
            self.sandbox.kind,
            tuple(QuestionResult(name, value, status, None, message, None, material) for name, value in points.items()),
        )

    def _folder(self, student: str) -> Path:
        return self._autograded / student / self.name

    def _read(self, student: str, file: str) -> Record | None:
        """A record that was written before; None where there is none that can be used."""
        try:
            return Record.from_json((self._folder(student) / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def merge_outputs(earlier: str, later: str, questions: Collection[str]) -> str:
    """A notebook with the outputs of some test cells replaced.

    Parameters
    ----------
    earlier, later : str
        The same executed notebook, as JSON.
    questions : collection of str
        Their test cells' outputs are taken from `later`; all else stays as it is in `earlier`.

    Returns
    -------
    str
    """
    notebook = nbformat.reads(earlier, as_version=4)
    fresh = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in nbformat.reads(later, as_version=4).cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") in questions
    }
    for cell in notebook.cells:
        found = fresh.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if found is not None:
            cell.outputs = found.outputs
            for output in cell.outputs:
                if "execution_count" in output:  # it counts the cells that ran, and this time fewer did
                    output.execution_count = cell.execution_count
    return nbformat.writes(notebook) + earlier[len(earlier.rstrip("\n")) :]


def _questions_of(material: Material, by_hand: bool = False) -> dict[str, float]:
    """Points of the questions that checks grade, or those that a person does, in the notebook's order."""
    marks = [cell.metadata.get("nbgrader", {}) for cell in material.notebook.cells]
    chosen = (mark for mark in marks if mark.get("grade") and bool(mark.get("solution")) == by_hand)
    return {mark["grade_id"]: float(mark["points"]) for mark in chosen}


def _choose(kind: str, chosen: Collection[str], known: list[str], where: str) -> list[str]:
    """The chosen ones in the order of the known ones. Raises :class:`ClassError` where one is not known."""
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"{where} {', '.join(known[:10]) or 'none'}"
            raise ClassError(f"there is no {kind} {name!r}: {hint}")
    return [name for name in known if name in chosen]


def _name_problem(student: str) -> str:
    long = f"its folder's name has {len(student)} characters, a gradebook takes {NAME_LIMIT}: rename the folder"
    return name_problem(student) or (long if len(student) > NAME_LIMIT else "")


def _was_read(record: Record) -> bool:
    """Whether there is an executed notebook to a record."""
    return any(result.status not in (MISSING, UNREADABLE, CRASHED) for result in record.questions)


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step: there is the old one or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
