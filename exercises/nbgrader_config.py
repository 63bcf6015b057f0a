"""nbgrader's configuration of this course. nbgrader reads it when it is run in this directory:

    cd exercises
    nbgrader generate_assignment ps1_scaling     the student version, and the gradebook's record of the problem set
    nbgrader zip_collect ps1_scaling             from downloaded/ps1_scaling/archive/ to submitted/
    nbgrader autograde ps1_scaling
    nbgrader generate_feedback ps1_scaling
    nbgrader export                              grades.csv and grades_by_question.csv

It can be copied into another course directory as it is.
"""

import os
from pathlib import Path

from bnlab.grading.formgrader import bear_bad_timestamps, template_directories

c = get_config()  # noqa: F821  nbgrader provides it
course = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "batch-normalization"
c.CourseDirectory.root = str(course)

# The gradebook is the SQLite file gradebook.db here. To share one, name a PostgreSQL database before nbgrader or bnlab
# runs; its password goes to the file ~/.pgpass, because nbgrader writes this address into its log:
#     pip install "bnlab[grading]"
#     export BNLAB_DB_URL=postgresql+psycopg://user@host:5432/gradebook
if "BNLAB_DB_URL" in os.environ:
    c.CourseDirectory.db_url = os.environ["BNLAB_DB_URL"]

# nbgrader autograde, and formgrader's button for it, grade as bnlab grade does: every submission is read and repaired,
# runs in a sandbox of its own, and is asked questions from outside. One that can't be graded doesn't stop the others
# and gets no 0. The inputs come from a seed that students don't know (the file grading_seed, kept out of git).
c.Autograde.exporter_class = "bnlab.grading.autograde.TrustedGrading"

# The sandbox is bubblewrap; without it nothing is graded. Where this machine is itself a container that holds nothing
# but the submissions, say "container"; "none" runs students' code unprotected. Either is marked in every result.
c.TrustedGrading.sandbox = "bubblewrap"

# What one submission may use, where it differs from the usual (bnlab/grading/confine.py has all names): seconds of wall
# time for a cell, bytes of memory beyond what the libraries take.
c.TrustedGrading.limits = {"cell_seconds": 30, "memory": 2 * 2**30}

# Figures are shown as they were handed in. True draws them again, which takes longer than grading.
c.TrustedGrading.pictures = False

# Late work costs nothing until you take the # away. bnlab/grading/late.py says what each line does.
# c.AssignLatePenalties.plugin_class = "bnlab.grading.late.LatePolicy"
# c.LatePolicy.grace_minutes = 15
# c.LatePolicy.percent_per_day = 10
# c.LatePolicy.maximum_percent = 50
# c.LatePolicy.zero_after_days = 14

# Feedback is a page that shows no hidden code and can do nothing but be read.
c.GenerateFeedback.exporter_class = "bnlab.grading.feedback.FeedbackExporter"
c.GenerateFeedback.preprocessors = []

# formgrader shows what students typed as text, never as a program, loads nothing from a network, and lists a class in
# which a timestamp.txt holds no time.
bear_bad_timestamps()
c.HTMLExporter.filters = {"markdown2html": "bnlab.grading.formgrader.markdown"}
c.HTMLExporter.sanitize_html = True
c.HTMLExporter.extra_template_basedirs = template_directories()

# A CSV file whose cells are quoted, with an empty score where a submission could not be graded.
c.ExportApp.plugin_class = "bnlab.grading.export.GradesTable"

# Files as a learning platform names them: STUDENT_20261005T183000_ps1_scaling.ipynb. The time may be missing. Adapt
# this to yours (nbgrader zip_collect --help says how), but try how nbgrader reads its times: it takes
# 2026-10-05-18-30-00, the form in its manual, for 18:00. A quotation mark (\x22), <, > or & is in nobody's name here,
# because formgrader puts names into its pages as they are.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\](?P<student_id>[^/\\_\x22<>&]+)_((?P<timestamp>\d{8}T\d{6})_)?(?P<file_id>ps\d+_[a-z]+)[^/\\]*\.ipynb"
)
