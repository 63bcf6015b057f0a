"""Late penalties: to the second, in any time zone, and never more than was earned."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from conftest import NAME
from hypothesis import given
from hypothesis import strategies as st
from made_up_class import due, people, put, record, result
from nbgrader.api import Gradebook
from nbgrader.utils import parse_utc
from traitlets import TraitError
from traitlets.config import Config

from bnlab.grading.course import CourseError, load_course
from bnlab.grading.late import DAY, LatePolicy, assign_penalty, policy_of, set_due
from bnlab.grading.marks import read_marks

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")

DUE = datetime(2026, 10, 5, 16, 0)  # UTC
EXAMPLE = {"grace_minutes": 15, "percent_per_day": 10, "maximum_percent": 50, "zero_after_days": 14}


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [
        (0, 0),
        (1e-6, 0),
        (15 * 60, 0),
        (15 * 60 + 1e-6, 10),
        (DAY, 10),
        (DAY + 1e-6, 20),
        (2 * DAY, 20),
        (4 * DAY + 1, 50),
        (5 * DAY, 50),
        (13 * DAY, 50),
        (14 * DAY, 50),
        (14 * DAY + 1, 100),
        (1e12, 100),
    ],
)
def test_the_example_in_the_documentation(seconds, percent):
    policy = LatePolicy(**EXAMPLE)
    assert policy.percent(seconds) == percent
    assert policy.late_submission_penalty("ann", 100.0, seconds) == percent


def test_without_settings_a_day_costs_a_tenth_and_ten_days_all():
    policy = LatePolicy()
    assert [policy.percent(days * DAY) for days in (0.001, 1, 1.5, 9.5, 30)] == [10, 10, 20, 100, 100]


def test_points_are_rounded_and_never_negative():
    policy = LatePolicy(percent_per_day=33.3)
    assert policy.late_submission_penalty("ann", 66.67, 1) == 22.2
    assert policy.late_submission_penalty("ann", 0.0, 1) == 0
    assert policy.late_submission_penalty("ann", -5.0, 1) == 0


@given(
    st.builds(
        LatePolicy,
        grace_minutes=st.floats(0, 1e5),
        percent_per_day=st.floats(0, 100),
        maximum_percent=st.floats(0, 100),
        zero_after_days=st.none() | st.floats(0, 1e3),
    ),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.floats(0, 1e4),
)
def test_later_never_costs_less_and_never_more_than_all(policy, a, b, score):
    early, late = sorted((a, b))
    first, second = (policy.late_submission_penalty("ann", score, seconds) for seconds in (early, late))
    assert 0 <= first <= second <= score + 0.005
    assert policy.percent(0) == 0


@pytest.mark.parametrize(
    "settings",
    [{"grace_minutes": -1}, {"percent_per_day": 101}, {"maximum_percent": -1}, {"zero_after_days": -1}],
)
def test_senseless_settings_are_refused(settings):
    with pytest.raises(TraitError):
        LatePolicy(config=Config(LatePolicy=settings))


# --- in a course -----------------------------------------------------------------------------------------------------


@pytest.fixture
def policed(course):
    config = course / "nbgrader_config.py"
    lines = ['c.AssignLatePenalties.plugin_class = "bnlab.grading.late.LatePolicy"']
    lines += [f"c.LatePolicy.{name} = {value}" for name, value in EXAMPLE.items()]
    config.write_text(config.read_text() + "\n" + "\n".join(lines) + "\n")
    due(course, DUE)
    return course


def score(course, student="ann"):
    (found,) = read_marks(load_course(course), NAME, [student]).students
    return found.score, found.penalty


@pytest.mark.parametrize(
    ("handed_in", "points"),
    [
        ("2026-10-05 16:00:00 UTC", 100),
        ("2026-10-05 16:15:00 UTC", 100),
        ("2026-10-05 16:15:01 UTC", 90),
        ("2026-10-05T18:15:00+02:00", 100),
        ("2026-10-05T18:15:01+02:00", 90),
        ("2026-10-05 18:00:00 Europe/Berlin", 100),
        ("2026-10-06 18:00:01 Europe/Berlin", 80),
        ("2026-10-05T12:00:00-04:00", 100),
        ("2026-10-20T00:00:00+00:00", 0),
    ],
)
def test_penalties_when_the_gradebook_is_written(policed, handed_in, points):
    put(policed, record("ann"), timestamp=parse_utc(handed_in))
    assert score(policed) == (points, 100 - points)


def test_without_a_time_or_a_due_date_nobody_is_late(policed):
    put(policed, record("ann"), timestamp=None)
    assert score(policed) == (100, 0)
    due(policed, None)
    put(policed, record("bo"), timestamp=DUE + timedelta(days=99))
    assert score(policed, "bo") == (100, 0)


def test_points_by_hand_are_in_the_penalty_when_it_is_set_again(policed):
    put(policed, record("ann", result("scale", "values")), timestamp=DUE + timedelta(hours=5))
    assert score(policed) == (63, 7)  # 70 less 10 %
    put(policed, record("ann", result("scale", "values")), timestamp=DUE + timedelta(hours=5), by_hand={"scale": 40})
    assert score(policed) == (93, 7)
    with Gradebook(f"sqlite:///{policed / 'gradebook.db'}") as gradebook:
        penalty = assign_penalty(gradebook.find_submission(NAME, "ann"), policy_of(load_course(policed)))
        gradebook.db.commit()
    assert penalty == 10 and score(policed) == (90, 10)


def test_due_dates_and_extensions_have_a_zone(policed):
    people(policed, ann=())
    berlin = ZoneInfo("Europe/Berlin")
    with Gradebook(f"sqlite:///{policed / 'gradebook.db'}") as gradebook:
        # In the night when clocks go back, 02:30 comes twice.
        set_due(gradebook, NAME, datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=berlin))
        assert gradebook.find_assignment(NAME).duedate == datetime(2026, 10, 25, 0, 30)
        set_due(gradebook, NAME, datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=berlin))
        assert gradebook.find_assignment(NAME).duedate == datetime(2026, 10, 25, 1, 30)
        set_due(gradebook, NAME, datetime(2026, 10, 27, 1, 30, tzinfo=UTC), student="ann")
        assert gradebook.find_submission(NAME, "ann").duedate == datetime(2026, 10, 27, 1, 30)
        with pytest.raises(CourseError, match=r"has no time zone: add it, such as 2026-10-05T18:00:00\+02:00"):
            set_due(gradebook, NAME, datetime(2026, 10, 5, 18))
        for name, student in (("ps9", None), (NAME, "zoe")):
            with pytest.raises(CourseError, match="check the name"):
                set_due(gradebook, name, datetime.now(UTC), student)
        gradebook.find_assignment(NAME).duedate = None
        with pytest.raises(CourseError, match="no due date that could be extended"):
            set_due(gradebook, NAME, datetime.now(UTC), "ann")


def test_an_extension_before_handing_in_is_no_submission(policed):
    people(policed, ann=())
    with Gradebook(f"sqlite:///{policed / 'gradebook.db'}") as gradebook:
        set_due(gradebook, NAME, datetime(2026, 10, 8, 16, tzinfo=UTC), student="ann")
    (found,) = read_marks(load_course(policed), NAME).students
    assert (found.status, found.score) == ("missing", None)
    put(policed, record("ann"), timestamp=datetime(2026, 10, 8, 16))
    assert score(policed) == (100, 0)


def test_a_policy_that_cannot_be_loaded_is_named(policed):
    config = policed / "nbgrader_config.py"
    config.write_text(config.read_text() + "c.LatePolicy.percent_per_day = 'ten'\n")
    with pytest.raises(CourseError, match=r"late policy can't be used .*percent_per_day"):
        policy_of(load_course(policed))
