"""Reading a problem set from its directory: the text notebook, its checks and the submissions that prove them.

Nothing here runs a cell. Inconsistencies between notebook and checks are found on reading, so that every tool that
comes after can rely on them.
"""

import ast
import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from bnlab.checks import ProblemSet, load_problem_set

LIGHT = {"bnlab", "bnlab.checks", "bnlab.reference", "bnlab.moments"}  # the parts of the course that work without torch
SETTINGS = ("QUESTION", "LOSES", "SAYS", "FLAGS")


class SourceError(Exception):
    """A problem set's files contradict each other, or one is missing."""


@dataclass(frozen=True)
class Submission:
    """A right or wrong solution of some questions, as a file under ``submissions/``.

    Attributes
    ----------
    name : str
        Name of the file without its suffix.
    about : str
        First line of its docstring.
    cells : dict of str to str
        New source of the solution cell, by question.
    loses : frozenset of str
        Parts that it must lose. Empty for a right solution.
    says : str
        Phrase that the report must contain. Empty for a right solution.
    flags : str
        Library function that the report must name as borrowed. Empty for all but borrowed answers.
    """

    name: str
    about: str
    cells: dict[str, str]
    loses: frozenset[str] = frozenset()
    says: str = ""
    flags: str = ""

    @property
    def kind(self) -> str:
        """ "right", "wrong" or "borrowed"; "solution" and "stub" for what the notebook itself holds."""
        return self.name.partition("_")[0]


