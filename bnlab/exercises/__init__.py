"""From an instructor's text notebook to what students get: build, verify, release.

`source.py` reads a problem set, `build.py` writes nbgrader's source, `verify.py` proves the checks against right and
wrong solutions, `release.py` makes the student version and its zip, and `self_check.py` is the student's own run before
handing in. Grading what comes back is `bnlab.grading`'s business.
"""
