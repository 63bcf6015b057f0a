"""A made-up class hands in both problem sets, and nbgrader grades it: ``python -m bnlab.grading.demo``.

It proves that the whole chain works, on submissions that are right, wrong, unfinished, mangled in the ways that
students' files are, or that crash and hang, which costs them that one question. What each must score follows from the
problem sets' own ``submissions/``; the demo fails if one doesn't. It works in a course directory of its own, with a
gradebook of its own.

The chain is nbgrader's, command for command: ``generate_assignment``, ``zip_collect``, ``autograde`` (with the grader
behind it that ``bnlab grade`` uses), ``generate_feedback``, ``export``. Submissions come as a learning platform hands
them out, one zip per problem set, and ``zip_collect`` takes them in. (``nbgrader collect`` wants an exchange directory
that all students can write to, on a machine where they all have accounts; a course with a JupyterHub has that, a laptop
or a CI machine hasn't.)
"""

import copy
import csv
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bnlab.exercises.build import build
from bnlab.exercises.source import Source, SourceError, Submission, find_sources, solution_id
from bnlab.grading.course import CourseError, preflight, run_nbgrader
from bnlab.grading.intake import read_notebook

MADE_HERE = ".made-by-grade-demo"  # only a directory with this file is emptied
NO_SCORE, MISSING, BY_HAND = "could not grade", "missing", "needs manual grade"


class DemoError(Exception):
    """The demo could not run to its end: a command failed, or the directory isn't ours to empty."""


# --- what students do ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """What a student has on the desk: the problem set as it was handed out, and for us the answers.

    Attributes
    ----------
    source : Source
    handed_out : NotebookNode
        nbgrader's release version.
    """

    source: Source
    handed_out: NotebookNode

    @property
    def questions(self) -> list[str]:
        return list(self.source.problem_set.questions)

    @property
    def points(self) -> dict[str, float]:
        return {name: question.points for name, question in self.source.problem_set.questions.items()}

    @property
    def right(self) -> dict[str, str]:
        """The instructor's answers."""
        return {name: _cell(self.source.notebook, solution_id(name)).source for name in self.questions}

    @property
    def alternatives(self) -> list[Submission]:
        return [submission for submission in self.source.submissions if submission.kind == "right"]

    def mistakes(self, question: str) -> list[Submission]:
        return [s for s in self.source.submissions if s.kind == "wrong" and question in s.cells]

    def loss(self, mistake: Submission) -> float:
        """Points that a named mistake costs."""
        (name,) = mistake.cells
        question = self.source.problem_set.questions[name]
        passed = sum(part.weight for part in question.parts if part.name not in mistake.loses)
        return question.points - round(question.points * passed / sum(part.weight for part in question.parts), 2)

    def notebook(self, answers: dict[str, str]) -> NotebookNode:
        """The handed-out notebook with these answers; the other questions are left as they were."""
        notebook = copy.deepcopy(self.handed_out)
        for name, answer in answers.items():
            _cell(notebook, solution_id(name)).source = answer
        return notebook


@dataclass(frozen=True)
class HandedIn:
    """A file that a student hands in, and what it must bring.

    Attributes
    ----------
    content : NotebookNode or str
    lost : float or None
        Points that are lost. None where there are none at all, because the file can't be read.
    status : str
        As in the exported table.
    """

    content: NotebookNode | str
    lost: float | None = 0.0
    status: str = "graded"


def solves_it(desk: Desk) -> HandedIn:
    """all right, as the instructor would"""
    return HandedIn(desk.notebook(desk.right))


def solves_it_differently(desk: Desk) -> HandedIn:
    """all right, in another way"""
    return HandedIn(desk.notebook(desk.right | desk.alternatives[0].cells))


def mixes_styles(desk: Desk) -> HandedIn:
    """all right, in several other ways"""
    answers = desk.right
    for alternative in desk.alternatives:
        answers |= alternative.cells
    return HandedIn(desk.notebook(answers))


