"""A page about a problem set for its instructor: where the class stands, what it got wrong, and what needs an eye.

All numbers come from the records of the grader and from the gradebook. Like feedback, the page is one HTML file that
can do nothing but be read.
"""

import json
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

from bnlab.grading import pages
from bnlab.grading.marks import (
    ALL_GRADED,
    COULD_NOT_GRADE,
    NEEDS_A_PERSON,
    NOT_GRADED_YET,
    NOTHING_HANDED_IN,
    ClassMarks,
    StudentMarks,
    place_of,
    released_notebook,
)
from bnlab.grading.record import GRADED, QuestionResult
from bnlab.grading.similarity import Likeness, boilerplate_of, compare, fingerprints

BINS = 10
MOST = 30  # lines of a list that shows the most of something
NAMED = 12  # students named behind a mistake
STATUS_IN_WORDS = {
    ALL_GRADED: "graded",
    NEEDS_A_PERSON: "to be graded by hand",
    COULD_NOT_GRADE: "could not be graded",
    NOT_GRADED_YET: "not graded yet",
    NOTHING_HANDED_IN: "not handed in",
}


@dataclass(frozen=True)
class Bin:
    """Scores between two bounds: ``low <= score < high``, or up to and with the last bound."""

    low: float
    high: float
    count: int


@dataclass
class QuestionFigures:
    """How a class did in one question.

    Attributes
    ----------
    name : str
    points : float
    scores : list of float
        Of everyone who has one.
    full, not_answered, by_hand, waiting : int
        Students with full points, without an answer, with points by a person, and without points so far.
    """

    name: str
    points: float
    scores: list[float] = field(default_factory=list)
    full: int = 0
    not_answered: int = 0
    by_hand: int = 0
    waiting: int = 0

    @property
    def mean(self) -> float | None:
        """Mean score of those who have one."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def lost(self) -> float:
        """Points that a student loses here on average."""
        return self.points - self.mean if self.scores else 0.0

    @property
    def lost_share(self) -> float:
        """That of the question's points."""
        return max(0.0, self.lost / self.points) if self.points else 0.0


@dataclass
class PartFigures:
    """How a class did in one part of a question. Who did not answer the question is not counted.

    Attributes
    ----------
    question, name : str
    points : float
        What the part is worth.
    tried, failed : int
        Students.
    """

    question: str
    name: str
    points: float
    tried: int = 0
    failed: int = 0

    @property
    def failed_share(self) -> float:
        """Of those who tried."""
        return self.failed / self.tried if self.tried else 0.0

    @property
    def lost(self) -> float:
        """Points that all who tried lost on average."""
        return self.points * self.failed_share


@dataclass
class Mistake:
    """A mistake that the checks name, and who made it.

    Attributes
    ----------
    question : str
    name : str
        The hint; where there is none, the message.
    example : str
        One message that came with it.
    parts : set of str
        The parts that it was found in.
    students : list of str
    tried : int
        How many answered the question.
    """

    question: str
    name: str
    example: str = ""
    parts: set[str] = field(default_factory=set)
    students: list[str] = field(default_factory=list)
    tried: int = 0


@dataclass(frozen=True)
class Figures:
    """All that a report says about a class; students are named by what `name` makes of them.

    Attributes
    ----------
    marks : ClassMarks
    statuses : dict of str to int
    scores : list of float
        Of the students whose status is "graded", sorted. If there is none yet: the points so far of those whose
        answers in words still wait.
    final : bool
        Whether those are scores, not points so far.
    bins : list of Bin
    questions : list of QuestionFigures
    parts : list of PartFigures
        Those that cost points, the costliest first.
    mistakes : list of Mistake
        The commonest first.
    """

    marks: ClassMarks
    statuses: dict[str, int]
    scores: list[float]
    final: bool
    bins: list[Bin]
    questions: list[QuestionFigures]
    parts: list[PartFigures]
    mistakes: list[Mistake]


def figures(marks: ClassMarks) -> Figures:
    """Count what a report says.

    Parameters
    ----------
    marks : ClassMarks

    Returns
    -------
    Figures
    """
    statuses = Counter(student.status for student in marks.students)
    scores = sorted(student.score for student in marks.students if student.score is not None)
    waiting = (student.marks for student in marks.students if student.status == NEEDS_A_PERSON)
    so_far = sorted(sum(mark.score or 0.0 for mark in its) for its in waiting)
    final = bool(scores) or not so_far
    scores = scores if final else so_far
    results = list(_graded_results(marks))
    return Figures(
        marks,
        {status: statuses[status] for status in STATUS_IN_WORDS if statuses[status]},
        scores,
        final,
        _bins(scores, marks.points),
        _questions(marks),
        _parts(results),
        _mistakes(results),
    )


