"""What a class has: the gradebook decides on scores, the records say why, and nothing ungraded becomes a number."""

import pytest
from conftest import NAME, hand_in
from made_up_class import people, put, record, stuck
from nbgrader.api import Gradebook

from bnlab.grading.course import CourseError, load_course
from bnlab.grading.marks import read_marks
from bnlab.grading.record import WrittenAnswer

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


def marks_of(course, *only):
    return {s.person.id: s for s in read_marks(load_course(course), NAME, list(only) or None).students}


def test_statuses(course, answered):
    put(course, record("all_right"))
    put(course, record("hangs", stuck("center", "timeout", "longer than 10 s")))
    put(course, record("by_hand", stuck("center", "timeout", "longer than 10 s")), by_hand={"center": 12.5})
    pdf = [stuck(name, "unreadable", "it is a PDF") for name in ("mean_of", "center", "scale")]
    put(course, record("pdf", *pdf))
    gone = [stuck(name, "missing", "nothing was handed in") for name in ("mean_of", "center", "scale")]
    put(course, record("gone", *gone, submission=""))
    hand_in(course, "waiting", answered())
    hand_in(course, "odd[name]", answered())
    people(course, absent=("Ab", "Sent"))
    found = marks_of(course)
    assert {name: (s.status, s.score) for name, s in found.items()} == {
        "all_right": ("graded", 100.0),
        "hangs": ("could not grade", None),
        "by_hand": ("graded", 82.5),
        "pdf": ("could not grade", None),
        "gone": ("missing", None),
        "waiting": ("not graded yet", None),
        "odd[name]": ("could not grade", None),
        "absent": ("missing", None),
    }
    assert found["hangs"].remark == "center timeout: longer than 10 s"
    assert found["pdf"].remark == "unreadable: it is a PDF"
    assert found["waiting"].remark == f"grade it: bnlab grade {NAME} --student waiting"
    assert "pattern" in found["odd[name]"].remark
    assert found["by_hand"].mark("center").by_hand and not found["by_hand"].mark("scale").by_hand
    assert [mark.question for mark in found["hangs"].marks] == ["mean_of", "center", "scale"]
    assert found["absent"].person.name == "Ab Sent" and found["absent"].person.sortable_name == "Sent, Ab"


def test_a_score_marked_for_another_look_is_no_score_yet(course):
    put(course, record("ann"))
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("scale", NAME, NAME, "ann").needs_manual_grade = True
        gradebook.db.commit()
    (ann,) = marks_of(course).values()
    assert (ann.status, ann.remark, ann.score) == ("needs manual grade", "to be graded by hand: scale", None)


def test_comments_extra_credit_and_penalties(course):
    put(course, record("ann"), comments={"center-solution": "  Well done.  "})
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("scale", NAME, NAME, "ann").extra_credit = 5.0
        gradebook.find_submission(NAME, "ann").notebooks[0].late_submission_penalty = 12.0
        gradebook.db.commit()
    (ann,) = marks_of(course).values()
    assert (ann.score, ann.penalty, ann.mark("center").comment) == (93.0, 12.0, "Well done.")


def test_a_record_without_the_gradebook_counts(course):
    place = course / "autograded" / "ann" / NAME
    place.mkdir(parents=True)
    hand_in(course, "ann", "{}")
    made = record("ann", stuck("scale", "memory", "more than 2 GB"), written=[WrittenAnswer("why", 5.0, True)])
    (place / "record.json").write_text(made.to_json())
    (ann,) = marks_of(course).values()
    assert ann.status == "could not grade" and ann.mark("why").waits and ann.mark("mean_of").score == 30
    (place / "record.json").write_text(record("ann", written=[WrittenAnswer("why", 5.0, False)]).to_json())
    (ann,) = marks_of(course).values()
    assert ann.status == "graded" and ann.mark("why").score == 0


def test_one_broken_record_does_not_stop_the_others(course):
    put(course, record("ann"))
    put(course, record("bo"))
    (course / "autograded" / "bo" / NAME / "record.json").write_text("{")
    found = marks_of(course)
    assert found["ann"].score == 100 and found["bo"].score is None
    assert "record.json" in found["bo"].remark and "grade the submission again" in found["bo"].remark


def test_what_is_not_there_is_named(course):
    with pytest.raises(CourseError, match=r"does not know ps9.*nbgrader generate_assignment ps9"):
        read_marks(load_course(course), "ps9")
    with pytest.raises(CourseError, match="knows zoe: check the id"):
        marks_of(course, "zoe")
    (course / "gradebook.db").unlink()
    with pytest.raises(CourseError, match="there is no gradebook"):
        marks_of(course)
    assert not (course / "gradebook.db").exists()
