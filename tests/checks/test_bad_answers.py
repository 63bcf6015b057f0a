"""Everything an answer can do wrong, shown on questions of problem sets 1 and 2: each loses what it should and no more,
and says so in words of its own.

What is promised: a function that raises, returns None, the wrong shape, dtype or type, NaN, changes its input, prints a
megabyte or never returns gets a clear message and 0 for that check alone.
"""

import os
import random
import signal
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from bnlab.checks import InKernel, load_problem_set

EXERCISES = Path(__file__).parents[2] / "exercises"
SCALING = load_problem_set(EXERCISES / "ps1_scaling" / "checks.py")
FORWARD = load_problem_set(EXERCISES / "ps2_forward" / "checks.py")

MEAN = "mean of each feature"
VAR = "variance of each feature, divided by m"
LARGE = "variance of a feature with a large mean"
INPUTS = "leaves its inputs as they were"
ALL = {MEAN, VAR, LARGE, INPUTS}

FLOOD = 1_000_000


def right(x):
    mean = x.mean(axis=0)
    return mean, ((x - mean) ** 2).mean(axis=0)


def grade(work, name="batch_moments", problem_set=FORWARD, seconds=5.0):
    """Grade by the question itself, as any oracle would, with a time limit that a test can wait for."""
    question = problem_set.questions[name]
    return question.grade(InKernel(work, seconds, problem_set.module, question.borrowed))


# ------------------------------------------------------------------------------------- answers that give no value
def _unanswered(x):
    raise NotImplementedError


def _raises(x):
    return right(x / np.zeros(0))


def _raises_strange(x):
    raise type("Überraschung", (Exception,), {})("\x1b[31mred\x1b[0m <b>bold</b>")


def _raises_without_words(x):
    raise ValueError


class _OfItsOwn(BaseException):
    """Not an Exception: ``except Exception`` would let it pass."""


def _raises_of_its_own(x):
    raise _OfItsOwn("something else")


class _Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def _raises_unspeakable(x):
    raise _Unspeakable


def _wrong_name(x):
    return x.average(axis=0), x.var(axis=0)


def _recursion(x):
    return _recursion(x)


def _exits(x):
    sys.exit("done")


def _exits_as_interactive(x):
    raise SystemExit


def _no_arguments():
    return 1, 2


def _too_many_arguments(x, axis):
    return right(x)


def _endless(x):
    while True:
        pass


def _endless_and_deaf(x):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


def _endless_and_stone_deaf(x):
    while True:
        try:
            time.sleep(0.01)
        except:  # noqa: E722 (students write this)
            pass


def _never_wakes(x):
    time.sleep(1000)


@pytest.mark.parametrize(
    "work, phrase",
    [
        (_unanswered, "Not answered yet."),
        (_raises, "batch_moments raised ValueError: operands could not be broadcast"),
        (_raises_strange, "batch_moments raised Überraschung: "),
        (_raises_without_words, "batch_moments raised ValueError"),
        (_raises_of_its_own, "batch_moments raised _OfItsOwn: something else"),
        (_raises_unspeakable, "batch_moments raised _Unspeakable: (its message can't be shown)"),
        (_wrong_name, "raised AttributeError: 'numpy.ndarray' object has no attribute 'average'"),
        (_recursion, "batch_moments raised RecursionError: maximum recursion depth exceeded"),
        (_exits, "batch_moments called exit()."),
        (_exits_as_interactive, "batch_moments called exit()."),
        (_no_arguments, "takes 0 positional arguments but 1 was given"),
        (_too_many_arguments, "missing 1 required positional argument: 'axis'"),
        (lambda x: None, "batch_moments returned None, expected mean and var."),
        (lambda x: right(x)[0], "batch_moments returned one array of shape "),
        (lambda x: (*right(x), x), "batch_moments returned 3 values, expected 2: mean and var."),
        (lambda x: right(x)[0].mean(), "batch_moments returned one number, expected 2 values: mean and var."),
        (lambda x: {"mean": right(x)[0], "var": right(x)[1]}, "returned one dict, expected 2 values"),
        (lambda x: (value for value in right(x)), "returned one object of type generator, expected 2 values"),
        (lambda x: right, "returned one object of type function, expected 2 values"),
    ],
)
def test_an_answer_without_the_promised_values_scores_nothing(work, phrase, capfd):
    report = grade(work)
    assert phrase in report.messages
    assert report.score == 0
    assert report.status == ("not answered" if work is _unanswered else "wrong")
    assert all(part.tried.startswith("batch_moments(x)") for part in report.parts)  # the call that showed it
    assert capfd.readouterr() == ("", "")  # nbgrader would score a cell that writes to standard error 0