def answers_in_words(desk: Desk) -> HandedIn:
    """all right, and a question answered in words"""
    notebook = desk.notebook(desk.right)
    for name in desk.source.problem_set.written_answers:
        _cell(notebook, name).source = "Because the test set must not speak before the test."
    return HandedIn(notebook, status=BY_HAND)


def borrows(desk: Desk) -> HandedIn:
    """right, by the library's own function"""
    borrowed = next(submission for submission in desk.source.submissions if submission.kind == "borrowed")
    return HandedIn(desk.notebook(desk.right | borrowed.cells))


def makes_one_mistake(desk: Desk) -> HandedIn:
    """one named mistake"""
    mistake = desk.mistakes(desk.questions[0])[0]
    return HandedIn(desk.notebook(desk.right | mistake.cells), desk.loss(mistake))


def makes_many_mistakes(desk: Desk) -> HandedIn:
    """a named mistake in every question"""
    mistakes = [desk.mistakes(name)[-1] for name in desk.questions]
    answers = {name: answer for mistake in mistakes for name, answer in mistake.cells.items()}
    return HandedIn(desk.notebook(answers), sum(map(desk.loss, mistakes)))


def does_half(desk: Desk) -> HandedIn:
    """half the questions"""
    half = len(desk.questions) // 2
    lost = sum(desk.points[name] for name in desk.questions[half:])
    return HandedIn(desk.notebook({name: desk.right[name] for name in desk.questions[:half]}), lost)


def does_nothing(desk: Desk) -> HandedIn:
    """nothing: the notebook as handed out"""
    return HandedIn(desk.notebook({}), sum(desk.points.values()))


def copies_cells(desk: Desk) -> HandedIn:
    """an old attempt and a test copied along"""
    first = desk.questions[0]
    notebook = desk.notebook(desk.right)
    place = notebook.cells.index(_cell(notebook, solution_id(first)))
    attempt, test = copy.deepcopy(notebook.cells[place]), copy.deepcopy(_cell(notebook, first))
    attempt.source = desk.mistakes(first)[0].cells[first]
    attempt.id, test.id = "pasted-1", "pasted-2"  # Jupyter gives a pasted cell a new id, and keeps its metadata
    notebook.cells[place:place] = [attempt, test]
    return HandedIn(notebook)


def loses_marks(desk: Desk) -> HandedIn:
    """all metadata lost in another program"""
    notebook = desk.notebook(desk.right)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
    return HandedIn(notebook)


def deletes_cells(desk: Desk) -> HandedIn:
    """a test and another question's answer deleted"""
    first, second = desk.questions[:2]
    notebook = desk.notebook(desk.right)
    notebook.cells.remove(_cell(notebook, first))
    notebook.cells.remove(_cell(notebook, solution_id(second)))
    return HandedIn(notebook, desk.points[second], NO_SCORE)


def turns_code_into_text(desk: Desk) -> HandedIn:
    """an answer turned into a text cell"""
    notebook = desk.notebook(desk.right)
    answer = _cell(notebook, solution_id(desk.questions[1]))
    place = notebook.cells.index(answer)
    notebook.cells[place] = nbformat.v4.new_markdown_cell(answer.source, metadata=answer.metadata, id=answer.id)
    return HandedIn(notebook)


def warns(desk: Desk) -> HandedIn:
    """right, but noisy: warnings and logs"""
    name = desk.questions[0]
    noisy = (
        f"import logging, sys, warnings\n\nlogging.basicConfig()\n\n\n{desk.right[name]}\n\n\n"
        f"quiet = {name}\n\n\ndef {name}(*args, **kwargs):\n"
        "    warnings.warn('careful')\n    logging.warning('careful')\n    print('careful', file=sys.stderr)\n"
        "    return quiet(*args, **kwargs)\n"
    )
    return HandedIn(desk.notebook(desk.right | {name: noisy}))


