"""Class lists: ours, Canvas's and Moodle's, and every way in which a spreadsheet can spoil them."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook

from bnlab.grading.marks import Person
from bnlab.grading.roster import RosterError, import_roster, read_roster
from bnlab.grading.tables import TableError, read_table

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Homework 1 (4711),Final Score
,,,,,Manual Posting,
    Points Possible,,,,,100.0,(read only)
"Nwosu, Amara",501,u-17,amara,Lecture,90,90
Bo Li,502,,bo@example.org,Lecture,,
"Student, Test",599,,8a7f,Lecture,,
"""
MOODLE = """\
First name,Last name,Username,ID number,Email address
Amara,Nwosu,amara,17,amara@example.org
Bo,Li,bo,,bo@example.org
"""
WORKSHEET = """\
Identifier,Full name,Email address,Status,Grade,Maximum Grade
Participant 12,Amara Chi Nwosu,amara@example.org,Submitted,,100.00
"""


def read(tmp_path, text, **options):
    path = tmp_path / "class.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_roster(path, **options)


def test_own_columns(tmp_path):
    text = "id,first_name,last_name,email,lms_user_id,remark\n amara , Amara,Nwosu,a@example.org,17,x\nbo,,,,,\n"
    assert read(tmp_path, text) == [Person("amara", "Amara", "Nwosu", "a@example.org", "17"), Person("bo")]


def test_canvas_export(tmp_path):
    people = read(tmp_path, CANVAS)
    assert people == [Person("amara", "Amara", "Nwosu", "", "501"), Person("bo@example.org", "Bo", "Li", "", "502")]
    assert read(tmp_path, CANVAS.replace("Bo Li,502,,", "Bo Li,502,u-18,"), id_column="SIS User ID")[1].id == "u-18"


def test_moodle_exports(tmp_path):
    assert read(tmp_path, MOODLE) == [
        Person("amara", "Amara", "Nwosu", "amara@example.org", "17"),
        Person("bo", "Bo", "Li", "bo@example.org"),
    ]
    email = "amara@example.org"
    assert read(tmp_path, WORKSHEET) == [Person(email, "Amara Chi", "Nwosu", email)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(tmp_path, encoding, delimiter, newline):
    rows = [["id", "first_name", "last_name"], ["a1", "Čeněk", 'von "und", zu; Ö'], ["", "", ""]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline).writerows(rows)
    assert read(tmp_path, out.getvalue().encode(encoding)) == [Person("a1", "Čeněk", 'von "und", zu; Ö')]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (",Amara,Nwosu,", "line 3: no id"),
        ("a1,Amara,Nwosu,", "line 3: the id 'a1' is that of line 2, too"),
        ("A1,Amara,Nwosu,", "line 3: the id 'a1' is that of line 2, too"),
        ("a2,Amara,Nwosu,A1@example.org", "line 3: the email 'a1@example.org' is that of line 2, too"),
        ("../a2,Amara,Nwosu,", "line 3: the id '../a2' begins with '.'"),
        ("a/2,Amara,Nwosu,", "line 3: the id 'a/2' has a slash"),
        ("a*,Amara,Nwosu,", "line 3: the id 'a*' can't name a folder"),
        ("=1+1,Amara,Nwosu,", "line 3: the id '=1+1' begins with '='"),
        ("-a,Amara,Nwosu,", "line 3: the id '-a' begins with '-'"),
        ("a2,Amara,Nwosu,nowhere", "line 3: 'nowhere' is no email address"),
        ("a2,Amara", "line 3: 2 cells, expected 4 as in the first line"),
        ("a2,Amara,Nwosu,,,", "line 3: 6 cells, expected 4 as in the first line"),
        (f"{'a' * 129},Amara,Nwosu,", "line 3: id has 129 characters, allowed 128"),
        ('a2,"Ama\nra",Nwosu,', "line 3: first_name has a line break"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, complaint):
    with pytest.raises(RosterError, match=r"class\.csv was not taken over") as error:
        read(tmp_path, f"id,first_name,last_name,email\na1,Ann,Lee,a1@example.org\n{line}\na9,Zoe,Fox,\n")
    assert complaint in str(error.value)


def test_all_wrong_lines_are_named_but_no_book_is_written(tmp_path):
    with pytest.raises(RosterError) as error:
        read(tmp_path, "id,email\n" + "\n".join(f"s{i},nowhere{i}" for i in range(100)))
    lines = str(error.value).splitlines()
    assert lines[1].startswith("line 2:") and lines[-1] == "and 80 more" and len(lines) == 22


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (b"id,email\n", "has no students"),
        (b"name,mail\nAmara,a@example.org\n", "line 1: no column with the students' ids among name, mail.*--id COLUMN"),
        (b"id,email,email\na,,\n", "two columns are named 'email'"),
        (b"id\nAm\xe9lie\n", "line 2: not text in UTF-8"),
        (b"PK\x03\x04", "is a workbook or a zip archive"),
        (b"id\na\0b\n", "line 2: a zero byte"),
        (b'id,name\na,"b\nc,d\n', "line 2: not CSV"),
    ],
)
def test_no_class_list(tmp_path, data, complaint):
    with pytest.raises(TableError, match=complaint):
        read(tmp_path, data)


def test_unknown_id_column_and_absent_file(tmp_path):
    with pytest.raises(RosterError, match="no column 'Matrikel', only id"):
        read(tmp_path, "id\na\n", id_column="Matrikel")
    with pytest.raises(TableError, match="check the name"):
        read_roster(tmp_path / "absent.csv")


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.text(alphabet='id,;\t"\n\r aä=\ufeff\0', max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        people = read_roster(path)
    except TableError:
        return
    assert people and len({person.id.casefold() for person in people}) == len(people)


def test_lines_are_counted_through_quoted_line_breaks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,note\na,"one\ntwo"\nb,x\n')
    assert [line for line, _ in read_table(path).rows] == [2, 4]


# --- the gradebook ---------------------------------------------------------------------------------------------------


@pytest.fixture
def gradebook(tmp_path):
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as gradebook:
        yield gradebook


def test_import_adds_updates_and_keeps(gradebook):
    gradebook.add_student("old", first_name="Old", email="old@example.org")
    gradebook.add_student("gone")
    people = [Person("old", "Olde", "Hand"), Person("new", "New")]
    before = import_roster(gradebook, people, dry_run=True)
    assert {student.id for student in gradebook.students} == {"old", "gone"}
    change = import_roster(gradebook, people)
    assert change == before
    assert (change.added, change.updated, change.unchanged, change.absent) == (("new",), ("old",), (), ("gone",))
    old = gradebook.find_student("old")
    assert (old.first_name, old.last_name, old.email) == ("Olde", "Hand", "old@example.org")
    again = import_roster(gradebook, people)
    assert (again.added, again.updated, again.unchanged) == ((), (), ("old", "new"))


def test_nothing_is_half_imported(gradebook):
    people = [Person(f"s{i}") for i in range(5)] + [Person("s1")]  # the database refuses the second s1
    with pytest.raises(Exception, match=r"UNIQUE|conflicts|identity"):
        import_roster(gradebook, people)
    assert gradebook.students == []