@pytest.mark.parametrize("work", [_endless, _endless_and_deaf, _endless_and_stone_deaf, _never_wakes])
def test_an_answer_that_never_returns_is_waited_for_once(work):
    report = grade(work, seconds=0.2)
    assert "batch_moments did not finish: no answer within 0.2 s." in report.messages
    assert "a loop that never ends" in report.messages
    assert report.score == 0 and len(report.parts) == 1


def test_an_answer_that_is_only_slow_for_one_part_loses_the_rest_but_keeps_what_it_has():
    def slow_for_large_means(x):
        while abs(x).max() > 1000:
            pass
        return right(x)

    report = grade(slow_for_large_means, seconds=1.0)
    assert [part.passed for part in report.parts] == [True, True, False]
    assert report.status == "partly right" and 0 < report.score < report.points


# ------------------------------------------------------------------------------------ values of the wrong make
@pytest.mark.parametrize(
    "spoil, phrase",
    [
        (lambda mean: None, "mean is None, expected a NumPy array of shape "),
        (lambda mean: mean[:-1], "mean has shape "),
        (lambda mean: mean[None], "It has the shape (1, D). One number per feature is asked"),
        (lambda mean: mean.mean(), "mean has shape (), expected "),
        (lambda mean: mean.astype(np.complex128), "mean has dtype complex128, expected real numbers such as float64."),
        (lambda mean: mean > 0, "mean has dtype bool, expected real numbers such as float64."),
        (lambda mean: mean.astype(np.float16), "mean has dtype float16, expected float32 or float64."),
        (lambda mean: mean.astype(str), "mean is a ndarray, expected a NumPy array of shape "),
        (lambda mean: mean.astype(object), "mean is a ndarray, expected a NumPy array of shape "),
        (lambda mean: str(mean), "mean is a str, expected a NumPy array of shape "),
        (lambda mean: [str(value) for value in mean], "mean is a list, expected a NumPy array of shape "),
        (lambda mean: dict(enumerate(mean)), "mean is a dict, expected a NumPy array of shape "),
        (lambda mean: set(mean), "mean is a set, expected a NumPy array of shape "),
        (lambda mean: mean.tolist, "mean is a builtin_function_or_method, expected a NumPy array of shape "),
        (lambda mean: np.ma.masked_array(mean), "mean is a MaskedArray, expected a NumPy array of shape "),
        (lambda mean: np.matrix(mean), "mean is a matrix, expected a NumPy array of shape "),
        (lambda mean: (mean, mean), "mean is a tuple, expected a NumPy array of shape "),
        (lambda mean: np.full_like(mean, np.nan), "mean[0] is nan, expected "),
        (lambda mean: np.where(np.arange(len(mean)) == 1, np.inf, mean), "mean[1] is inf, expected "),
        (lambda mean: mean * 1e300 * 1e300, "inf"),
        (lambda mean: np.round(mean), "largest difference at mean["),
        (lambda mean: np.zeros((1500, 1500)), "mean has shape (1500, 1500), expected "),
    ],
)
def test_a_mean_of_the_wrong_make_costs_the_part_about_the_mean(spoil, phrase, capfd):
    def work(x):
        mean, var = right(x)
        return spoil(mean), var

    report = grade(work)
    assert phrase in report.messages
    assert report.lost == {MEAN}
    assert report.score == report.points - 4
    assert len(report.messages) < 2_000  # a huge array is described, not printed
    assert capfd.readouterr() == ("", "")


def test_lists_and_numbers_of_any_kind_are_no_mistake():
    assert grade(lambda x: [list(value) for value in right(x)]).lost == set()
    assert grade(lambda x: (right(x)[0].tolist(), right(x)[1].astype(np.longdouble))).lost == set()
    assert grade(lambda shape: tuple(np.float32(n) for n in (2 * shape[1], 2 * shape[1], np.prod(shape) / shape[1])),
                 "layer_sizes").lost == set()  # fmt: skip


def test_a_list_that_holds_itself_is_told_to_be_nonsense():
    def endless_list(x):
        nested = []
        nested.append(nested)
        return nested

    report = grade(endless_list)
    assert report.score == 0 and "batch_moments raised RecursionError" in report.messages


# --------------------------------------------------------------------------------------------- side effects
def _changes_its_input(x):
    mean, var = right(x)
    x -= mean
    return mean, var


def test_a_changed_input_is_named_and_costs_its_part_alone():
    report = grade(_changes_its_input)
    assert "batch_moments changed its input x in place." in report.messages
    assert "make a new array" in report.messages
    assert report.lost == {INPUTS} and report.score == report.points - 1


