"""Take a class list into the gradebook: a CSV file of our own columns, or what Canvas or Moodle export.

The whole file is read and examined first; where anything in it is wrong, every wrong line is named and nothing changes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from nbgrader.api import Gradebook, Student

from bnlab.grading.course import name_problem
from bnlab.grading.marks import Person
from bnlab.grading.tables import TableError, read_table

LENGTH = 128  # characters that the gradebook has room for
SHOWN = 20  # wrong lines that are listed
FORMULA_STARTS = ("=", "+", "-", "@")

# Which columns hold what, as ours, Canvas and Moodle name them (in lower case). Of several for an id, the first counts.
OWN_COLUMNS = {
    "id": ("id", "student_id", "student id"),
    "first_name": ("first_name", "first name", "firstname", "given name"),
    "last_name": ("last_name", "last name", "lastname", "surname", "family name"),
    "email": ("email", "e-mail", "email address", "e-mail address"),
    "lms_user_id": ("lms_user_id", "lms user id"),
}
CANVAS_COLUMNS = {
    "id": ("sis login id", "sis user id"),
    "full_name": ("student",),
    "first_name": ("firstname",),
    "last_name": ("lastname",),
    "email": ("email", "email address"),
    "lms_user_id": ("id",),
}
MOODLE_COLUMNS = {
    "id": ("username", "id number", "email address"),
    "first_name": ("first name", "firstname"),
    "last_name": ("last name", "lastname", "surname"),
    "full_name": ("full name",),
    "email": ("email address", "email"),
    "lms_user_id": ("id number",),
}


class RosterError(TableError):
    """A class list can't be taken over: which lines are wrong, and how."""


@dataclass(frozen=True)
class Change:
    """What taking over a class list does, or would do.

    Attributes
    ----------
    added, updated, unchanged : tuple of str
        Ids of the students in the file.
    absent : tuple of str
        Ids of students whom the gradebook knows and the file doesn't. They stay.
    """

    added: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    absent: tuple[str, ...]


def read_roster(path: Path, id_column: str | None = None) -> list[Person]:
    """Read a class list.

    Parameters
    ----------
    path : Path
        CSV in UTF-8 (or UTF-16, as spreadsheets write it), with commas, semicolons or tabs, and names of columns in the
        first line: ``id``, ``first_name``, ``last_name``, ``email``, ``lms_user_id``, of which only ``id`` is needed;
        or Canvas's gradebook export; or Moodle's list of participants, grades or grading worksheet.
    id_column : str, optional
        The column with the ids by which submissions are filed, if it is another one.

    Returns
    -------
    list of Person

    Raises
    ------
    TableError
        It is no CSV file.
    RosterError
        With one line for every line of the file that is wrong.
    """
    table = read_table(path)
    columns = _columns(table.header, id_column, path.name)
    people, problems = [], []
    seen: dict[tuple[str, str], int] = {}
    for line, row in table.rows:
        if _is_no_student(row, columns):
            continue
        if len(row) != len(table.header):
            problems.append(f"line {line}: {len(row)} cells, expected {len(table.header)} as in the first line")
            continue
        person = _person(row, columns)
        problems += [f"line {line}: {problem}" for problem in _problems(person)]
        # Names of folders, and on some systems Amara and amara are the same folder.
        for kind, value in (("id", person.id.casefold()), ("email", person.email.casefold())):
            if value and (kind, value) in seen:
                problems.append(f"line {line}: the {kind} {value!r} is that of line {seen[kind, value]}, too")
            seen.setdefault((kind, value), line)
        people.append(person)
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise RosterError("\n".join([f"{path.name} was not taken over:", *problems[:SHOWN], *more]))
    if not people:
        raise RosterError(f"{path.name} has no students, expected a line for each below the names of the columns")
    return people