@dataclass(frozen=True)
class Source:
    """One problem set as its author wrote it.

    Attributes
    ----------
    directory : Path
        Holds ``notebook.py``, ``checks.py`` and ``submissions/``.
    """

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def checks(self) -> Path:
        return self.directory / "checks.py"

    @property
    def rubric(self) -> Path:
        """How the answers in words are graded; for instructors, never released."""
        return self.directory / "rubric.md"

    @cached_property
    def problem_set(self) -> ProblemSet:
        problem_set = load_problem_set(self.checks)
        if problem_set.name != self.name:
            raise SourceError(
                f"{self.checks} declares {problem_set.name!r}, but lies in {self.name}: rename one of them"
            )
        return problem_set

    @cached_property
    def notebook(self) -> NotebookNode:
        """The instructor's notebook with nbgrader's metadata, checked against the checks."""
        import jupytext  # an extra: students don't need it

        path = self.directory / "notebook.py"
        if not path.is_file():
            raise SourceError(f"{path} does not exist: a problem set is a notebook.py and a checks.py")
        notebook = jupytext.read(path, fmt="py:percent")
        notebook.metadata.pop("jupytext", None)
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook.nbformat, notebook.nbformat_minor = 4, 5
        for number, cell in enumerate(notebook.cells):
            cell["id"] = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{number}")
            if cell.cell_type == "code" and "nbgrader" not in cell.metadata:
                # "Run all" goes on behind a figure of a function that isn't written yet.
                cell.metadata["tags"] = ["raises-exception"]
        self._agrees_with_checks(notebook)
        nbformat.validate(notebook)
        return notebook

    def _agrees_with_checks(self, notebook: NotebookNode) -> None:
        marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
        ids = [cell.metadata.nbgrader.grade_id for cell in marked]
        twice = sorted({grade_id for grade_id in ids if ids.count(grade_id) > 1})
        if twice:
            raise SourceError(f"{self.name}: two cells have the grade_id {', '.join(twice)}: every cell needs its own")
        cells = dict(zip(ids, marked, strict=True))
        for question in self.problem_set.questions.values():
            check, solution = cells.get(question.name), cells.get(solution_id(question.name))
            if check is None or solution is None:
                missing = question.name if check is None else solution_id(question.name)
                raise SourceError(
                    f"{self.name}: checks.py asks {question.name}, but no cell has the grade_id {missing!r}"
                )
            if check.metadata.nbgrader.get("points") != question.points:
                raise SourceError(
                    f"{self.name}: {question.name} has {check.metadata.nbgrader.get('points')} points in notebook.py, "
                    f"{question.points:g} in checks.py: make them equal"
                )
            line = f'check("{question.name}", {question.name})'
            if check.source.strip().splitlines()[-1] != line:
                raise SourceError(f"{self.name}: the test cell {question.name} must end with the line {line}")
            if "### BEGIN SOLUTION" not in solution.source:
                raise SourceError(f"{self.name}: cell {solution_id(question.name)} marks no ### BEGIN SOLUTION")
        for name, points in self.problem_set.written_answers.items():
            cell = cells.get(name)
            mark = cell.metadata.nbgrader if cell is not None and cell.cell_type == "markdown" else {}
            if not (mark.get("grade") and mark.get("solution") and mark.get("points") == points):
                raise SourceError(
                    f"{self.name}: checks.py has the written answer {name} for {points:g} points; it needs a markdown "
                    f"cell with this grade_id, grade and solution true, and the same points"
                )
        graded = {cell.metadata.nbgrader.grade_id for cell in marked if cell.metadata.nbgrader.get("grade")}
        unknown = graded - self.problem_set.questions.keys() - self.problem_set.written_answers.keys()
        if unknown:
            raise SourceError(
                f"{self.name}: checks.py has no question for the graded cells {', '.join(sorted(unknown))}"
            )

    @cached_property
    def needs_torch(self) -> bool:
        """Whether the notebook or its checks import torch, or a part of the course that does."""
        text = "\n".join(path.read_text(encoding="utf-8") for path in (self.directory / "notebook.py", self.checks))
        modules = re.findall(r"^(?:# )?(?:import|from) +([\w.]+)", text, flags=re.MULTILINE)
        return any(
            name.split(".")[0] == "torch" or (name.startswith("bnlab.") and name not in LIGHT) for name in modules
        )

    @property
    def submissions(self) -> list[Submission]:
        """The alternative right solutions, the named mistakes and the borrowed answers, in order of their names."""
        files = sorted((self.directory / "submissions").glob("*.py"))
        return [self._read_submission(path) for path in files]

    def cover(self, kind: str) -> dict[str, int]:
        """How many submissions of a kind ("right", "wrong", "borrowed") answer each question."""
        answered = [name for submission in self.submissions if submission.kind == kind for name in submission.cells]
        return {name: answered.count(name) for name in self.problem_set.questions}

    def _read_submission(self, path: Path) -> Submission:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, filename=str(path))
        about = (ast.get_docstring(tree) or "").strip()
        if not about:
            raise SourceError(f"{path}: say in a docstring what is particular about this solution")
        settings, shared, functions = {}, [], {}
        for node in tree.body[1:]:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in SETTINGS:
                settings[node.targets[0].id] = ast.literal_eval(node.value)
            elif getattr(node, "name", None) in self.problem_set.questions:
                functions[node.name] = _text_of(node, text)
            else:
                shared.append(_text_of(node, text))
        if not functions:
            raise SourceError(f"{path} defines none of the questions {', '.join(self.problem_set.questions)}")
        cells = {name: "\n\n\n".join([*shared, function]) for name, function in functions.items()}
        if path.stem.startswith("right_"):
            return Submission(path.stem, about.splitlines()[0], cells)
        if path.stem.startswith("borrowed_"):
            if set(cells) != {settings.get("QUESTION")} or not settings.get("FLAGS"):
                raise SourceError(f"{path}: state QUESTION and FLAGS, the function called; define that question only")
            return Submission(path.stem, about.splitlines()[0], cells, flags=settings["FLAGS"])
        if not path.stem.startswith("wrong_"):
            raise SourceError(f"{path}: a submission's file is called right_*.py, wrong_*.py or borrowed_*.py")
        missing = {"QUESTION", "LOSES", "SAYS"} - settings.keys()
        if missing or set(cells) != {settings.get("QUESTION")}:
            raise SourceError(
                f"{path}: a mistake is made in one question: state QUESTION, LOSES, SAYS, define that function only"
                + (f" (missing: {', '.join(sorted(missing))})" if missing else "")
            )
        parts = {part.name for part in self.problem_set.questions[settings["QUESTION"]].parts}
        unknown = set(settings["LOSES"]) - parts
        if unknown or not settings["LOSES"]:
            raise SourceError(f"{path}: LOSES names {unknown or 'nothing'}; the question's parts are {parts}")
        return Submission(path.stem, about.splitlines()[0], cells, frozenset(settings["LOSES"]), settings["SAYS"])


def solution_id(question: str) -> str:
    """The grade_id of the cell in which a question is answered."""
    return f"{question}-solution"


def find_sources(course: Path, names: list[str] | None = None) -> list[Source]:
    """The problem sets of a course directory.

    Parameters
    ----------
    course : Path
        An nbgrader course directory, such as ``exercises/``.
    names : list of str, optional
        Only these.

    Raises
    ------
    SourceError
        There is no such directory or no such problem set.
    """
    if not course.is_dir():
        raise SourceError(f"{course} is not a directory: go to the repository's root, or name it with --course")
    found = {path.parent.name: Source(path.parent) for path in sorted(course.glob("ps*/notebook.py"))}
    if not found:
        raise SourceError(
            f"{course} holds no problem set: each is a directory psN_name with a notebook.py and a checks.py"
        )
    for name in names or []:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0.3)
            raise SourceError(
                f"{course} has no problem set {name!r}; it has {', '.join(found)}"
                + (f". Did you mean {near[0]}?" if near else "")
            )
    return [source for name, source in found.items() if not names or name in names]


def _text_of(node: ast.stmt, text: str) -> str:
    lines = text.splitlines()
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])