def test_a_change_does_not_reach_the_parts_that_come_later():
    seen = []

    def work(x):
        seen.append(x.copy())
        x[:] = 7
        return right(seen[-1])

    assert grade(work).lost == {INPUTS}
    assert not any((x == 7).any() for x in seen)


def test_a_megabyte_of_output_is_cut_short_and_costs_nothing(capfd):
    def floods(x):
        print("y" * FLOOD)
        sys.stderr.write("z" * FLOOD)
        return right(x)

    report = grade(floods)
    assert report.lost == set()
    html = report._repr_mimebundle_()["text/html"]
    assert "Your code printed:" in html and "yyy" in html and "[...]" in html
    assert len(html) < 20_000 and len(str(report.to_dict())) < 40_000
    assert capfd.readouterr() == ("", "")


def test_a_closed_output_costs_nothing(capfd):
    def closes(x):
        print("last words")
        sys.stdout.close()
        return right(x)

    report = grade(closes)
    assert report.lost == set() and "last words" in report.parts[0].printed
    print("still open")
    assert capfd.readouterr() == ("still open\n", "")


def test_a_megabyte_of_error_message_and_a_thousand_warnings_are_cut_short():
    def raises(x):
        for number in range(1000):
            warnings.warn(f"warning {number} {'w' * 5000}", stacklevel=1)
        raise ValueError("y" * FLOOD)

    report = grade(raises)
    assert report.score == 0 and "batch_moments raised ValueError: yyy" in report.messages
    assert all(len(part.message) < 2_000 and part.warned[-1] == "and 990 more" for part in report.parts)
    assert len(report._repr_mimebundle_()["text/html"]) < 200_000


def test_a_warning_is_repeated_once_and_costs_nothing(capfd):
    def warns(x):
        warnings.warn("an old habit", FutureWarning, stacklevel=1)
        np.log(np.zeros(3)), np.zeros(3) / np.zeros(3), np.exp(np.full(3, 1e9))
        return right(x)

    report = grade(warns)
    assert report.lost == set()
    html = report._repr_mimebundle_()["text/html"]
    assert html.count("an old habit") == 1 and "this costs nothing" in html
    for text in ("divide by zero", "invalid value", "overflow"):
        assert text in html
    assert capfd.readouterr() == ("", "")


