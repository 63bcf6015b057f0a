"""Grading what students hand in, with nbgrader.

`intake.py` reads a submission, whatever state it is in, and repairs what can be repaired. `autograde.py` plugs that
into ``nbgrader autograde``, `export.py` writes the table of grades, `course.py` looks whether a course directory is
ready, and ``python -m bnlab.grading.demo`` grades a made-up class. Making the problem sets is `bnlab.exercises`'
business.
"""
