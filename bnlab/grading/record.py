"""What came of grading one submission: a record in JSON that says the same whenever the same is graded again.

There is no time and no path in it. ``SCHEMA`` names its form; `Record` describes every field.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "bnlab-grading-record/1"

# What can become of a question. Only "graded" has a score; every other one needs the instructor's eye.
GRADED = "graded"
CRASHED = "crashed"  # the process that ran it ended, or answered with something that is no answer
TIMEOUT = "timeout"  # it did not end within its time
MEMORY = "memory"  # it wanted more memory than there is for it
MISSING = "missing"  # nothing was handed in for it
UNREADABLE = "unreadable"  # the file is no notebook, or not this problem set's
COULD_NOT_GRADE = "Could not grade: "  # how the comment in the gradebook begins
UNPROTECTED = {
    "none": "Graded without a sandbox.",
    "container": "Graded in a container, without a sandbox of its own.",
}
STATUSES = (GRADED, CRASHED, TIMEOUT, MEMORY, MISSING, UNREADABLE)


@dataclass(frozen=True)
class QuestionResult:
    """What came of one graded question.

    Attributes
    ----------
    question : str
        Its `grade_id`.
    points : float
        What it is worth.
    status : str
        One of `STATUSES`.
    score : float or None
        The points earned; None unless the status is "graded".
    message : str
        Why there is no score; for a graded one the first thing that was wrong, or "".
    report : dict or None
        The checks' report as plain data (`bnlab.checks.Report.to_dict`), if they ran to their end.
    material : str
        Fingerprint of what it was graded with (`Material.fingerprint`). It stands here and not in the record because
        one question can be graded again without the others.
    """

    question: str
    points: float
    status: str
    score: float | None
    message: str = ""
    report: dict[str, Any] | None = None
    material: str = ""

    @property
    def borrowed(self) -> tuple[str, ...]:
        """Library functions that the answer calls and that would be the answer themselves."""
        return tuple((self.report or {}).get("borrowed", ()))


@dataclass(frozen=True)
class WrittenAnswer:
    """An answer in words. A person grades it.

    Attributes
    ----------
    question : str
        Its `grade_id`.
    points : float
        What it is worth.
    answered : bool
        Whether something other than the empty cell was handed in. An empty one is 0 points without a person.
    """

    question: str
    points: float
    answered: bool


@dataclass(frozen=True)
class Record:
    """What came of one submission.

    Attributes
    ----------
    problem_set, student : str
    submission : str
        SHA-256 of the notebook's bytes as handed in; "" where nothing was.
    environment : dict of str to str
        Versions of Python and of the packages that students use.
    sandbox : str
        How the submission was kept apart: "bubblewrap", "container", or "none".
    questions : tuple of QuestionResult
        In the problem set's order.
    written : tuple of WrittenAnswer
    findings : tuple of str
        What was odd about the file, and what was done about it.
    """

    problem_set: str
    student: str
    submission: str
    environment: dict[str, str]
    sandbox: str
    questions: tuple[QuestionResult, ...]
    written: tuple[WrittenAnswer, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Points of the questions that were graded."""
        return round(sum(result.score for result in self.questions if result.status == GRADED), 2)

    @property
    def points(self) -> float:
        """What those questions are worth that checks grade."""
        return sum(result.points for result in self.questions)

    @property
    def needs_an_eye(self) -> tuple[QuestionResult, ...]:
        """The questions that could not be graded."""
        return tuple(result for result in self.questions if result.status != GRADED)

    def to_json(self) -> str:
        """The record as JSON text; the same record gives the same bytes."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read a record back.

        Raises
        ------
        ValueError
            It is no record, or one of another schema.
        """
        try:
            fields = json.loads(text)
            schema = fields.pop("schema", None)
            if schema != SCHEMA:
                raise ValueError(f"its schema is {schema!r}, expected {SCHEMA!r}: grade the submission again")
            fields["questions"] = tuple(QuestionResult(**question) for question in fields["questions"])
            fields["written"] = tuple(WrittenAnswer(**answer) for answer in fields["written"])
            fields["findings"] = tuple(fields["findings"])
            return cls(**fields)
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a grading record ({error}): grade the submission again") from None


@dataclass(frozen=True)
class Graded:
    """What grading one submission gives.

    Attributes
    ----------
    record : Record
    notebook : str
        The repaired notebook with the outputs of the student's code and the reports of the checks, as JSON, in
        nbgrader's format; "" where the submission could not be read.
    seconds : float
        How long it took. It is not part of the record, which is the same every time.
    """

    record: Record
    notebook: str = ""
    seconds: float = 0.0