def test_state_that_an_answer_leaves_behind_is_put_back_or_without_effect(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # restores the working directory in the end
    clean = grade(lambda x: (right(x)[0], x.var(axis=0, ddof=1)))
    options, filters, before = np.get_printoptions(), list(warnings.filters), np.geterr()
    handler = signal.getsignal(signal.SIGALRM)

    def leaves_a_mess(x):
        np.seterr(all="raise")
        np.random.seed(0)  # noqa: NPY002 (a student may)
        random.seed(0)
        warnings.simplefilter("error")
        os.chdir("/")
        sys.stdout = sys.stderr = None
        return right(x)[0], x.var(axis=0, ddof=1)

    messy = grade(leaves_a_mess)
    assert messy == clean
    assert np.geterr() == before and list(warnings.filters) == filters
    assert np.get_printoptions() == options
    assert sys.stdout is not None and sys.stderr is not None
    assert signal.getsignal(signal.SIGALRM) is handler


def test_state_that_other_cells_leave_behind_is_without_effect():
    clean = grade(lambda x: (right(x)[0], x.var(axis=0, ddof=1)))
    filters, options, state = list(warnings.filters), np.get_printoptions(), np.random.get_state()  # noqa: NPY002
    old = np.seterr(all="raise")
    try:
        np.random.seed(0)  # noqa: NPY002
        warnings.simplefilter("error")
        assert grade(lambda x: (right(x)[0], x.var(axis=0, ddof=1))) == clean
        assert grade(lambda x: (np.log(np.zeros(2)), np.float64(1e-300) * 1e-300, right(x))[-1]).lost == set()
    finally:
        np.seterr(**old)
        np.random.set_state(state)  # noqa: NPY002
        np.set_printoptions(**options)
        warnings.filters[:] = filters


def test_names_that_an_answer_shadows_or_patches_cost_it_nothing():
    own = types.ModuleType("a notebook")
    code = """
import numpy as np
sum = max = list = abs = None
mean, var, agree, holds, student, rng = range(6)


def batch_moments(x):
    return np.add.reduce(x) / len(x), np.square(x - np.add.reduce(x) / len(x)).mean(0)
"""
    exec(code, vars(own))
    assert grade(own.batch_moments).lost == set()


def test_functions_of_numpy_that_an_answer_replaces_by_right_ones_cost_it_nothing(monkeypatch):
    def batch_moments(x):
        def my_var(a, axis=None, **options):
            return right(np.asarray(a))[1]

        monkeypatch.setattr(np, "var", my_var)
        monkeypatch.setattr(np.random, "seed", None)
        return right(x)[0], np.var(x, axis=0)

    assert grade(batch_moments).lost == set()


# ------------------------------------------------------------------------------ one thing wrong, one check lost
def test_a_missing_argument_costs_the_part_that_needs_it_alone():
    def min_max(x, low, high):
        width = high - low
        return np.where(width == 0, 0.0, (x - low) / np.where(width == 0, 1, width))

    report = grade(min_max, "min_max", SCALING)
    assert report.lost == {"clips when asked"}
    assert "unexpected keyword argument 'clip'" in report.messages


def test_an_error_for_some_inputs_costs_the_parts_that_draw_them():
    def layer_sizes(shape):
        n, c, h, w = shape
        return 2 * c, 2 * c, n * h * w

    report = grade(layer_sizes, "layer_sizes")
    assert report.lost == {"any number of position axes"}
    assert "not enough values to unpack" in report.messages and "shape = (" in report.messages


class TestClasses:
    """The same where the answer is a class."""

    class Right:
        def fit(self, x):
            self.mean, self.std = x.mean(axis=0), x.std(axis=0)

        def transform(self, x):
            return np.where(self.std == 0, 0.0, (x - self.mean) / np.where(self.std == 0, 1, self.std))

        def inverse_transform(self, z):
            return z * self.std + self.mean

    def with_method(self, **methods):
        return type("Standardizer", (self.Right,), methods)

    def test_right(self):
        assert grade(self.Right, "Standardizer", SCALING).lost == set()

    def test_a_method_that_fails_costs_the_parts_that_call_it(self):
        def unfinished(self, z):
            return z * undefined + self.mean  # noqa: F821

        report = grade(self.with_method(inverse_transform=unfinished), "Standardizer", SCALING)
        assert report.lost == {"inverse_transform undoes transform", INPUTS}
        assert "Standardizer.inverse_transform raised NameError: name 'undefined' is not defined" in report.messages

    def test_a_method_that_returns_nothing(self):
        report = grade(self.with_method(transform=lambda self, x: None), "Standardizer", SCALING)
        assert (
            "scaler.transform(new) is None" in report.messages
            and "Does the method return its result?" in report.messages
        )
        assert {"fit stores mean and std", "inverse_transform undoes transform"} & report.lost == set()

    def test_a_method_that_is_missing(self):
        incomplete = type("Standardizer", (), {"fit": self.Right.fit, "transform": self.Right.transform})
        report = grade(incomplete, "Standardizer", SCALING)
        assert report.lost == {"inverse_transform undoes transform", INPUTS}
        assert "'Standardizer' object has no attribute 'inverse_transform'" in report.messages

    def test_a_method_that_never_returns(self):
        def endless(self, x):
            while True:
                pass

        report = grade(self.with_method(transform=endless), "Standardizer", SCALING, seconds=1.0)
        assert "Standardizer.transform did not finish" in report.messages
        assert [part.passed for part in report.parts] == [True, False]

    def test_an_object_in_the_place_of_a_class_or_of_an_answer(self):
        assert "Standardizer is a Right, expected a function." in SCALING.check("Standardizer", self.Right()).messages
        report = grade(lambda: 3.0, "Standardizer", SCALING)
        assert report.score == 0 and "did not give an object with methods" in report.messages


def test_every_kind_of_failure_has_its_own_message():
    kinds = {
        "raises": _raises_without_words,
        "nothing": lambda x: None,
        "too few": lambda x: right(x)[0],
        "shape": lambda x: (right(x)[0][:-1], right(x)[1]),
        "dtype": lambda x: (right(x)[0] + 0j, right(x)[1]),
        "type": lambda x: ("mean", right(x)[1]),
        "nan": lambda x: (right(x)[0] * np.nan, right(x)[1]),
        "input": _changes_its_input,
        "endless": _endless,
        "exit": _exits,
        "unanswered": _unanswered,
        "values": lambda x: (right(x)[0] + 1, right(x)[1]),
    }
    first_lines = {}
    for kind, work in kinds.items():
        report = grade(work, seconds=0.2 if work is _endless else 5.0)
        first_lines[kind] = next(part.message for part in report.parts if not part.passed).splitlines()[0]
    assert len(set(first_lines.values())) == len(kinds), first_lines
