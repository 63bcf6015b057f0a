"""Files for Canvas and Moodle: their columns, their identifiers, no formula, and never a 0 that nobody gave."""

import csv

import pytest
from conftest import NAME
from hypothesis import given
from hypothesis import strategies as st
from made_up_class import people, put, record, result, stuck

from bnlab.grading.course import CourseError, load_course
from bnlab.grading.marks import ClassMarks, Mark, Person, StudentMarks, read_marks
from bnlab.grading.platforms import Platform
from bnlab.grading.tables import TableError
from bnlab.grading.uploads import write_upload

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


def read(path, delimiter=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.fixture
def marks(course):
    people(
        course,
        amara=("Amara", 'Nwosu, "Jr."', "amara@example.org", "501"),
        bo=("=HYPERLINK(1)", "Li", "bo@example.org", "502"),
        chen=("Chen", "Wu", "chen@example.org", "503"),
        dora=("Dora", "Fox", "dora@example.org"),
    )
    put(course, record("amara", result("scale", "values")), comments={"scale-solution": "See <a> & =1+1"})
    put(course, record("bo"))
    put(course, record("chen", stuck("scale", "timeout", "longer than 10 s")))
    return read_marks(load_course(course), NAME)


def test_canvas(marks, tmp_path):
    done = write_upload(marks, Platform.CANVAS, tmp_path / "out.csv")
    assert read(tmp_path / "out.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", NAME],
        ["    Points Possible", "", "", "", "", "100"],
        ['Nwosu, "Jr.", Amara', "501", "", "amara", "", "70"],
        ["Li, =HYPERLINK(1)", "502", "", "bo", "", "100"],
        ["Wu, Chen", "503", "", "chen", "", ""],
        ["Fox, Dora", "", "", "dora", "", ""],
    ]
    assert done.filled == ("amara", "bo")
    assert [(s.person.id, s.status) for s in done.without_score] == [("chen", "could not grade"), ("dora", "missing")]


def test_moodle(marks, tmp_path):
    write_upload(marks, Platform.MOODLE, tmp_path / "out.csv", column="Problem set 1")
    header, amara, bo, chen, dora = read(tmp_path / "out.csv")
    columns = ["First name", "Last name", "Username", "ID number", "Email address", "Problem set 1", "Feedback"]
    assert header == columns
    assert amara[:-1] == ["Amara", 'Nwosu, "Jr."', "amara", "501", "amara@example.org", "70"]
    assert amara[-1] == "mean_of: 30 of 30; center: 30 of 30; scale: 10 of 40\nscale: See &lt;a&gt; &amp; =1+1"
    assert bo[0] == "'=HYPERLINK(1)" and chen[5:] == dora[5:] == ["", ""]


def test_canvas_export_is_filled_in(marks, tmp_path):
    template = tmp_path / "canvas.csv"
    template.write_text(
        "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Other (1),Ps1_tiny (4711),Final Score\n"
        ",,,,,,Manual Posting,\n"
        "    Points Possible,,,,,10,100,(read only)\n"
        '"Nwosu, Amara",501,,a.nwosu,Lecture,7,12,50\n'
        '"Li, Bo",999,,BO,Lecture,8,,\n'
        '"Wu, Chen",503,,chen,Lecture,9,44,\n'
        '"Stranger, A",77,,who,Lecture,,,\n'
        '"Student, Test",78,,8a7f,Lecture,,,\n',
        encoding="utf-8",
    )
    done = write_upload(marks, Platform.CANVAS, tmp_path / "out.csv", template)
    assert read(tmp_path / "out.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Ps1_tiny (4711)"],
        ["", "", "", "", "", "Manual Posting"],
        ["    Points Possible", "", "", "", "", "100"],
        ["Nwosu, Amara", "501", "", "a.nwosu", "Lecture", "70"],
        ["Li, Bo", "999", "", "BO", "Lecture", "100"],
        ["Wu, Chen", "503", "", "chen", "Lecture", "44"],  # as Canvas had it: there is no score of ours
        ["Stranger, A", "77", "", "who", "Lecture", ""],
        ["Student, Test", "78", "", "8a7f", "Lecture", ""],
    ]
    assert (done.filled, done.not_in_file, done.not_in_course) == (("amara", "bo"), (), ("Stranger, A",))
    other = write_upload(marks, Platform.CANVAS, tmp_path / "out.csv", template, column="Other (1)")
    assert other.filled == ("amara", "bo") and read(tmp_path / "out.csv")[3][-1] == "70"


