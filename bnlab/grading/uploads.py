"""Scores in the forms in which Canvas and Moodle take them.

Either a file of its own, or, better, one that the platform exported and that is filled in here: then the platform's own
identifiers, columns and decimals are kept. A submission without a score never becomes a 0: its cell stays empty, or as
it was in the exported file, and the student is listed.

Canvas (Gradebook, Import): the columns Student, ID, SIS User ID, SIS Login ID, Section, one for the assignment, and
below the header a line with the points possible. Canvas finds a student by ID, then by the SIS columns, then by name,
and the assignment by the number in parentheses after its name, then by the name. An empty cell takes back the score
that Canvas has.

Moodle takes two kinds. Its gradebook (Grades, Import, CSV file) maps columns by hand, and finds a student by email
address, username or ID number. An assignment's grading worksheet (with "Offline grading worksheet" switched on) knows
its students by its own Identifier, so it can only be filled in; there an empty grade changes nothing. Moodle shows
comments as HTML, so theirs are escaped.
"""

import csv
import html
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bnlab.grading.course import CourseError
from bnlab.grading.export import formula_safe, write_csv
from bnlab.grading.marks import ClassMarks, StudentMarks
from bnlab.grading.pages import number, plain
from bnlab.grading.platforms import Platform
from bnlab.grading.tables import read_table

CANVAS_COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE_COLUMNS = ("First name", "Last name", "Username", "ID number", "Email address")
IDENTIFIERS = ("ID", "SIS User ID", "SIS Login ID", "Identifier", "Email address", "Username", "ID number")
_HARMLESS = re.compile(r"-|[-+]?[\d.,]+")  # in the platform's own cells: a dash for nothing, and numbers
POINTS_POSSIBLE = "    Points Possible"  # Canvas writes it with these spaces
COMMENT_LIMIT = 5000  # characters


@dataclass(frozen=True)
class Upload:
    """What was written for a platform.

    Attributes
    ----------
    filled : tuple of str
        Ids of the students whose score is in the file.
    without_score : tuple of StudentMarks
        Those who have none: their cell is empty, or as it was.
    not_in_file : tuple of str
        Ids of students with a score whom the platform's file doesn't have.
    not_in_course : tuple of str
        Whom the platform's file has and the course doesn't, as the file names them.
    locked : tuple of str
        Ids of students whose grade Moodle doesn't let anybody change; their rows are as they were.
    found_by : dict of str to int
        How many students of the platform's file were found by which of its columns.
    """

    filled: tuple[str, ...]
    without_score: tuple[StudentMarks, ...]
    not_in_file: tuple[str, ...] = ()
    not_in_course: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    found_by: dict[str, int] = field(default_factory=dict)


def write_upload(
    marks: ClassMarks, platform: Platform, path: Path, template: Path | None = None, column: str | None = None
) -> Upload:
    """Write the scores of a class as a platform takes them.

    Parameters
    ----------
    marks : ClassMarks
    platform : Platform
    path : Path
        The file to write.
    template : Path, optional
        What the platform exported. Needed for Moodle's worksheet.
    column : str, optional
        The assignment's column. Default: in Canvas's file the one named like the problem set; without a file the
        problem set's name.

    Returns
    -------
    Upload

    Raises
    ------
    CourseError, TableError
        The template or the column can't be used.
    """
    if template is not None:
        return _fill_in(marks, platform, path, template, column)
    if platform is Platform.MOODLE_WORKSHEET:
        raise CourseError(
            "a grading worksheet knows students by Moodle's own numbers: download it from the assignment and name it "
            "with --template, or use --format moodle"
        )
    title, students = column or marks.problem_set, marks.students
    if platform is Platform.CANVAS:
        rows = [dict.fromkeys((*CANVAS_COLUMNS, title), "") | {"Student": POINTS_POSSIBLE, title: number(marks.points)}]
        rows += [_canvas_row(student) | {title: _score(student)} for student in students]
        write_csv(path, [*CANVAS_COLUMNS, title], rows)
    else:
        rows = [
            _moodle_row(student) | {title: _score(student), "Feedback": _comment(student)} for student in marks.students
        ]
        columns = [*MOODLE_COLUMNS, title, "Feedback"]
        write_csv(path, columns, rows)
    filled = tuple(student.person.id for student in students if student.score is not None)
    return Upload(filled, tuple(student for student in students if student.score is None))


def _score(student: StudentMarks) -> str:
    return "" if student.score is None else number(student.score)


def _canvas_row(student: StudentMarks) -> dict[str, str]:
    person = student.person
    return {
        "Student": person.sortable_name,
        "ID": person.lms_user_id if person.lms_user_id.isdigit() else "",
        "SIS User ID": "",
        "SIS Login ID": person.id,
        "Section": "",
    }


def _moodle_row(student: StudentMarks) -> dict[str, str]:
    person = student.person
    return {
        "First name": person.first_name,
        "Last name": person.last_name,
        "Username": person.id,
        "ID number": person.lms_user_id,
        "Email address": person.email,
    }


def _comment(student: StudentMarks) -> str:
    """Points by question and what the grader wrote, as text that is safe where it is shown as HTML."""
    if student.score is None:
        return ""
    said = [f"{mark.question}: {number(mark.score)} of {number(mark.points)}" for mark in student.marks]
    if student.penalty:
        said.append(f"handed in late: -{number(student.penalty)}")
    lines = ["; ".join(said)]
    lines += [f"{mark.question}: {mark.comment}" for mark in student.marks if mark.comment]
    return html.escape(plain("\n".join(lines), COMMENT_LIMIT), quote=False)


