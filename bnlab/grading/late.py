"""What handing in late costs, by a policy that students can read: minutes of grace, so much per started day, a limit.

In ``nbgrader_config.py``::

    c.AssignLatePenalties.plugin_class = "bnlab.grading.late.LatePolicy"
    c.LatePolicy.grace_minutes = 15        # nothing happens for a quarter of an hour
    c.LatePolicy.percent_per_day = 10      # then 10 % of the points for every started day
    c.LatePolicy.maximum_percent = 50      # never more than half of them ...
    c.LatePolicy.zero_after_days = 14      # ... unless two weeks have passed: then all

With these, 100 points handed in 15 minutes late stay 100; 16 minutes late they are 90; 24 hours late 90, and one
second more 80; five days late 50, and so on until fourteen days; one second after these 0.
"""

import math
import sys
from datetime import UTC, datetime

from nbgrader.api import Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from traitlets import Float, TraitError, validate

from bnlab.grading.course import CourseError

DAY = 24 * 60 * 60  # seconds


class LatePolicy(LateSubmissionPlugin):
    """nbgrader's late penalties by the day.

    The percentage is of the points that the submission earned, not of those that it could have earned. Days count from
    the due date (with a student's extension), not from the end of the grace. nbgrader calls this for every submission
    that is late; one without a time of submission, or without a due date, is never late.

    Attributes
    ----------
    grace_minutes : float
        So late is not late.
    percent_per_day : float
        Of the points earned, for every started day.
    maximum_percent : float
        The penalty ends here.
    zero_after_days : float or None
        Later than this, nothing is left. None: `maximum_percent` stays the limit.
    """

    grace_minutes = Float(0.0, min=0.0, help="Minutes after the due date that cost nothing.").tag(config=True)
    percent_per_day = Float(
        10.0, min=0.0, max=100.0, help="Percent of the points earned that every started day costs."
    ).tag(config=True)
    maximum_percent = Float(100.0, min=0.0, max=100.0, help="Percent of the points at which the penalty ends.").tag(
        config=True
    )
    zero_after_days = Float(
        None, allow_none=True, help="Days after which no points are left. None: maximum_percent stays the limit."
    ).tag(config=True)

    @validate("zero_after_days")
    def _check_zero_after_days(self, proposal: dict) -> float | None:
        days = proposal["value"]
        if days is not None and not days >= 0:
            raise TraitError(f"LatePolicy.zero_after_days is {days}, expected a number of days >= 0, or None")
        return days

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        """Points that a submission loses.

        Parameters
        ----------
        student_id : str
            Not used: an extension is given in the gradebook.
        score : float
            Points earned.
        total_seconds_late : float
            Time between the due date and the submission.

        Returns
        -------
        float
            Between 0 and `score`, rounded to two decimals.
        """
        return round(max(score, 0.0) * self.percent(total_seconds_late) / 100, 2)

    def percent(self, seconds: float) -> float:
        """Percent of the points that are lost `seconds` after the due date."""
        if seconds <= self.grace_minutes * 60:
            return 0.0
        if self.zero_after_days is not None and seconds > self.zero_after_days * DAY:
            return 100.0
        return min(self.percent_per_day * math.ceil(seconds / DAY), self.maximum_percent)


def policy_of(coursedir: CourseDirectory) -> LateSubmissionPlugin:
    """The plugin for late penalties that a course configures; nbgrader's own (no penalty) where it names none.

    Raises
    ------
    CourseError
        The plugin can't be loaded, or a setting of it can't be.
    """
    sys.path.insert(0, coursedir.root)  # as nbgrader does: a course's own plugin lies in its directory
    try:
        penalties = AssignLatePenalties(config=coursedir.config)
        penalties.init_plugin()
        return penalties.plugin_inst
    except (TraitError, ImportError) as error:
        raise CourseError(
            f"the late policy can't be used ({error}): check c.LatePolicy in nbgrader_config.py"
        ) from None
    finally:
        sys.path.remove(coursedir.root)


def assign_penalty(submission: SubmittedAssignment, policy: LateSubmissionPlugin) -> float:
    """Set the late penalty of a submission by its present score, without saving it.

    nbgrader does so while it grades automatically, when points given by hand are not there yet.

    Parameters
    ----------
    submission : nbgrader.api.SubmittedAssignment
    policy : LateSubmissionPlugin

    Returns
    -------
    float
        The penalty, in points.
    """
    late = submission.total_seconds_late if submission.assignment.duedate else 0
    total = 0.0
    for notebook in submission.notebooks:
        penalty = policy.late_submission_penalty(submission.student_id, notebook.score, late) if late > 0 else None
        notebook.late_submission_penalty = None if penalty is None else min(max(penalty, 0.0), notebook.score)
        total += notebook.late_submission_penalty or 0.0
    return total


def set_due(gradebook: Gradebook, name: str, due: datetime, student: str | None = None) -> None:
    """Set the due date of a problem set, or of one student by an extension.

    Parameters
    ----------
    gradebook : Gradebook
    name : str
        The problem set.
    due : datetime
        With a time zone. The gradebook keeps it in UTC.
    student : str, optional
        For them alone; the problem set needs a due date already.

    Raises
    ------
    CourseError
        The time has no zone, or the gradebook doesn't know the problem set or the student.
    """
    if due.tzinfo is None:
        raise CourseError(f"{due.isoformat()} has no time zone: add it, such as {due.isoformat()}+02:00")
    naive = due.astimezone(UTC).replace(tzinfo=None)
    try:
        if student is None:
            gradebook.find_assignment(name).duedate = naive
        else:
            gradebook.find_student(student)  # so that a mistyped id doesn't become a student
            if gradebook.find_assignment(name).duedate is None:
                raise CourseError(f"{name} has no due date that could be extended: bnlab class due {name} TIME")
            submission = gradebook.update_or_create_submission(name, student)
            submission.extension = naive - submission.assignment.duedate
    except MissingEntry as error:
        raise CourseError(f"the gradebook has no such entry ({error}): check the name") from None
    gradebook.db.commit()
