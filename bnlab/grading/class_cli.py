"""The commands ``bnlab class ...``: what an instructor does with a class before and after grading.

Exit codes: 0 all is well, 1 it is done and something needs an eye, 2 the call or a file was not what it should be.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnlab.grading.platforms import Platform

if TYPE_CHECKING:  # students have this command line, too, without nbgrader
    from nbgrader.api import Gradebook

class_app = typer.Typer(
    help="For instructors: the class list, due dates, feedback, reports, and scores for Canvas and Moodle.",
    no_args_is_help=True,
)
console = Console()
complaints = Console(stderr=True)

ProblemSet = Annotated[str, typer.Argument(metavar="PROBLEM_SET", help="Such as ps1_scaling.")]
Course = Annotated[Path, typer.Option(help="The nbgrader course directory.")]
Students = Annotated[list[str] | None, typer.Option("--student", help="Only this student. Can be given again.")]
COURSE = Path("exercises")
OUTPUT = "class"  # the folder in a course for files about the class


@class_app.command()
def roster(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="The class list, with names of columns on top.")],
    course: Course = COURSE,
    id_column: Annotated[
        str | None, typer.Option("--id", help="The column with the ids that name the folders in submitted/.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Take a class list into the gradebook.

    Columns: id, first_name, last_name, email, lms_user_id (only id is needed); or a file as Canvas or Moodle export it.
    Commas, semicolons or tabs. If a line is wrong, it is named, and nothing is taken over. Who is in the gradebook and
    not in the file stays there.
    """
    with _complain():
        from bnlab.grading.course import load_course
        from bnlab.grading.marks import open_gradebook
        from bnlab.grading.roster import import_roster, read_roster

        people = read_roster(file, id_column)
        with open_gradebook(load_course(course)) as gradebook:
            change = import_roster(gradebook, people, dry_run)
    would = "would be " if dry_run else ""
    _say(
        f"{_count(len(change.added), 'student')} {would}added, {len(change.updated)} {would}updated, "
        f"{len(change.unchanged)} unchanged"
    )
    if change.absent:
        _say(", ".join(change.absent), warning=f"in the gradebook but not in {file.name}: ")


@class_app.command()
def due(
    problem_set: ProblemSet,
    time: Annotated[str, typer.Argument(metavar="TIME", help="With its zone: 2026-10-05T18:00+02:00")],
    course: Course = COURSE,
    student: Annotated[str | None, typer.Option(help="For this student alone: an extension.")] = None,
) -> None:
    """Set when a problem set is due, for all or for one student.

    Late penalties follow c.LatePolicy in nbgrader_config.py. For what is graded already: bnlab class late PROBLEM_SET.
    """
    with _complain():
        from bnlab.grading.course import CourseError
        from bnlab.grading.late import set_due

        try:
            when = datetime.fromisoformat(time)
        except ValueError:
            raise CourseError(f"{time!r} is no time, expected one like 2026-10-05T18:00+02:00") from None
        with _gradebook(course, problem_set) as gradebook:
            set_due(gradebook, problem_set, when, student)
    _say(f"{problem_set} is due at {when.isoformat()}{f' for {student}' if student else ''}")


@class_app.command()
def late(problem_set: ProblemSet, course: Course = COURSE) -> None:
    """Set the late penalties again, by the present scores, due date and policy.

    Penalties are set while grading. Points that a person gave afterwards, or a later change of the due date, are not in
    them until this is run.
    """
    with _complain():
        from bnlab.grading.course import load_course
        from bnlab.grading.late import assign_penalty, policy_of

        policy = policy_of(load_course(course))
        with _gradebook(course, problem_set) as gradebook:
            table = _table("Late submissions", "student", "hours late", "penalty", right=("hours late", "penalty"))
            for submission in gradebook.assignment_submissions(problem_set):
                penalty = assign_penalty(submission, policy)
                if submission.assignment.duedate and submission.total_seconds_late > 0:
                    hours = submission.total_seconds_late / 3600
                    table.add_row(Text(submission.student_id), f"{hours:.1f}", f"{penalty:g}")
            gradebook.db.commit()
    console.print(table if table.rows else "nobody is late")


