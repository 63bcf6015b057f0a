"""What a check says: the score as nbgrader reads it, and a report that a student can use.

As the value of a notebook cell a :class:`Report` has three faces: plain text is the bare score (nbgrader's partial
credit), HTML is the report, and a JSON bundle carries the same for tools such as ``bnlab check``.
"""

from dataclasses import asdict, dataclass, replace
from html import escape

JSON_MIME = "application/vnd.bnlab.report+json"


@dataclass(frozen=True)
class PartResult:
    """How one part of a question came out.

    Attributes
    ----------
    name : str
    weight : float
        Its share of the question's points, relative to the other parts.
    passed, answered : bool
    final : bool
        Whether the parts after it were not tried.
    message, hint, tried : str
        What was wrong, what the likely mistake is, and the call that showed it. Empty where the part passed.
    printed : str
        What the student's code wrote.
    warned : tuple of str
        Python's warnings. They cost nothing.
    """

    name: str
    weight: float
    passed: bool
    answered: bool = True
    final: bool = False
    message: str = ""
    hint: str = ""
    tried: str = ""
    printed: str = ""
    warned: tuple[str, ...] = ()

    def withheld(self) -> "PartResult":
        """The same part where no other part passed: it doesn't count alone."""
        return replace(self, passed=False, message=self.message or "Counts once another part is right.")


@dataclass(frozen=True)
class Report:
    """The outcome of one question.

    Attributes
    ----------
    question : str
        Its `grade_id`.
    points : float
        What it is worth.
    parts : tuple of PartResult
        In the order they were run. An unanswered question stops at its first part.
    weight : float
        Sum of the weights of all parts of the question.
    borrowed : tuple of str
        Library functions called that would be the answer themselves. They cost nothing; a person decides.
    """

    question: str
    points: float
    parts: tuple[PartResult, ...]
    weight: float
    borrowed: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Points earned, to two decimals."""
        passed = sum(part.weight for part in self.parts if part.passed)
        return round(self.points * passed / self.weight, 2)

    @property
    def answered(self) -> bool:
        """Whether no part met a NotImplementedError."""
        return all(part.answered for part in self.parts)

    @property
    def status(self) -> str:
        """ "right", "partly right", "wrong" or "not answered"."""
        if self.score == 0 and not self.answered:
            return "not answered"
        if self.score == self.points:
            return "right"
        return "partly right" if self.score > 0 else "wrong"

    @property
    def lost(self) -> set[str]:
        """Names of the parts that did not pass."""
        return {part.name for part in self.parts if not part.passed}

    @property
    def messages(self) -> str:
        """All messages and hints, for a tool that looks for a phrase."""
        return "\n".join(f"{part.message}\n{part.hint}" for part in self.parts if not part.passed)

    def to_dict(self) -> dict:
        """The report as plain data, ready for JSON."""
        return {"question": self.question, "points": self.points, "score": self.score, "status": self.status} | {
            "parts": [asdict(part) | {"warned": list(part.warned)} for part in self.parts],
            "weight": self.weight,
            "borrowed": list(self.borrowed),
        }

    @classmethod
    def from_dict(cls, fields: dict) -> "Report":
        """The report that :meth:`to_dict` was made from."""
        parts = [PartResult(**{**part, "warned": tuple(part["warned"])}) for part in fields["parts"]]
        return cls(fields["question"], fields["points"], tuple(parts), fields["weight"], tuple(fields["borrowed"]))

    @property
    def borrowed_note(self) -> str:
        """What to say about borrowed functions, or ""."""
        if not self.borrowed:
            return ""
        return (
            f"Your code calls {self.borrowed[0]}, which already is the answer. The point of this question "
            "is to write it yourself. It costs no points here, but your instructor sees it, too."
        )

    def __repr__(self) -> str:
        return f"{self.score:g}"

    def __str__(self) -> str:
        lines = [f"{self.question}: {self.score:g} of {self.points:g} points, {self.status}"]
        for part in self.parts:
            lines.append(f"  [{'ok' if part.passed else '--'}] {part.name}")
            if not part.passed:
                details = [part.message, part.hint and f"Hint: {part.hint}", part.tried and f"Tried: {part.tried}"]
                lines += [f"       {line}" for text in details if text for line in text.splitlines()]
        lines += [f"  Note: {self.borrowed_note}"] if self.borrowed else []
        return "\n".join(lines)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": repr(self), "text/html": self._html(), JSON_MIME: self.to_dict()}

    def _html(self) -> str:
        """The report as HTML without scripts; colors are the notebook's own, so it fits light and dark."""
        share = self.score / self.points if self.points else 0.0
        head = (
            f"<div style='font-weight:600'>{escape(self.question)}: {self.score:g} of {self.points:g} points"
            f" <span style='opacity:.75'>({self.status})</span></div>"
            "<div role='presentation' style='height:.4em;max-width:24em;border:1px solid currentColor;"
            "border-radius:.3em;margin:.35em 0 .6em'>"
            f"<div style='height:100%;width:{100 * share:.0f}%;background:currentColor;opacity:.6'></div></div>"
        )
        return f"<div style='line-height:1.45'>{head}{''.join(map(_part_html, self.parts))}{self._notes_html()}</div>"

    def _notes_html(self) -> str:
        printed = next((part.printed for part in self.parts if part.printed), "")
        warned = dict.fromkeys(text for part in self.parts for text in part.warned)
        notes = [escape(self.borrowed_note)] if self.borrowed else []
        notes += [f"Python warned (this costs nothing): {escape(text)}" for text in warned]
        if printed:
            notes.append(f"Your code printed:{_pre(printed)}")
        return "".join(f"<div style='opacity:.8;margin-top:.4em'>{note}</div>" for note in notes)


def _part_html(part: PartResult) -> str:
    mark, word = ("&#10003;", "passed") if part.passed else ("&#10007;", "failed")
    if not part.answered:
        mark, word = "&#9675;", "not answered"
    title = f"<span aria-hidden='true'>{mark}</span> {escape(part.name)} <span style='opacity:.75'>({word})</span>"
    if part.passed:
        return f"<div>{title}</div>"
    body = f"<div>{title}</div><div style='margin:.2em 0 .7em 1.4em;overflow-x:auto'>{_pre(part.message)}"
    if part.hint:
        body += f"<div style='margin:.3em 0'><b>Hint.</b> {escape(part.hint)}</div>"
    if part.tried:
        body += f"<details><summary>What was tried</summary>{_pre(part.tried)}</details>"
    return body + "</div>"


def _pre(text: str) -> str:
    return f"<pre style='white-space:pre-wrap;margin:.2em 0'>{escape(text)}</pre>"
