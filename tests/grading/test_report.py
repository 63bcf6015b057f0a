"""The report page: every number is counted from records and gradebook, and nobody's text can do anything."""

import copy
import re

import pytest
from conftest import NAME, cell
from hypothesis import given
from hypothesis import strategies as st
from made_up_class import HINT, PARTS, POINTS, people, put, record, result, stuck, unanswered

from bnlab.grading.anonymous import Pseudonyms
from bnlab.grading.course import CourseError, load_course
from bnlab.grading.marks import ClassMarks, Mark, Person, StudentMarks, read_marks
from bnlab.grading.report import figures, likeness, report_page
from bnlab.grading.similarity import Likeness

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

OTHER = "The columns and the rows are mixed up."


@pytest.fixture
def marks(course):
    put(course, record("ann"))
    put(course, record("bo", result("center", "values"), result("scale", "values", message="x = 17.5, expected -2e-3")))
    put(course, record("cy", result("center", "values", hint="This divides by 8 instead of 7."), unanswered("scale")))
    put(course, record("di", result("center", "values", "input untouched", hint=OTHER)), by_hand={"center": 20})
    put(course, record("ed", stuck("scale", "timeout", "longer than <10> s"), findings=["Answer cell copied."]))
    put(course, record("fi", result("mean_of", borrowed=["numpy.mean"]), sandbox="none"))
    people(course, gil=())
    return read_marks(load_course(course), NAME)


def test_figures(marks):
    found = figures(marks)
    assert found.statuses == {"graded": 5, "could not grade": 1, "missing": 1}
    assert found.scores == [37.5, 47.5, 90.0, 100.0, 100.0]
    assert [(b.low, b.high, b.count) for b in found.bins if b.count] == [(30, 40, 1), (40, 50, 1), (90, 100, 3)]
    questions = {question.name: question for question in found.questions}
    assert list(questions) == list(POINTS)
    center, scale = questions["center"], questions["scale"]
    assert (center.scores, center.full, center.by_hand) == ([30, 7.5, 7.5, 20, 30, 30], 3, 1)
    assert (scale.scores, scale.full, scale.not_answered, scale.waiting) == ([40, 10, 0, 40, 40], 3, 1, 1)
    assert scale.mean == 26 and scale.lost == 14 and scale.lost_share == 0.35
    parts = {(part.question, part.name): part for part in found.parts}
    assert set(parts) == {("center", "values"), ("center", "input untouched"), ("scale", "values")}
    values = parts["center", "values"]
    assert (values.points, values.tried, values.failed, values.lost) == (22.5, 6, 3, 11.25)
    # Who did not answer is not counted among those who tried; ed's answer never came to its end.
    assert (parts["scale", "values"].points, parts["scale", "values"].tried) == (30, 4)
    assert found.parts[0] is values


def test_mistakes_are_the_same_whatever_the_numbers(marks):
    mistakes = figures(marks).mistakes
    assert [(m.question, m.name, m.students, m.parts) for m in mistakes] == [
        ("center", HINT, ["bo", "cy"], {"values"}),
        ("center", OTHER, ["di"], {"values", "input untouched"}),
        ("scale", HINT, ["bo"], {"values"}),
    ]
    assert mistakes[2].example == "x = 17.5, expected -2e-3"
    # All six answered center; of the five answers to scale that were graded, one was none.
    assert [mistake.tried for mistake in mistakes] == [6, 6, 4]


def test_page(marks):
    page = report_page(figures(marks), Likeness((), (("ann", "bo"),), 5), lambda student: f"{student.person.id}<i>")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "7 students: 5 graded, 1 could not be graded, 1 not handed in. 100 points." in text
    assert "mean 75, median 90, lowest 37.5, highest 100 of 100" in text
    assert "scale timeout: longer than &lt;10&gt; s" in page and "<10>" not in page
    assert "ann&lt;i&gt;; bo&lt;i&gt;" in page and "<i>" not in page
    assert "a hint where to look, and no proof of anything" in text
    assert "1 submission was graded without a sandbox." in text
    assert "numpy.mean" in page and "Answer cell copied." in page
    assert "http" not in page.replace("http-equiv", "")  # no request and no link goes anywhere
    assert "<script" not in page and " style=" not in page and "onload" not in page


def test_page_of_nobody(course):
    found = figures(read_marks(load_course(course), NAME))
    page = report_page(found, Likeness((), (), 0), lambda student: student.person.id)
    assert "Nobody has all points yet" in page and "Every submission could be graded" in page