def _graded_results(marks: ClassMarks) -> Iterable[tuple[str, QuestionResult]]:
    """Every question that checks graded, with its student. Only they say how an answer failed."""
    for student in marks.students:
        for result in student.record.questions if student.record else ():
            if result.status == GRADED and isinstance((result.report or {}).get("parts"), list | tuple):
                yield student.person.id, result


def _bins(scores: list[float], points: float) -> list[Bin]:
    """The scores in ten equal ranges; extra credit is in the last."""
    width = points / BINS
    counts = Counter(min(int(score / width + 1e-9), BINS - 1) for score in scores) if width else Counter()
    return [Bin(place * width, (place + 1) * width, counts[place]) for place in range(BINS)] if width else []


def _questions(marks: ClassMarks) -> list[QuestionFigures]:
    found = {name: QuestionFigures(name, points) for name, points in marks.questions.items()}
    for student in marks.students:
        reports = {r.question: r.report or {} for r in student.record.questions} if student.record else {}
        for mark in student.marks:
            question = found.setdefault(mark.question, QuestionFigures(mark.question, mark.points))
            if mark.score is None:
                question.waiting += 1
                continue
            question.scores.append(mark.score)
            question.full += mark.score >= mark.points
            question.by_hand += mark.by_hand
            question.not_answered += reports.get(mark.question, {}).get("status") == "not answered"
    return list(found.values())


def _parts(results: list[tuple[str, QuestionResult]]) -> list[PartFigures]:
    # An unanswered question stops at its first part, so the longest report tells what all parts weigh together.
    weights: dict[str, float] = defaultdict(float)
    for _, result in results:
        total = sum(part["weight"] for part in result.report["parts"])
        weights[result.question] = max(weights[result.question], total)
    found: dict[tuple[str, str], PartFigures] = {}
    for _, result in results:
        if result.report.get("status") == "not answered":
            continue
        for part in result.report["parts"]:
            points = result.points * part["weight"] / weights[result.question] if weights[result.question] else 0.0
            figure = found.setdefault(
                (result.question, part["name"]), PartFigures(result.question, part["name"], points)
            )
            figure.tried += 1
            figure.failed += not part["passed"]
    hard = [figure for figure in found.values() if figure.failed]
    return sorted(hard, key=lambda figure: (-figure.lost, figure.question, figure.name))


def _mistakes(results: list[tuple[str, QuestionResult]]) -> list[Mistake]:
    found: dict[tuple[str, str], Mistake] = {}
    tried: Counter[str] = Counter()
    for student, result in results:
        if result.report.get("status") == "not answered":
            continue
        tried[result.question] += 1
        for part in result.report["parts"]:
            said = part.get("hint") or part.get("message")
            if part["passed"] or not said:
                continue
            # Numbers in a hint are those of one student's answer; the mistake is the same.
            key = (result.question, _without_numbers(said))
            mistake = found.setdefault(key, Mistake(result.question, said, part.get("message", "")))
            mistake.parts.add(part["name"])
            if not mistake.students or mistake.students[-1] != student:
                mistake.students.append(student)
    for mistake in found.values():
        mistake.tried = tried[mistake.question]
    return sorted(found.values(), key=lambda mistake: (-len(mistake.students), mistake.question, mistake.name))


def _without_numbers(text: str) -> str:
    first = text.strip().partition("\n")[0]
    return re.sub(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "#", first)


def likeness(coursedir: CourseDirectory, marks: ClassMarks) -> Likeness:
    """Compare the code of the class by its executed notebooks.

    Parameters
    ----------
    coursedir : CourseDirectory
    marks : ClassMarks

    Returns
    -------
    Likeness
    """
    handed_out = [
        cell.source for cell in released_notebook(coursedir, marks.problem_set).cells if cell.cell_type == "code"
    ]
    boilerplate, texts = boilerplate_of(handed_out), {text.strip() for text in handed_out}
    prints = {}
    for student in marks.students:
        path = place_of(coursedir, "autograded", student.person.id, marks.problem_set) / f"{marks.problem_set}.ipynb"
        cells = [cell for cell in _code_cells(path) if cell.strip() not in texts]
        if cells:
            prints[student.person.id] = fingerprints(cells, boilerplate)
    return compare(prints)