def never_ends(desk: Desk) -> HandedIn:
    """an endless loop in one function"""
    name = desk.questions[0]
    endless = f"def {name}(*args, **kwargs):\n    while True:\n        pass\n"
    notebook = desk.notebook(desk.right | {name: endless})
    # Nobody runs the figure of such a function: it would only wait until its cell is cut short.
    notebook.cells = [c for c in notebook.cells if "nbgrader" in c.metadata or f"{name}(" not in c.source]
    return HandedIn(notebook, desk.points[name], NO_SCORE)


def mistypes(desk: Desk) -> HandedIn:
    """a syntax error in one answer"""
    name = desk.questions[-1]
    return HandedIn(desk.notebook(desk.right | {name: f"def {name}(:\n    return"}), desk.points[name])


def imports_nonsense(desk: Desk) -> HandedIn:
    """an import that fails in the first cell"""
    notebook = desk.notebook(desk.right)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = "import a_package_of_mine\n" + first.source
    return HandedIn(notebook)


def saves_a_web_page(desk: Desk) -> HandedIn:
    """a web page saved as .ipynb"""
    return HandedIn("<!DOCTYPE html>\n<html><body>Please log in.</body></html>\n", None, NO_SCORE)


def ends_the_process(desk: Desk) -> HandedIn:
    """code that ends its process"""
    name = desk.questions[0]
    return HandedIn(desk.notebook(desk.right | {name: "import os\n\nos._exit(1)"}), desk.points[name], NO_SCORE)


def takes_another_file(desk: Desk) -> HandedIn:
    """some other notebook under this name"""
    cells = [nbformat.v4.new_code_cell("print('my holidays')")]
    return HandedIn(nbformat.v4.new_notebook(cells=cells), None, NO_SCORE)


# Who does what (the function's docstring says it) in which problem sets. No score may depend on the others' files.
CLASS: list[tuple[str, str, Callable[[Desk], HandedIn] | None, tuple[int, ...]]] = [
    ("Amara", "Okafor", solves_it, (1, 2)),
    ("Mateo", "Rojas Díaz", solves_it_differently, (1,)),
    ("Yuki", "Tanaka", mixes_styles, (2,)),
    ("Maja", "Lindqvist", answers_in_words, (1,)),
    ("Zoe", "Papadaki", borrows, (2,)),
    ("Leila", "Haddad", makes_one_mistake, (2,)),
    ("Jonas", "Weber", makes_many_mistakes, (1, 2)),
    ("Priya", "Nair", does_half, (1,)),
    ("Tomás", "Silva", does_nothing, (2,)),
    ("Kwame", "Mensah, Jr.", copies_cells, (1,)),
    ("Sofia", "Rossi", loses_marks, (2,)),
    ("Chen", "Wei", deletes_cells, (1,)),
    ("Ingrid", "Solberg", turns_code_into_text, (2,)),
    ("Fatima", "Zahra", warns, (1,)),
    ("Lucas", "Martin", never_ends, (2,)),
    ("Hana", "Nováková", mistypes, (1,)),
    ("Noah", "Cohen", imports_nonsense, (2,)),
    ("Elif", "Kaya", saves_a_web_page, (1,)),
    ("Ravi", "Patel", ends_the_process, (2,)),
    ("Ana", "Popescu", takes_another_file, (1,)),
    ("Bao", "Nguyen", None, ()),
]