def test_moodle_worksheet_is_filled_in(marks, tmp_path):
    template = tmp_path / "worksheet.csv"
    columns = "Identifier;Full name;Email address;Status;Grade;Maximum Grade;Last modified (grade);Feedback comments"
    template.write_text(
        f"{columns}\n"
        "Participant 11;Amara Nwosu;Amara@example.org;Submitted;;100,00;-;\n"
        "Participant 12;=1+1;bo@example.org;Submitted;3,00;100,00;-;old\n"
        "Participant 13;Chen Wu;chen@example.org;Submitted;55,00;100,00;-;keep\n"
    )
    done = write_upload(marks, Platform.MOODLE_WORKSHEET, tmp_path / "out.csv", template)
    header, amara, bo, chen = read(tmp_path / "out.csv", ";")
    assert header == columns.split(";")
    assert amara[0] == "Participant 11" and amara[4] == "70" and amara[-1].startswith("mean_of: 30 of 30")
    assert bo[1] == "'=1+1" and bo[4] == "100" and "old" not in bo[-1]
    assert chen[4:] == ["55,00", "100,00", "-", "keep"]
    assert done.not_in_file == () and [s.person.id for s in done.without_score] == ["chen", "dora"]


def test_a_grade_that_moodle_has_locked_stays_as_it_was(marks, tmp_path):
    template = tmp_path / "worksheet.csv"
    template.write_text(
        "Identifier,Full name,Email address,Grade,Grade can be changed,Feedback comments\n"
        "Participant 11,Amara Nwosu,amara@example.org,12.00,No,by hand\n"
        "Participant 12,Bo,bo@example.org,,Yes,\n"
    )
    done = write_upload(marks, Platform.MOODLE_WORKSHEET, tmp_path / "out.csv", template)
    _, amara, bo = read(tmp_path / "out.csv")
    assert amara[3:] == ["12.00", "No", "by hand"] and bo[3] == "100"
    assert (done.locked, done.filled, done.not_in_file) == (("amara",), ("bo",), ())
    assert done.found_by == {"Email address": 2}


def test_students_who_are_not_in_the_platform_are_named(marks, tmp_path):
    template = tmp_path / "grades.csv"
    template.write_text("First name,Last name,ID number,Email address,Assignment: ps1_tiny (Real)\nA,B,502,,-\n")
    done = write_upload(marks, Platform.MOODLE, tmp_path / "out.csv", template)
    assert done.filled == ("bo",) and done.not_in_file == ("amara",)


@pytest.mark.parametrize(
    ("platform", "text", "complaint"),
    [
        (Platform.CANVAS, "Name,Points\nx,1\n", "has no column ID, Section, only Name, Points.*from Canvas again"),
        (Platform.CANVAS, "Student,ID,Section,HW (1)\n", "has no column 'ps1_tiny': say which with --column"),
        (Platform.CANVAS, "Student,ID,Section,ps1_tiny (1),ps1_tiny (2)\n", "has several columns 'ps1_tiny'"),
        (Platform.CANVAS, "Student,ID,Section,ps1_tiny\na,1\n", "line 2: 2 cells, expected 4"),
        (Platform.MOODLE_WORKSHEET, "Identifier,Note\n", "has no column Grade, .*from Moodle again, in English"),
        (Platform.MOODLE, "", "is empty"),
        (Platform.MOODLE_WORKSHEET, None, "knows students by Moodle's own numbers.*--template"),
    ],
)
def test_what_cannot_be_used_is_refused(marks, tmp_path, platform, text, complaint):
    template = None if text is None else tmp_path / "template.csv"
    if template:
        template.write_text(text)
    with pytest.raises((CourseError, TableError), match=complaint):
        write_upload(marks, platform, tmp_path / "out.csv", template)
    assert not (tmp_path / "out.csv").exists()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT, st.none() | st.floats(0, 1000)), max_size=6),
    st.sampled_from([Platform.CANVAS, Platform.MOODLE]),
)
def test_whatever_the_names_scores_arrive_and_nothing_is_a_formula(tmp_path_factory, rows, platform):
    students = tuple(
        StudentMarks(
            Person(f"s{number}", first, last, email),
            "could not grade" if score is None else "graded",
            (Mark("q", 1000.0, score, comment=last),),
        )
        for number, (first, last, email, score) in enumerate(rows)
    )
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_upload(ClassMarks("ps", {"q": 1000.0}, students), platform, path)
    header, *lines = read(path)
    lines = lines[1:] if platform is Platform.CANVAS else lines
    place = header.index("ps")
    assert len(lines) == len(rows)
    for line, (*_, score) in zip(lines, rows, strict=True):
        assert line[place] == "" if score is None else abs(float(line[place]) - score) <= 0.006
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in line)