def _code_cells(path: Path) -> list[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return ["".join(source) for source in sources]


def report_page(
    found: Figures, alike: Likeness, name_of: Callable[[StudentMarks], str], anonymous: bool = False
) -> str:
    """Make the page.

    Parameters
    ----------
    found : Figures
    alike : Likeness
    name_of : callable
        What to call a student.
    anonymous : bool
        Whether those are pseudonyms; the page says so, and lists are in their order.

    Returns
    -------
    str
        HTML.
    """
    marks = found.marks
    names = {student.person.id: name_of(student) for student in marks.students}
    students = sorted(marks.students, key=lambda student: names[student.person.id])
    counted = max((bin.count for bin in found.bins), default=0)
    graded = len(found.scores)
    return pages.render(
        "report.html.j2",
        f"{marks.problem_set}: how the class did",
        problem_set=marks.problem_set,
        points=marks.points,
        anonymous=anonymous,
        statuses={STATUS_IN_WORDS[status]: count for status, count in found.statuses.items()},
        everyone=len(students),
        graded=graded,
        final=found.final,
        summary=_summary(found.scores),
        bins=[
            {
                "range": f"{pages.number(bin.low)} to {pages.number(bin.high)}",
                "count": bin.count,
                "width": _width(bin.count, counted),
            }
            for bin in found.bins
        ],
        questions=[
            {"figures": question, "width": _width(question.lost_share, 1.0), "graded": len(question.scores)}
            for question in found.questions
        ],
        parts=[{"figures": part, "width": _width(part.failed_share, 1.0)} for part in found.parts[:MOST]],
        more_parts=max(0, len(found.parts) - MOST),
        mistakes=[_shown_mistake(mistake, names) for mistake in found.mistakes[:MOST]],
        more_mistakes=max(0, len(found.mistakes) - MOST),
        eye=[
            {"student": names[s.person.id], "status": STATUS_IN_WORDS[s.status], "remark": pages.plain(s.remark, 1000)}
            for s in students
            if s.status in (COULD_NOT_GRADE, NOT_GRADED_YET)
        ],
        by_hand=[
            {"question": question.name, "count": sum(_waits_for_person(s, question.name) for s in students)}
            for question in found.questions
            if any(_waits_for_person(s, question.name) for s in students)
        ],
        borrowed=[
            {"student": names[s.person.id], "question": r.question, "calls": pages.plain(", ".join(r.borrowed), 300)}
            for s in students
            for r in (s.record.questions if s.record else ())
            if r.borrowed
        ],
        findings=[
            {"student": names[s.person.id], "finding": pages.plain(finding, 500)}
            for s in students
            for finding in (s.record.findings if s.record else ())
        ],
        unprotected=sum(bool(s.record) and s.record.sandbox == "none" for s in students),
        late=sum(s.penalty > 0 for s in students),
        pairs=[
            {
                "names": sorted((names[pair.first], names[pair.second])),
                "shared": pair.shared,
                "share": pair.share,
                "width": _width(pair.share, 1.0),
            }
            for pair in alike.pairs[:MOST]
        ],
        more_pairs=max(0, len(alike.pairs) - MOST),
        groups=[sorted(names[student] for student in group) for group in alike.groups],
        compared=alike.compared,
    )


def _waits_for_person(student: StudentMarks, question: str) -> bool:
    """Whether a person has to read this answer; what could not be graded, or not even read, is listed apart."""
    mark, record = student.mark(question), student.record
    if mark is None or not (mark.waits or mark.score is None):
        return False
    if record is None:
        return True
    graded = {result.question for result in record.questions if result.status == GRADED}
    return question in graded | {answer.question for answer in record.written}


def _summary(scores: list[float]) -> dict[str, float]:
    if not scores:
        return {}
    return {
        "mean": statistics.fmean(scores),
        "median": statistics.median(scores),
        "lowest": scores[0],
        "highest": scores[-1],
    }


def _shown_mistake(mistake: Mistake, names: dict[str, str]) -> dict:
    students = sorted(names[student] for student in mistake.students)
    return {
        "question": mistake.question,
        "name": pages.plain(mistake.name, 600),
        "example": pages.plain(mistake.example, 1000) if mistake.example != mistake.name else "",
        "parts": sorted(mistake.parts),
        "count": len(students),
        "tried": mistake.tried,
        "share": len(students) / mistake.tried,
        "students": students[:NAMED],
        "more": max(0, len(students) - NAMED),
    }


def _width(value: float, most: float) -> int:
    """Length of a bar in thousandths."""
    return math.ceil(1000 * value / most) if most and value > 0 else 0