def test_points_so_far_are_shown_while_everyone_waits_for_a_person():
    questions = {"mean_of": 30.0, "why": 10.0}

    def waiting(name, score):
        marks = (Mark("mean_of", 30.0, score), Mark("why", 10.0, None, waits=True))
        return StudentMarks(Person(name), "needs manual grade", marks)

    found = figures(ClassMarks(NAME, questions, (waiting("ann", 30.0), waiting("bo", 12.0))))
    assert (found.scores, found.final) == ([12.0, 30.0], False)
    page = re.sub(r"<[^>]+>", "", report_page(found, Likeness((), (), 0), lambda student: student.person.id))
    assert "These are the points so far." in page and "2 submissions: mean 21" in page and "why (2)" in page
    graded = StudentMarks(Person("cy"), "graded", (Mark("mean_of", 30.0, 20.0), Mark("why", 10.0, 5.0)))
    found = figures(ClassMarks(NAME, questions, (waiting("ann", 30.0), graded)))
    assert (found.scores, found.final) == ([25.0], True)


def test_anonymous_page_names_nobody(course, marks):
    people(course, ann=("Annabel", "Winterbottom", "ann.w@example.org"))
    marks = read_marks(load_course(course), NAME)
    hide = Pseudonyms(course)
    page = report_page(
        figures(marks), Likeness((), (("ann", "bo"),), 5), lambda student: hide(student.person.id), anonymous=True
    )
    for word in ("Annabel", "Winterbottom", "ann.w@", ">ann<", ">ed<"):
        assert word not in page
    assert hide("ed") in page and hide("ann") in page and "pseudonyms" in page


def test_likeness_reads_the_executed_notebooks(course, answered):
    long = "def scale(x):\n    total = 0\n" + "".join(
        f"    for i in range({n}):\n        total += x[i, {n}] * {n + 1} - i ** {n + 2}\n" for n in range(20)
    )
    for student in ("ann", "bo"):
        notebook = copy.deepcopy(answered(scale=long.replace("total", student)))
        put(course, record(student), notebook=notebook)
    put(course, record("cy"), notebook=answered())
    put(course, record("di"), notebook="{ no notebook")
    notebook = answered()
    cell(notebook, "scale-solution").source = list("x = 1")  # a list of lines is a source, too
    put(course, record("ed"), notebook=notebook)
    found = likeness(load_course(course), read_marks(load_course(course), NAME))
    assert found.groups == (("ann", "bo"),) and found.pairs == ()


# --- any class -------------------------------------------------------------------------------------------------------

RESULTS = st.one_of(
    st.builds(lambda q, lost: result(q, *lost), st.sampled_from(list(POINTS)), st.sets(st.sampled_from(list(PARTS)))),
    st.builds(unanswered, st.sampled_from(list(POINTS))),
    st.builds(stuck, st.sampled_from(list(POINTS)), st.sampled_from(["timeout", "crashed", "memory"]), st.text()),
)


def student_marks(number, results):
    made = record(f"s{number}", *results)
    marks = tuple(Mark(r.question, r.points, r.score, waits=r.score is None) for r in made.questions)
    status = "graded" if all(mark.score is not None for mark in marks) else "could not grade"
    return StudentMarks(Person(f"s{number}"), status, marks, "", 0.0, made)


@given(st.lists(st.lists(RESULTS, max_size=3), max_size=12))
def test_figures_of_any_class_add_up(class_of_results):
    students = tuple(student_marks(number, results) for number, results in enumerate(class_of_results))
    found = figures(ClassMarks(NAME, dict(POINTS), students))
    assert sum(found.statuses.values()) == len(students)
    assert sum(b.count for b in found.bins) == len(found.scores) == found.statuses.get("graded", 0)
    for question in found.questions:
        assert len(question.scores) + question.waiting == len(students)
        # What is lost in a question is what its parts cost, and all of it for those who did not answer.
        lost = sum(question.points - score for score in question.scores)
        by_parts = sum(part.points * part.failed for part in found.parts if part.question == question.name)
        if not question.not_answered or by_parts:
            assert lost == pytest.approx(by_parts + question.points * question.not_answered)
    for mistake in found.mistakes:
        assert len(set(mistake.students)) == len(mistake.students)
    page = report_page(found, Likeness((), (), 0), lambda student: student.person.id)
    assert page.count("<script") == 0


# --- pseudonyms ------------------------------------------------------------------------------------------------------


def test_pseudonyms_are_stable_and_need_the_key(tmp_path):
    first, again = Pseudonyms(tmp_path), Pseudonyms(tmp_path)
    assert first("ann") == again("ann") != first("bo")
    assert re.fullmatch(r"anon-[a-z2-7]{10}", first("ann"))
    assert (tmp_path / "pseudonym_key").stat().st_mode & 0o077 == 0
    (tmp_path / "pseudonym_key").unlink()
    assert Pseudonyms(tmp_path)("ann") != first("ann")
    (tmp_path / "pseudonym_key").write_text("secret")
    with pytest.raises(CourseError, match="holds no key, expected 64 hexadecimal digits"):
        Pseudonyms(tmp_path)


@given(st.lists(st.text(), unique=True, max_size=50))
def test_pseudonyms_differ(tmp_path_factory, students):
    hide = Pseudonyms(tmp_path_factory.getbasetemp())
    assert len({hide(student) for student in students}) == len(students)