def import_roster(gradebook: Gradebook, people: list[Person], dry_run: bool = False) -> Change:
    """Write a class list into the gradebook, all of it or nothing.

    Parameters
    ----------
    gradebook : Gradebook
    people : list of Person
        A field that is "" leaves what the gradebook has.
    dry_run : bool
        Only say what would change.

    Returns
    -------
    Change
    """
    known = {student.id: student for student in gradebook.db.query(Student)}
    added, updated, unchanged = [], [], []
    names = [field.name for field in fields(Person) if field.name != "id"]
    try:
        for person in people:
            given = {name: getattr(person, name) for name in names if getattr(person, name)}
            student = known.get(person.id)
            if student is None:
                added.append(person.id)
                gradebook.db.add(Student(id=person.id, **given))
            elif any(getattr(student, name) != value for name, value in given.items()):
                updated.append(person.id)
                for name, value in given.items():
                    setattr(student, name, value)
            else:
                unchanged.append(person.id)
        if dry_run:
            gradebook.db.rollback()
        else:
            gradebook.db.commit()
    except Exception:
        gradebook.db.rollback()
        raise
    absent = sorted(set(known) - {person.id for person in people})
    return Change(tuple(added), tuple(updated), tuple(unchanged), tuple(absent))


def _columns(header: list[str], id_column: str | None, name: str) -> dict[str, tuple[int, ...]]:
    """Where each field stands; several places for the id."""
    found = [cell.strip().casefold() for cell in header]
    canvas = "section" in found and "id" in found and ("student" in found or "lastname" in found)
    moodle = not canvas and not set(OWN_COLUMNS["id"]) & set(found)
    kinds = CANVAS_COLUMNS if canvas else MOODLE_COLUMNS if moodle else OWN_COLUMNS
    for cell in found:
        if cell and found.count(cell) > 1 and any(cell in names for names in kinds.values()):
            raise RosterError(f"{name}, line 1: two columns are named {cell!r}: leave one out")
    columns = {
        field: tuple(found.index(column) for column in names if column in found) for field, names in kinds.items()
    }
    if id_column is not None:
        if id_column.strip().casefold() not in found:
            raise RosterError(f"{name}, line 1: no column {id_column!r}, only {', '.join(header) or 'none'}")
        columns["id"] = (found.index(id_column.strip().casefold()),)
    if not columns["id"]:
        raise RosterError(
            f"{name}, line 1: no column with the students' ids among {', '.join(header)[:200] or 'none'}: "
            f"name one of them id, or say --id COLUMN"
        )
    return columns


def _is_no_student(row: list[str], columns: dict[str, tuple[int, ...]]) -> bool:
    """Whether it is one of Canvas's lines that are about no one: points possible, posting policy, the test student."""
    places = columns.get("full_name") or columns.get("last_name") or ()
    shown = row[places[0]].strip() if places and places[0] < len(row) else ""
    if shown in ("Points Possible", "Student, Test", "Test Student"):
        return True
    return "lms_user_id" in columns and all(re.fullmatch(r"\s*|Manual Posting.*|Muted", cell.strip()) for cell in row)


def _person(row: list[str], columns: dict[str, tuple[int, ...]]) -> Person:
    def cell(field: str) -> str:
        return next((row[place].strip() for place in columns.get(field, ()) if row[place].strip()), "")

    first, last = cell("first_name"), cell("last_name")
    if not (first or last):
        full = cell("full_name")
        last, comma, first = (part.strip() for part in full.partition(","))
        if not comma:
            first, _, last = (part.strip() for part in full.rpartition(" "))
    return Person(cell("id"), first, last, cell("email"), cell("lms_user_id"))


def _problems(person: Person) -> Iterator[str]:
    """What is wrong with one student's line."""
    if not person.id:
        yield "no id"
        return
    if name_problem(person.id):
        yield f"the id {person.id!r} can't name a folder"
    if person.id.startswith((".", *FORMULA_STARTS)):
        yield f"the id {person.id!r} begins with {person.id[0]!r}, which folders and spreadsheets take for a sign"
    if "/" in person.id or "\\" in person.id:
        yield f"the id {person.id!r} has a slash, and ids name folders"
    if person.email and not re.fullmatch(r"[^\s@,;<>]+@[^\s@,;<>]+", person.email):
        yield f"{person.email!r} is no email address"
    for field in fields(Person):
        value = getattr(person, field.name)
        if len(value) > LENGTH:
            yield f"{field.name} has {len(value)} characters, allowed {LENGTH}"
        elif field.name != "id" and not value.isprintable():
            yield f"{field.name} has a line break or another character that can't be shown"