# --- the run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What one student got for one problem set, and what it had to be.

    Attributes
    ----------
    student, problem_set : str
    status, remark : str
        As in the exported table.
    score : float or None
        The points of all questions that have some, also where others have none yet. None: no question has any.
    expected_status, expected_score
        What they had to be.
    """

    student: str
    problem_set: str
    status: str
    score: float | None
    expected_status: str
    expected_score: float | None
    remark: str

    @property
    def as_expected(self) -> bool:
        if self.status != self.expected_status or (self.score is None) != (self.expected_score is None):
            return False
        return self.score is None or abs(self.score - self.expected_score) < 0.01


def run_demo(directory: Path, exercises: Path = Path("exercises"), console: Console | None = None) -> list[Result]:
    """Grade the made-up class.

    Parameters
    ----------
    directory : Path
        Becomes the demo's course directory. What an earlier demo left there is removed first.
    exercises : Path
        Holds the problem sets and ``nbgrader_config.py``.
    console : Console, optional
        Where progress is shown.

    Returns
    -------
    list of Result
        One per student and problem set, in the order of `CLASS`.

    Raises
    ------
    DemoError
        `directory` holds something else, or an nbgrader command failed.
    SourceError
        There are no problem sets.
    """
    console = console or Console(quiet=True)
    sources = find_sources(exercises)[:2]  # as many as CLASS speaks of
    _start_afresh(directory)
    shutil.copyfile(exercises / "nbgrader_config.py", directory / "nbgrader_config.py")
    names = [source.name for source in sources]
    expected: dict[tuple[str, str], HandedIn] = {}
    kept = dict(os.environ)
    for name in ("BNLAB_DB_URL", "BNLAB_SEED"):  # the instructor's own
        os.environ.pop(name, None)
    try:
        with _progress(console) as progress:
            shell = _Shell(directory, progress)
            _write_roster(directory / "roster.csv")
            shell.run("db", "student", "import", "roster.csv")
            for number, source in enumerate(sources, start=1):
                build(source, directory)
                shell.run("generate_assignment", source.name)
                handed_out = read_notebook(directory / "release" / source.name / f"{source.name}.ipynb")
                files = _hand_in(directory, number, Desk(source, handed_out))
                expected |= {(student, source.name): handed_in for student, handed_in in files.items()}
                shell.run("zip_collect", source.name)
            for name in names:
                preflight(directory, name)
                count = sum(problem_set == name for _, problem_set in expected)
                # nbgrader ends with 1 where a submission could not be graded. That is what some are for.
                shell.run("autograde", name, count=count, each="] Grading ", may_fail=True)
            for name in names:
                graded = len(list(directory.glob(f"autograded/*/{name}/{name}.ipynb")))
                shell.run("generate_feedback", name, count=graded, each="Converting notebook")
            shell.run("export")
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return _results(directory, sources, expected)


def main() -> int:
    """Run the demo in ``_build/grade-demo`` and show the scores. The exit status is 1 where one is not as expected."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140)
    directory = Path("_build/grade-demo")
    started = time.perf_counter()
    try:
        results = run_demo(directory, console=console)
    except (DemoError, CourseError, SourceError) as error:
        console.print(Text.assemble(("The demo stopped: ", "bold red"), str(error)), soft_wrap=True)
        return 1
    console.print(_table(results))
    wrong = [result for result in results if not result.as_expected]
    for result in wrong:
        console.print(
            f"[bold red]Wrong:[/bold red] {result.student}, {result.problem_set}: {result.status} "
            f"{_points(result.score)}, expected {result.expected_status} {_points(result.expected_score)}"
        )
    console.print(
        f"{len(results) - len(wrong)} of {len(results)} as expected, {time.perf_counter() - started:.0f} s.\n"
        f"gradebook   {directory}/gradebook.db\n"
        f"grades      {directory}/grades.csv, {directory}/grades_by_question.csv\n"
        f"feedback    {directory}/feedback/STUDENT/PROBLEM_SET/*.html",
        highlight=False,
        soft_wrap=True,
    )
    return 1 if wrong else 0


