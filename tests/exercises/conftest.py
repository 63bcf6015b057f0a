"""A course directory with one small problem set, for the tools that make and prove problem sets."""

import json
import re
from textwrap import dedent

import pytest

ANSWER = {"grade": False, "locked": False, "schema_version": 3, "solution": True, "task": False}
TEST = {"grade": True, "locked": True, "schema_version": 3, "solution": False, "task": False}


def _metadata(match):
    if match["kind"] == "ANSWER":
        return f"nbgrader={json.dumps({'grade_id': match['name'] + '-solution'} | ANSWER)}"
    return f"nbgrader={json.dumps({'grade_id': match['name'], 'points': int(match['points'])} | TEST)}"


NOTEBOOK = re.sub(
    r"(?P<kind>ANSWER|TEST)\((?P<name>\w+)(, (?P<points>\d+))?\)",
    _metadata,
    '''\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A small set

# %%
import numpy as np
from checks import check

# %% ANSWER(mean)
def mean(x):
    """Mean of each column."""
    ### BEGIN SOLUTION
    return x.mean(axis=0)
    ### END SOLUTION

# %% TEST(mean, 40)
check("mean", mean)

# %% ANSWER(var)
def var(x):
    """Biased variance of each column."""
    ### BEGIN SOLUTION
    return x.var(axis=0)
    ### END SOLUTION

# %% TEST(var, 60)
check("var", var)
''',
)

CHECKS = """\
from bnlab.checks import ProblemSet, agree

problem_set = ProblemSet("ps0_small")
mean = problem_set.question("mean(x) -> mean", points=40)


@mean.part("each column")
def _(student, rng):
    x = rng.normal(2, 1, size=(5, 3))
    agree("mean", student(x), x.mean(axis=0), mistakes={"This is the mean of each row.": x.mean(axis=1)})


var = problem_set.question("var(x) -> var", points=60)


@var.part("each column", weight=2)
def _(student, rng):
    x = rng.normal(2, 1, size=(5, 3))
    agree("var", student(x), x.var(axis=0), mistakes={"It divides by m - 1.": x.var(axis=0, ddof=1)})


var.keeps_its_inputs(lambda rng: (rng.normal(size=(4, 2)),))
check = problem_set.check
"""

SUBMISSIONS = {
    "right_loops": '''
        """Plain loops, both questions."""


        def mean(x):
            return np.array([sum(column) / len(column) for column in x.T])


        def var(x):
            return np.array([sum((v - sum(c) / len(c)) ** 2 for v in c) / len(c) for c in x.T])
    ''',
    "wrong_var_unbiased": '''
        """Divides by m - 1."""

        QUESTION = "var"
        LOSES = {"each column", "leaves its inputs as they were"}
        SAYS = "divides by m - 1"


        def var(x):
            return x.var(axis=0, ddof=1)
    ''',
    "wrong_mean_axis": '''
        """Averages over the wrong axis."""

        QUESTION = "mean"
        LOSES = {"each column"}
        SAYS = "mean of each row"


        def mean(x):
            return x.mean(axis=1)
    ''',
}


@pytest.fixture
def course(tmp_path):
    directory = tmp_path / "course" / "ps0_small"
    (directory / "submissions").mkdir(parents=True)
    (directory / "notebook.py").write_text(NOTEBOOK)
    (directory / "checks.py").write_text(CHECKS)
    for name, text in SUBMISSIONS.items():
        (directory / "submissions" / f"{name}.py").write_text(dedent(text).lstrip())
    return directory.parent