@class_app.command()
def feedback(
    problem_set: ProblemSet,
    course: Course = COURSE,
    students: Students = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Pseudonyms on the pages, in feedback_anonymous/.")
    ] = False,
) -> None:
    """Make the pages that students get back: feedback/STUDENT/PROBLEM_SET/PROBLEM_SET.html.

    Each is one file with the student's work, the points, the checks' reports and the grader's comments. nbgrader
    release_feedback hands them out. With --anonymous they go elsewhere, for a second reader who is not to know whose
    work it is; names that students wrote into their notebooks stay.
    """
    with _complain():
        from rich.progress import track

        from bnlab.grading.anonymous import Pseudonyms
        from bnlab.grading.course import load_course
        from bnlab.grading.feedback import write_feedback
        from bnlab.grading.marks import NOTHING_HANDED_IN, read_marks

        coursedir = load_course(course)
        marks = read_marks(coursedir, problem_set, students)
        pages = write_feedback(coursedir, marks, Pseudonyms(course) if anonymous else None)
        made, without, absent = 0, [], 0
        for student, path in track(
            pages, "making feedback", len(marks.students), console=complaints, transient=True, disable=None
        ):
            made += path is not None
            if path is None and student.status == NOTHING_HANDED_IN:
                absent += 1
            elif path is None:
                without.append(student)
    folder = course / ("feedback_anonymous" if anonymous else "feedback")
    _say(f"{_count(made, 'page')}: {folder}/STUDENT/{problem_set}/{problem_set}.html")
    if absent:
        _say(f"{_count(absent, 'student')} handed in nothing")
    _list_without("No page", without)
    raise typer.Exit(1 if without else 0)


@class_app.command()
def report(
    problem_set: ProblemSet,
    course: Course = COURSE,
    to: Annotated[Path | None, typer.Option(help="Default: COURSE/class/report_PROBLEM_SET.html.")] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Pseudonyms instead of names.")] = False,
) -> None:
    """Make a page about a problem set: scores, hardest checks, commonest mistakes, what needs your eye, similar code.

    Exits with 1 where a submission has no score that should have one.
    """
    with _complain():
        from bnlab.grading.anonymous import Pseudonyms
        from bnlab.grading.course import load_course
        from bnlab.grading.marks import COULD_NOT_GRADE, NOT_GRADED_YET, read_marks
        from bnlab.grading.report import figures, likeness, report_page

        coursedir = load_course(course)
        marks = read_marks(coursedir, problem_set)
        pseudonyms = Pseudonyms(course) if anonymous else None

        def name_of(student):
            person = student.person
            if pseudonyms:
                return pseudonyms(person.id)
            return person.id if person.name == person.id else f"{person.sortable_name} ({person.id})"

        with complaints.status("reading the class"):
            page = report_page(figures(marks), likeness(coursedir, marks), name_of, anonymous=anonymous)
        path = _place(course, to, f"report_{problem_set}{'_anonymous' if anonymous else ''}.html")
        path.write_text(page, encoding="utf-8")
    _say(f"wrote {path}")
    raise typer.Exit(1 if any(s.status in (COULD_NOT_GRADE, NOT_GRADED_YET) for s in marks.students) else 0)


@class_app.command()
def upload(
    problem_set: ProblemSet,
    platform: Annotated[Platform, typer.Option("--format", help="What takes the file.")],
    course: Course = COURSE,
    template: Annotated[
        Path | None, typer.Option(help="What the platform exported, to be filled in. Needed for moodle-worksheet.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The assignment's column there, such as 'Problem set 1 (4711)'.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The file to write. Default: COURSE/class/PROBLEM_SET_FORMAT.csv.")
    ] = None,
) -> None:
    """Write scores for Canvas or Moodle.

    Filling in what the platform exported (--template) is the surest way: it knows its students by its own numbers. What
    has no score is never a 0: its cell stays empty, or as it was, and the student is listed (exit code 1).
    """
    with _complain():
        from bnlab.grading.course import CourseError, load_course
        from bnlab.grading.marks import NOTHING_HANDED_IN, read_marks
        from bnlab.grading.uploads import write_upload

        marks = read_marks(load_course(course), problem_set)
        path = _place(course, to, f"{problem_set}_{platform.value}.csv")
        if template and path.exists() and template.exists() and path.samefile(template):
            raise CourseError(f"{path} is the template itself: name another file with --to")
        done = write_upload(marks, platform, path, template, column)
    _say(f"wrote {_count(len(done.filled), 'score')} to {path}")
    if done.found_by:
        _say(f"students found by {', '.join(f'{name} ({count})' for name, count in done.found_by.items())}")
    _list_without("No score, left as it was" if template else "No score, left empty", done.without_score)
    for what, names in (
        (f"not in {template.name if template else ''}", done.not_in_file),
        ("there, but not in the course", done.not_in_course),
        ("left as they were, because Moodle says that the grade can't be changed", done.locked),
    ):
        if names:
            _say(", ".join(names), warning=f"{what}: ")
    eye = [student for student in done.without_score if student.status != NOTHING_HANDED_IN]
    raise typer.Exit(1 if eye or done.not_in_file or done.not_in_course or done.locked else 0)


