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

from bnlab.grading.course import grading_environment

c = get_config()  # noqa: F821  nbgrader provides it
course = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "batch-normalization"
c.CourseDirectory.root = str(course)

# The gradebook is the SQLite file gradebook.db here. To share one, name another database before you run nbgrader:
#     pip install "psycopg[binary]"
#     export BNLAB_DB_URL=postgresql+psycopg://user:password@host:5432/gradebook
if "BNLAB_DB_URL" in os.environ:
    c.CourseDirectory.db_url = os.environ["BNLAB_DB_URL"]

# Grading draws from a seed that students don't know (the file grading_seed, kept out of git), and more cases than they
# do. Kernels inherit these variables.
os.environ.update(grading_environment(course))

# Submissions are read and repaired before nbgrader sees them, and one that can't be graded doesn't stop the others.
c.Autograde.exporter_class = "bnlab.grading.autograde.SubmissionExporter"
c.Autograde.sanitize_preprocessors = [
    "bnlab.grading.autograde.RepairCells",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# Seconds per cell. In a test cell each call of a student's function has a limit of its own as well, in the checks.
c.Execute.timeout_func = lambda cell: 120 if cell.metadata.get("nbgrader", {}).get("grade") else 30
c.Execute.extra_arguments = ["--log-level=ERROR"]  # kernels say nothing of their own between nbgrader's lines

# nbgrader gives 0 points for anything on stderr in a test cell. A warning is not a mistake: the checks show it, and it
# costs nothing.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s)."

# A CSV file whose cells are quoted, with an empty score where a submission could not be graded.
c.ExportApp.plugin_class = "bnlab.grading.export.GradesTable"

# Files as a learning platform names them: STUDENT_20261005T183000_ps1_scaling.ipynb. The time may be missing. Adapt
# this to yours (nbgrader zip_collect --help says how), but try how nbgrader reads its times: it takes
# 2026-10-05-18-30-00, the form in its manual, for 18:00.
c.FileNameCollectorPlugin.named_regexp = (
    r".*[/\\](?P<student_id>[^/\\_]+)_((?P<timestamp>\d{8}T\d{6})_)?(?P<file_id>ps\d+_[a-z]+)[^/\\]*\.ipynb"
)
