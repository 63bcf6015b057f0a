"""Read what students hand in, and put right what can be put right.

A notebook comes back in any state: not a notebook at all, cells copied, deleted, turned into text, or without the marks
by which nbgrader knows them. :func:`read_notebook` reads it or says why not. :func:`repair` compares it with the
notebook that was handed out and marks the right cells again. :func:`inspect` says beforehand what `repair` would do.

Nothing here runs a student's code or needs more than nbformat, so students use it too, through ``bnlab check``.
"""

import copy
import json
import math
import re
import symtable
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

OTHER_FILES = {b"%PDF": "a PDF", b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"<": "a web page"}
HAND_IN = "hand in the .ipynb file itself, as Jupyter saves it"
EMPTY_ANSWER = "YOUR ANSWER HERE"  # as nbgrader leaves a text cell
CELLS_LIMIT = 2_000
DEPTH_LIMIT = 20  # of metadata and outputs
CODE_LIMIT = 100_000  # characters; a cell that is longer is looked at no further, and is nobody's answer
_VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class UnreadableNotebook(ValueError):
    """A file is not a notebook, or not this problem set's: what it is, what was expected, what to do."""


# --- reading ---------------------------------------------------------------------------------------------------------


def read_notebook(path: Path | str) -> NotebookNode:
    """Read a notebook from a file that may be anything.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    NotebookNode
        In format 4.5, with an id for every cell. What cannot hurt is put right on the way: a byte order mark, UTF-16,
        an old format, missing or invalid metadata and outputs.

    Raises
    ------
    UnreadableNotebook
        There is no such file, or it is not a notebook. The message says what it is instead.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(entry.name for entry in path.glob("*.ipynb"))
        raise UnreadableNotebook(
            f"{path} is a directory, expected a notebook: name the file in it" + (f", {inside[0]}" if inside else "")
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UnreadableNotebook(f"{path} does not exist, expected a notebook: check the name and the folder") from None
    except OSError as error:
        raise UnreadableNotebook(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    return parse_notebook(data, path.name)


def parse_notebook(data: bytes, name: str) -> NotebookNode:
    """Read a notebook from the bytes of a file; as :func:`read_notebook`, which see.

    Parameters
    ----------
    data : bytes
    name : str
        The file's name, for messages.
    """
    try:
        return _tidy(_parse(data))
    except UnreadableNotebook as error:
        raise UnreadableNotebook(f"{name} {error}") from None


def _parse(data: bytes) -> dict:
    """The notebook in `data` as plain data in format 4. Its messages go on after the file's name."""
    if not data.strip():
        raise UnreadableNotebook(f"is empty: save the notebook in Jupyter, and {HAND_IN}")
    kind = next((kind for start, kind in OTHER_FILES.items() if data.lstrip().startswith(start)), None)
    if kind:
        raise UnreadableNotebook(f"is {kind}, expected a notebook: {HAND_IN}")
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise UnreadableNotebook(
            f"is not text in UTF-8 (byte {error.start}): open it in Jupyter, save it, and {HAND_IN}"
        ) from None
    raw = _load_json(text)
    if not (isinstance(raw, dict) and "nbformat" in raw and ("cells" in raw or "worksheets" in raw)):
        holds = f"an object with {', '.join(sorted(raw)[:5]) or 'nothing'}" if isinstance(raw, dict) else _kind(raw)
        raise UnreadableNotebook(
            f"is JSON but no notebook: it holds {holds}, expected an object with cells and nbformat; {HAND_IN}"
        )
    version = raw["nbformat"]
    if not isinstance(version, int) or version > 4 or version < 1:
        raise UnreadableNotebook(
            f"is in notebook format {version!r}, expected 4: open it in a current Jupyter, save it, and {HAND_IN}"
        )
    if version < 4:
        try:
            return nbformat.reads(text, as_version=4)
        except Exception as error:  # a converter that meets nonsense raises whatever it raises
            raise UnreadableNotebook(
                f"is in the old notebook format {version} and could not be converted ({error}): "
                f"open it in Jupyter, save it, and {HAND_IN}"
            ) from error
    return raw


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        conflict = re.search(r"^<{7} .*", text, re.MULTILINE)
        if conflict:
            line = text.count("\n", 0, conflict.start()) + 1
            raise UnreadableNotebook(
                f"has an unresolved git conflict at line {line}: settle it, save, and {HAND_IN}"
            ) from None
        if text.lstrip().startswith("{") and not text.rstrip().endswith("}"):
            line = text.rstrip().count("\n") + 1
            raise UnreadableNotebook(f"breaks off at line {line}: copy it again from where you work") from None
        raise UnreadableNotebook(
            f"is not a notebook: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); {HAND_IN}"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, or brackets 5000 deep
        raise UnreadableNotebook(f"is not a notebook ({error}); {HAND_IN}") from None


def _tidy(raw: dict) -> NotebookNode:
    """A well-formed copy of a notebook: format 4.5, unique cell ids, nothing that Jupyter's schema refuses."""
    if not isinstance(raw["cells"], list):
        raise UnreadableNotebook(f"is no notebook: its cells are {_kind(raw['cells'])}, expected a list; {HAND_IN}")
    if len(raw["cells"]) > CELLS_LIMIT:
        raise UnreadableNotebook(
            f"has {len(raw['cells'])} cells, allowed are {CELLS_LIMIT}: delete those that are not needed, and {HAND_IN}"
        )
    cells = [_tidy_cell(cell, number) for number, cell in enumerate(raw["cells"], start=1)]
    metadata = raw.get("metadata")
    notebook = NotebookNode(
        nbformat=4,
        nbformat_minor=5,
        metadata=nbformat.from_dict(_plain(metadata)) if isinstance(metadata, dict) else NotebookNode(),
        cells=_with_unique_ids(cells),
    )
    if not nbformat.validator.isvalid(notebook):
        notebook.metadata = NotebookNode()
        for cell in notebook.cells:
            kept = {key: cell.metadata[key] for key in ("nbgrader",) if key in cell.metadata}
            cell.metadata = NotebookNode(kept)
            cell.pop("attachments", None)
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    return notebook


def _tidy_cell(cell: Any, number: int) -> NotebookNode:
    kind = cell.get("cell_type") if isinstance(cell, dict) else None
    if kind not in ("code", "markdown", "raw"):
        raise UnreadableNotebook(
            f"is no notebook: cell {number} is neither code nor text; open it in Jupyter, save it, and {HAND_IN}"
        )
    source = cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise UnreadableNotebook(
            f"is no notebook: the source of cell {number} is {_kind(source)}, expected text; "
            f"open it in Jupyter, save it, and {HAND_IN}"
        )
    tidy = {"cell_type": kind, "source": _plain(source)}
    tidy["id"] = cell.get("id")
    tidy["metadata"] = _plain(cell["metadata"]) if isinstance(cell.get("metadata"), dict) else {}
    if kind == "code":
        tidy["outputs"] = _plain(cell["outputs"]) if isinstance(cell.get("outputs"), list) else []
        count = cell.get("execution_count")
        tidy["execution_count"] = count if isinstance(count, int) else None
    elif "attachments" in cell:
        tidy["attachments"] = _plain(cell["attachments"])
    return nbformat.from_dict(tidy)


def _plain(value: Any, depth: int = 0) -> Any:
    """A copy of what JSON held, such that it can be written again: not too deep, no NaN, no half surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > DEPTH_LIMIT:
        return None
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    return value


def _with_unique_ids(cells: list[NotebookNode]) -> list[NotebookNode]:
    seen: set[str] = set()
    for number, cell in enumerate(cells, start=1):
        given = cell.get("id")
        wanted = given if isinstance(given, str) and _VALID_ID.fullmatch(given) else f"cell-{number}"
        free, copies = wanted, 1
        while free in seen:
            copies += 1
            free = f"{wanted[:50]}-{copies}"
        cell["id"] = free
        seen.add(free)
    return cells


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), "a number")


# --- repairing -------------------------------------------------------------------------------------------------------


def repair(notebook: NotebookNode, source: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """Match a submission's cells with the notebook that was handed out, and mark them as nbgrader needs them.

    Of the submission's own nbgrader metadata only the `grade_id` is looked at, as one clue among others:

    - The answer to a question is the cell that has its `grade_id` and defines its function; else a cell that defines
      the function; else the cell with the `grade_id`. Of several, all stay and run in order, and the last one counts;
      a copy that is as empty as it was handed out gives way to an answer.
    - A test cell is the one that was handed out. It stays where it was, but never above its answer. A changed test cell
      stays too, as an ordinary cell.
    - The code before the first question (the imports) runs first as it was handed out.

    Parameters
    ----------
    notebook : NotebookNode
        The submission.
    source : NotebookNode
        The notebook as it was handed out: nbgrader's release version.

    Returns
    -------
    repaired : NotebookNode
        A new notebook. All code of the submission is in it, in the order it had. Repairing it again changes nothing.
    findings : list of str
        What was found and what was done about it. Empty for a submission with all its cells.
    """
    return _Repair(notebook, source).run()


def inspect(notebook: NotebookNode, questions: Iterable[str], written: Iterable[str] = ()) -> list[str]:
    """Say what is missing or changed in a notebook, before it is handed in.

    Parameters
    ----------
    notebook : NotebookNode
    questions : iterable of str
        The questions' names: question NAME is answered by a function NAME in a cell with the `grade_id`
        ``NAME-solution`` and tested by the cell NAME, ``check("NAME", NAME)``.
    written : iterable of str
        The `grade_id` of the markdown cells that hold answers in words.

    Returns
    -------
    list of str
        What is found, and what :func:`repair` will do about it. Empty where all is in order.
    """

    def cell(grade_id: str, code: str, **kind: bool) -> NotebookNode:
        return nbformat.v4.new_code_cell(code, metadata={"nbgrader": {"grade_id": grade_id, **kind}})

    expected = [
        part
        for name in questions
        for part in (
            cell(f"{name}-solution", "", solution=True, grade=False),
            cell(name, f'check("{name}", {name})', solution=False, grade=True),
        )
    ]
    expected += [
        nbformat.v4.new_markdown_cell("", metadata={"nbgrader": {"grade_id": name, "solution": True, "grade": True}})
        for name in written
    ]
    return repair(notebook, nbformat.v4.new_notebook(cells=expected))[1]


def belongs(notebook: NotebookNode, source: NotebookNode) -> bool:
    """Whether `notebook` shares a single marked cell with `source`. If not, it is some other file."""
    marked = {_grade_id(cell) for cell in source.cells} - {""}
    names = {_question(grade_id) for grade_id in marked}
    return any(_grade_id(cell) in marked or _functions(cell.source) & names for cell in notebook.cells)


@dataclass(eq=False)
class _Cell:
    """A cell as it was handed in, and what tells where it belongs."""

    place: int
    node: NotebookNode

    @cached_property
    def claim(self) -> str:
        """The grade_id that the cell says it has."""
        return _grade_id(self.node)

    @cached_property
    def text(self) -> str:
        return self.node.source.strip()

    @property
    def is_code(self) -> bool:
        return self.node.cell_type == "code"

    @cached_property
    def functions(self) -> set[str]:
        """Functions and classes that the cell defines, if it is Python."""
        return _functions(self.node.source)


class _Repair:
    """One repair under way.

    Attributes
    ----------
    marked, answers : dict of str to NotebookNode
        By grade_id: the handed-out cells that nbgrader knows, and those of them that students fill in.
    cells : list of _Cell
        The submission's.
    carriers : dict of str to _Cell
        By grade_id: the cell that is the answer.
    left_out : list of _Cell
        Cells that say nothing of the student's: copies of handed-out ones.
    found : dict of (str, str) to list of str
        The questions, by what was found about them and what was done.
    """

    def __init__(self, notebook: NotebookNode, source: NotebookNode):
        self.repaired = _tidy(notebook)
        self.source = source
        self.marked = {_grade_id(cell): cell for cell in source.cells if _grade_id(cell)}
        self.answers = {name: cell for name, cell in self.marked.items() if cell.metadata.nbgrader.get("solution")}
        self.cells = [_Cell(place, node) for place, node in enumerate(self.repaired.cells)]
        self.carriers: dict[str, _Cell] = {}
        self.left_out: list[_Cell] = []
        self.found: dict[tuple[str, str], list[str]] = {}

    def run(self) -> tuple[NotebookNode, list[str]]:
        self.match_answers()
        self.review_answers()
        fixed = self.place_fixed_cells()
        top = self.opening()
        for cell in self.cells:
            cell.node.metadata.pop("nbgrader", None)
        for grade_id, carrier in self.carriers.items():
            _become(carrier.node, self.answers[grade_id])
        cells = [*top, *fixed[-1]]
        for cell in self.cells:
            cells += ([] if cell in self.left_out else [cell.node]) + fixed[cell.place]
        self.repaired.cells = _with_unique_ids(cells + fixed[len(self.cells)])
        if "orig_nbformat" in self.repaired.metadata:
            self.note("File in an old notebook format", "", "read as format 4")
        return self.repaired, [self.sentence(*kind, names) for kind, names in self.found.items()]

    def sentence(self, problem: str, remedy: str, names: list[str]) -> str:
        listed = "all" if len(names) == len(self.answers) > 2 else ", ".join(names)
        return f"{problem} ({listed}): {remedy}." if listed else f"{problem}: {remedy}."

    def note(self, problem: str, name: str, remedy: str) -> None:
        self.found.setdefault((problem, remedy), []).append(name)

    @property
    def others(self) -> list[_Cell]:
        """Cells that are neither an answer nor left out."""
        return [cell for cell in self.cells if cell not in self.carriers.values() and cell not in self.left_out]

    def match_answers(self) -> None:
        """Find the cell that answers each question, by rules from sure to charitable. A cell answers one question."""

        def is_answer(cell: _Cell, grade_id: str) -> bool:
            return _question(grade_id) in cell.functions and cell.text != self.answers[grade_id].source.strip()

        rules = (
            lambda cell, grade_id: cell.is_code and cell.claim == grade_id and is_answer(cell, grade_id),
            lambda cell, grade_id: cell.is_code and is_answer(cell, grade_id),
            lambda cell, grade_id: cell.claim == grade_id and is_answer(cell, grade_id),
            is_answer,
            lambda cell, grade_id: cell.claim == grade_id or self.is_empty_for(cell, grade_id),
        )
        for fits in rules:
            for grade_id in [name for name in self.answers if name not in self.carriers]:
                free = [c for c in self.others if c.text not in self.fixed_texts and fits(c, grade_id)]
                if free:
                    kind = self.answers[grade_id].cell_type
                    self.carriers[grade_id] = max(free, key=lambda cell: (cell.node.cell_type == kind, cell.place))

    def is_empty_for(self, cell: _Cell, grade_id: str) -> bool:
        """Whether a cell is an answer as it was handed out. Answers in words all look alike: then its mark decides."""
        text = self.answers[grade_id].source.strip()
        if not cell.text == text != "":
            return False
        alike = [name for name, other in self.answers.items() if other.source.strip() == text]
        return len(alike) == 1 or cell.claim not in self.answers or cell.claim == grade_id

    def review_answers(self) -> None:
        """Note what is unusual about the answers, and leave out empty answer cells beside an answer."""
        for grade_id, handed_out in self.answers.items():
            name, empty, carrier = _question(grade_id), handed_out.source.strip(), self.carriers.get(grade_id)
            if carrier is None:
                self.note_missing(name, handed_out)
                continue
            if carrier.claim != grade_id:
                self.note("Answer cell without its mark", name, "recognized by the function that it defines")
            if carrier.node.cell_type != handed_out.cell_type:
                self.note("Answer cell of another type", name, f"turned back into {handed_out.cell_type}")
            beside = [c for c in self.others if carrier.text != empty and self.is_empty_for(c, grade_id)]
            if beside:
                self.note("Empty answer cell beside the answer", name, "left out")
                self.left_out += beside
            if any(cell.claim == grade_id for cell in self.others):
                self.note("Answer cell copied", name, "all copies run in their order, the last one counts")

    def note_missing(self, name: str, handed_out: NotebookNode) -> None:
        if any(name in cell.functions for cell in self.cells):
            self.note("Answer in the cell of another question", name, "graded from there")
        elif handed_out.metadata.nbgrader.get("grade"):
            self.note("Answer missing", name, "its empty cell is put back")
        else:
            self.note("Answer cell missing", name, "the question is graded on what is left")

    def place_fixed_cells(self) -> dict[int, list[NotebookNode]]:
        """Fresh copies of the cells that students don't edit, by the place after which they belong.

        -1 is the top, len(cells) the end.
        """
        fixed: dict[int, list[NotebookNode]] = {place: [] for place in range(-1, len(self.cells) + 1)}
        latest = -1
        for grade_id, cell in self.marked.items():
            if grade_id in self.carriers:
                latest = self.carriers[grade_id].place
                continue
            mark = cell.metadata.nbgrader
            if mark.get("solution") and not mark.get("grade"):
                continue  # an empty answer cell is worth nothing, and could hide a function defined elsewhere
            place = None if mark.get("solution") else self.place_of_copy(grade_id)
            if _is_test(cell):
                place = self.below_answer(place, grade_id)
            latest = latest if place is None else place
            fixed[latest].append(copy.deepcopy(cell))
        return fixed

    def place_of_copy(self, grade_id: str) -> int | None:
        """The place of the submission's copy of a fixed cell, which is left out for the original. None: no copy."""
        cell = self.marked[grade_id]
        text, what = cell.source.strip(), "Test cell" if _is_test(cell) else "Read-only cell"
        twins = {other for other in self.marked if other != grade_id and self.marked[other].source.strip() == text}
        copies = [c for c in self.others if c.text == text and c.claim not in twins]
        changed = [c for c in self.others if c.claim == grade_id and c.text not in self.fixed_texts]
        self.left_out += copies + [c for c in changed if not c.text]
        if not copies and not changed:
            self.note(f"{what} missing", grade_id, "put back")
            return None
        if changed:
            self.note(f"{what} changed", grade_id, "kept as an ordinary cell, the original comes after it")
        if copies and all(c.claim != grade_id for c in copies):
            self.note(f"{what} without its mark", grade_id, "recognized by what it says")
        if copies and all(c.node.cell_type != cell.cell_type for c in copies):
            self.note(f"{what} of another type", grade_id, f"turned back into {cell.cell_type}")
        if len(copies) > 1:
            self.note(f"{what} copied", grade_id, "one is kept")
        return (copies or changed)[-1].place

    def below_answer(self, place: int | None, name: str) -> int:
        """The place of a test: its own, but never above its answer; the end where no answer can be found."""
        carrier = self.carriers.get(f"{name}-solution")
        if carrier and name in carrier.functions:
            answer = carrier.place
        else:
            run = [c for c in self.cells if (c.is_code or c in self.carriers.values()) and c not in self.left_out]
            answer = max((c.place for c in run if c is carrier or name in c.functions), default=None)
        if place is None:
            return len(self.cells) if answer is None else answer
        if answer is not None and place < answer:
            self.note("Test cell above the answer", name, "moved below it")
            return answer
        return place

    def opening(self) -> list[NotebookNode]:
        """The code before the first question, as it was handed out, if the submission doesn't start with it."""
        first = next((place for place, cell in enumerate(self.source.cells) if _grade_id(cell) in self.answers), 0)
        opening = [cell for cell in self.source.cells[:first] if cell.cell_type == "code" and not _grade_id(cell)]
        tests = {cell.source.strip() for cell in self.marked.values() if _is_test(cell)}
        questions = [c.place for c in self.cells if c in self.carriers.values() or c.text in tests]
        present = {cell.text for cell in self.cells[: min(questions, default=None)] if cell.is_code}
        if all(cell.source.strip() in present for cell in opening):
            return []
        self.note("Opening cells (imports) changed, moved or deleted", "", "the originals run first")
        return copy.deepcopy(opening)

    @cached_property
    def fixed_texts(self) -> set[str]:
        return {cell.source.strip() for grade_id, cell in self.marked.items() if grade_id not in self.answers}


def _become(node: NotebookNode, handed_out: NotebookNode) -> None:
    """Give a cell the type and the nbgrader metadata of the cell that was handed out."""
    node.metadata["nbgrader"] = copy.deepcopy(handed_out.metadata.nbgrader)
    if node.cell_type == handed_out.cell_type:
        return
    node.cell_type = handed_out.cell_type
    node.pop("attachments", None)
    if node.cell_type == "code":
        node.outputs, node.execution_count = [], None
    else:
        node.pop("outputs", None)
        node.pop("execution_count", None)


def _grade_id(cell: NotebookNode) -> str:
    """The grade_id in a cell's metadata, or "" where it has none that could be one."""
    mark = cell.metadata.get("nbgrader")
    grade_id = mark.get("grade_id") if isinstance(mark, dict) else None
    return grade_id if isinstance(grade_id, str) else ""


def _question(grade_id: str) -> str:
    """The question that an answer cell is for."""
    return grade_id.removesuffix("-solution")


def _is_test(cell: NotebookNode) -> bool:
    mark = cell.metadata.nbgrader
    return bool(mark.get("grade")) and not mark.get("solution") and not mark.get("task")


def _functions(source: str) -> set[str]:
    """Functions and classes that `source` defines at its top level; none if it is not Python. It is not run."""
    if len(source) > CODE_LIMIT:  # reading it would take gigabytes
        return set()
    python = re.sub(r"^[%!?].*", "", source, flags=re.MULTILINE)  # IPython's own lines
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in a student's string
            table = symtable.symtable(python, "<cell>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_namespace()}