@class_app.command()
def export(
    problem_sets: Annotated[
        list[str] | None, typer.Argument(metavar="[PROBLEM_SET]...", help="Such as ps1_scaling. Default: all.")
    ] = None,
    course: Course = COURSE,
    to: Annotated[
        Path | None,
        typer.Option(
            help="The file; a second one beside it is named ..._by_question. Default: grades.csv in the course."
        ),
    ] = None,
) -> None:
    """Write all scores as CSV: a line for each student and problem set, and in a second file one for each question.

    It is what nbgrader export does in this course. A score that is not there is an empty cell, and the status says why.
    """
    with _complain():
        from bnlab.grading.course import CourseError, load_course, run_nbgrader

        load_course(course)
        to = to or course / "grades.csv"
        arguments = ["export", "--to", os.path.abspath(to)]
        for name in problem_sets or ():
            arguments += ["--assignment", name]
        status, log = run_nbgrader(course, *arguments)
        if status != 0:
            raise CourseError(log.strip())
    _say(f"wrote {to} and {to.with_name(f'{to.stem}_by_question{to.suffix}')}")


@class_app.command()
def pseudonyms(course: Course = COURSE) -> None:
    """Show who is behind the pseudonyms of --anonymous, by the course's key (the file pseudonym_key)."""
    with _complain():
        from bnlab.grading.anonymous import Pseudonyms
        from bnlab.grading.course import load_course, students_in
        from bnlab.grading.marks import open_gradebook

        coursedir = load_course(course)
        hide = Pseudonyms(course)
        with open_gradebook(coursedir) as gradebook:
            students = sorted({student.id for student in gradebook.students} | set(students_in(coursedir)))
    table = _table("Pseudonyms", "pseudonym", "student")
    for pseudonym, student in sorted((hide(student), student) for student in students):
        table.add_row(pseudonym, Text(student))
    console.print(table)


@contextmanager
def _gradebook(course: Path, problem_set: str) -> Iterator["Gradebook"]:
    from bnlab.grading.course import CourseError, assignments_in, load_course
    from bnlab.grading.marks import open_gradebook

    coursedir = load_course(course)
    known = assignments_in(coursedir.db_url)
    if problem_set not in known:
        raise CourseError(
            f"the gradebook does not know {problem_set}, only {', '.join(known) or 'nothing'}: "
            f"record it: nbgrader generate_assignment {problem_set}"
        )
    with open_gradebook(coursedir) as gradebook:
        yield gradebook


@contextmanager
def _complain() -> Iterator[None]:
    """Show an error about the course or a file of the user's and exit with 2; let errors of ours surface."""
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from bnlab.grading.course import CourseError
        from bnlab.grading.tables import TableError
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed, and grading needs it: pip install 'bnlab[grading]'"
    else:
        try:
            yield
            return
        except (CourseError, TableError) as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}"
        except SQLAlchemyError as error:
            message = f"the gradebook: {str(error.__cause__ or error).strip().partition(chr(10))[0]}"
    complaints.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
    raise typer.Exit(2)


def _say(text: str, warning: str = "") -> None:
    """Print a line as it is: ids and paths may have brackets, which rich would take for markup."""
    console.print(Text.assemble((warning, "yellow"), text), highlight=False, soft_wrap=True)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _place(course: Path, to: Path | None, name: str) -> Path:
    """Where a file goes: as said, or into the course's folder for what is about the class."""
    if to is None:
        to = course / OUTPUT / name
        to.parent.mkdir(exist_ok=True)
    return to


def _table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def _list_without(title: str, students: list) -> None:
    """A table of those who have no score, and why."""
    if not students:
        return
    table = _table(title, "student", "status", "why")
    for student in students:
        table.add_row(Text(student.person.id), student.status, Text(student.remark))
    console.print(table)