# --- filling in what a platform exported -----------------------------------------------------------------------------


def _fill_in(marks: ClassMarks, platform: Platform, path: Path, template: Path, column: str | None) -> Upload:
    table = read_table(template)
    header = table.header
    places = {name.strip(): place for place, name in reversed(list(enumerate(header)))}
    wanted = {"canvas": ("ID", "Section"), "moodle-worksheet": ("Identifier", "Grade"), "moodle": ("Email address",)}
    absent = [name for name in wanted[platform] if name not in places]
    if absent:
        raise CourseError(
            f"{template} has no column {', '.join(absent)}, only {', '.join(header)[:300]}: export it from "
            f"{platform.value.partition('-')[0].capitalize()} again, in English"
        )
    place = places["Grade"] if platform is Platform.MOODLE_WORKSHEET else _column(header, marks, column, template)
    feedback = places.get("Feedback comments") if platform is Platform.MOODLE_WORKSHEET else None
    if platform is Platform.CANVAS:  # other assignments are left out: what is not in the file can't be changed
        kept = [*range(places["Section"] + 1), place]
    else:
        kept = list(range(len(header)))
    find = _finder(marks, platform, places)
    can_change = places.get("Grade can be changed") if platform is Platform.MOODLE_WORKSHEET else None
    filled, not_in_course, locked, met, found_by = [], [], [], set(), Counter()
    for line, row in table.rows:
        if len(row) != len(header):
            raise CourseError(f"{template}, line {line}: {len(row)} cells, expected {len(header)} as in the first line")
        if _is_no_student(platform, row, places):
            continue
        student, by = find(row)
        if student is None:
            not_in_course.append(next((cell for cell in row if cell.strip()), ""))
            continue
        met.add(student.person.id)
        found_by[by] += 1
        if can_change is not None and row[can_change].strip().casefold() == "no":
            locked.append(student.person.id)
        elif student.score is not None:
            filled.append(student.person.id)
            row[place] = _score(student)
            if feedback is not None:
                row[feedback] = _comment(student)
    _write_rows(path, [[row[i] for i in kept] for row in [header, *(row for _, row in table.rows)]], table.delimiter)
    return Upload(
        tuple(filled),
        tuple(student for student in marks.students if student.score is None),
        tuple(s.person.id for s in marks.students if s.score is not None and s.person.id not in met),
        tuple(not_in_course),
        tuple(locked),
        dict(found_by),
    )


def _column(header: list[str], marks: ClassMarks, column: str | None, template: Path) -> int:
    """The place of the assignment's column: named so, with or without Canvas's number or Moodle's kind of grade."""
    name = column or marks.problem_set
    if name in header:
        return header.index(name)

    def bare(title: str) -> str:
        title = re.sub(r"\s*\((\d+|Real|Percentage)\)$", "", title.strip())
        return re.sub(r"^Assignment:\s*", "", title).casefold()

    found = [place for place, title in enumerate(header) if bare(title) == bare(name)]
    if len(found) != 1:
        what = "no column" if not found else "several columns"
        raise CourseError(f"{template} has {what} {name!r}: say which with --column, one of {'; '.join(header)[:1000]}")
    return found[0]


def _finder(
    marks: ClassMarks, platform: Platform, places: dict[str, int]
) -> Callable[[list[str]], tuple[StudentMarks | None, str]]:
    """A function that finds the student of a row by the surest of its identifiers, and says by which."""
    by_lms = {s.person.lms_user_id.casefold(): s for s in marks.students if s.person.lms_user_id}
    by_id = {s.person.id.casefold(): s for s in marks.students}
    by_email = {s.person.email.casefold(): s for s in marks.students if s.person.email}
    if platform is Platform.CANVAS:
        keys = (("ID", by_lms), ("SIS Login ID", by_id), ("SIS User ID", by_id), ("SIS Login ID", by_email))
    else:
        keys = (("Email address", by_email), ("Username", by_id), ("ID number", by_lms), ("ID number", by_id))
        keys += (("Email address", by_id),)

    def find(row: list[str]) -> tuple[StudentMarks | None, str]:
        for column, known in keys:
            value = row[places[column]].strip().casefold() if column in places else ""
            if value and value in known:
                return known[value], column
        return None, ""

    return find


def _is_no_student(platform: Platform, row: list[str], places: dict[str, int]) -> bool:
    """Whether it is one of Canvas's lines about no one: points possible, posting policy, the test student."""
    if platform is not Platform.CANVAS:
        return False
    if "Points Possible" in row[0] or row[0].strip() == "Student, Test":
        return True
    return not any(row[place].strip() for name, place in places.items() if "ID" in name)


def _write_rows(path: Path, rows: list[list[str]], delimiter: str) -> None:
    """Write what a platform exported back in its form. By the identifiers it finds students: they stay as they are."""
    identifiers = {place for place, name in enumerate(rows[0]) if name.strip() in IDENTIFIERS}
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            [
                cell if place in identifiers or _HARMLESS.fullmatch(cell) else formula_safe(cell)
                for place, cell in enumerate(row)
            ]
            for row in rows
        )