class _Shell:
    """Runs nbgrader's commands in the course directory and shows what runs, and how far it is."""

    def __init__(self, course: Path, progress: Progress):
        self.course = course
        self.progress = progress

    def run(self, *arguments: str, count: int = 1, each: str = "", may_fail: bool = False) -> None:
        """Run a command. The bar moves with every log line that contains `each`."""
        task = self.progress.add_task(f"nbgrader {' '.join(arguments)}", total=count)

        def advance(line: str) -> None:
            if each and each in line:
                self.progress.advance(task)

        status, log = run_nbgrader(self.course, *arguments, line=advance)
        with (self.course / "nbgrader.log").open("a", encoding="utf-8") as file:
            file.write(f"$ nbgrader {' '.join(arguments)}\n{log}\n")
        self.progress.update(task, completed=count)
        if status and not may_fail:
            raise DemoError(f"nbgrader {' '.join(arguments)} ended with {status}:\n{log}")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def _start_afresh(directory: Path) -> None:
    if directory.is_dir() and any(directory.iterdir()):
        if not (directory / MADE_HERE).is_file():
            raise DemoError(f"{directory} is not empty and not an earlier demo: name another directory, or empty it")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MADE_HERE).touch()


def _write_roster(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "first_name", "last_name", "email"])
        for first, last, *_ in CLASS:
            writer.writerow([_id(first), first, last, f"{_id(first)}@example.org"])


def _hand_in(course: Path, number: int, desk: Desk) -> dict[str, HandedIn]:
    """Pack what the class hands in for one problem set into a zip, as a learning platform does."""
    name = desk.source.name
    archive = course / "downloaded" / name / "archive"
    archive.mkdir(parents=True)
    files = {_id(first): does(desk) for first, _, does, sets in CLASS if does and number in sets}
    with zipfile.ZipFile(archive / "submissions.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for student, handed_in in files.items():
            text = handed_in.content if isinstance(handed_in.content, str) else nbformat.writes(handed_in.content)
            packed.writestr(f"{student}_2026100{number}T183000_{name}.ipynb", text)
            if student == "priya":  # hands in twice: the later file counts
                packed.writestr(f"priya_2026100{number}T181500_{name}.ipynb", nbformat.writes(desk.handed_out))
    return files


def _results(course: Path, sources: list[Source], expected: dict[tuple[str, str], HandedIn]) -> list[Result]:
    rows = {(row["student_id"], row["assignment"]): row for row in _read(course / "grades.csv")}
    scores: dict[tuple[str, str], float] = {}
    for row in _read(course / "grades_by_question.csv"):
        if row["score"]:
            key = row["student_id"], row["assignment"]
            scores[key] = scores.get(key, 0.0) + float(row["score"])
    results = []
    for first, *_ in CLASS:
        for source in sources:
            key = _id(first), source.name
            handed_in = expected.get(key, HandedIn("", None, MISSING))
            points = None if handed_in.lost is None else round(source.problem_set.checked_points - handed_in.lost, 2)
            status, remark = rows[key]["status"], rows[key]["remark"]
            results.append(Result(*key, status, scores.get(key), handed_in.status, points, remark))
    return results


def _read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _table(results: list[Result]) -> Table:
    table = Table(title="A made-up class, graded by nbgrader", title_justify="left")
    table.add_column("student", no_wrap=True)
    table.add_column("handed in", max_width=32)
    for name, justify in (("problem set", "left"), ("status", "left"), ("points", "right"), ("expected", "right")):
        table.add_column(name, justify=justify, no_wrap=True)
    table.add_column("remark")
    deeds = {_id(first): (f"{first} {last}", does) for first, last, does, _ in CLASS}
    for student, (name, does) in deeds.items():
        shown = [result for result in results if result.student == student]
        shown = [result for result in shown if result.expected_status != MISSING or result.status != MISSING] or shown[
            :1
        ]
        for result in shown:
            table.add_row(
                name if result is shown[0] else "",
                (does.__doc__ if does else "nothing at all") if result is shown[0] else "",
                result.problem_set,
                Text(result.status, style="" if result.status == "graded" else "yellow"),
                Text(_points(result.score), style="green" if result.as_expected else "bold red"),
                _points(result.expected_score),
                Text(result.remark),
            )
    return table


def _points(score: float | None) -> str:
    return "–" if score is None else f"{score:g}"


def _id(first_name: str) -> str:
    return first_name.lower().replace("á", "a")


def _cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


if __name__ == "__main__":
    sys.exit(main())
