"""The check framework: what a student's function can do wrong, and what the student is told."""

import json
import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnlab.checks import InKernel, ProblemSet, Report, Wrong, agree, holds
from bnlab.checks.report import JSON_MIME


@pytest.fixture
def problem_set():
    demo = ProblemSet("demo")
    moments = demo.question("moments(x) -> mean, var", points=10)

    @moments.part("the mean", weight=1)
    def _(student, rng):
        x = rng.normal(3.0, 2.0, size=(6, 4))
        mean, _ = student(x)
        agree("mean", mean, x.mean(axis=0), mistakes={"Average over the batch, axis 0.": x.mean(axis=1)})

    @moments.part("the variance", weight=3)
    def _(student, rng):
        x = rng.normal(3.0, 2.0, size=(6, 4))
        _, var = student(x)
        agree("var", var, x.var(axis=0), mistakes={"It divides by m - 1.": x.var(axis=0, ddof=1)})

    moments.keeps_its_inputs(lambda rng: (rng.normal(size=(3, 2)),), weight=1)
    return demo


def right(x):
    return x.mean(axis=0), x.var(axis=0)


def test_right_answer_gets_all_points(problem_set):
    report = problem_set.check("moments", right)
    assert report.score == 10 and report.status == "right" and report.lost == set()


class Fake:
    """Has a shape and compares equal to everything."""

    shape, dtype, ndim, size = (4,), np.dtype(float), 1, 4

    def __eq__(self, other):
        return True

    def __array__(self, *args, **kwargs):
        raise AssertionError("the checks must not ask a student's object to turn itself into an array")


class Subclass(np.ndarray):
    def __eq__(self, other):
        return np.ones(self.shape, bool)


def _unanswered(x):
    raise NotImplementedError


def _changes_input(x):
    x -= x.mean(axis=0)
    return right(x)


def _prints_a_megabyte(x):
    print("y" * 1_000_000)
    return right(x)


def _endless(x):
    while True:
        time.sleep(0.01)


def _endless_swallowing(x):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


def _exits(x):
    raise SystemExit(0)


@pytest.mark.parametrize(
    "work, score, phrase",
    [
        (_unanswered, 0, "Not answered yet"),
        (lambda x: 1 / 0, 0, "raised ZeroDivisionError: division by zero"),
        (lambda x: None, 0, "returned None, expected mean and var"),
        (lambda x: x.mean(axis=0), 0, "returned one array of shape (4,), expected 2 values"),
        (lambda x: (1.0, 2.0, 3.0), 0, "returned 3 values, expected 2"),
        (lambda x: (x.mean(axis=1), x.var(axis=0)), 8, "Average over the batch, axis 0"),
        (lambda x: (x.mean(axis=0)[:2], x.var(axis=0)), 8, "mean has shape (2,), expected (4,)"),
        (lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1)), 4, "It divides by m - 1"),
        (lambda x: (list("four"), x.var(axis=0)), 8, "mean is a list, expected a NumPy array of shape (4,)"),
        (lambda x: ([[1.0], [2.0, 3.0]], x.var(axis=0)), 8, "mean is a list, expected a NumPy array of shape (4,)"),
        (lambda x: ("three", x.var(axis=0)), 8, "mean is a str"),
        (lambda x: (None, x.var(axis=0)), 8, "mean is None"),
        (lambda x: (True, x.var(axis=0)), 8, "mean is a bool"),
        (lambda x: (3.0, x.var(axis=0)), 8, "mean has shape (), expected (4,)"),
        (lambda x: (x.mean(axis=0) + 0j, x.var(axis=0)), 8, "dtype complex128"),
        (lambda x: (x.mean(axis=0).astype(np.float16), x.var(axis=0)), 8, "float16"),
        (lambda x: (x.mean(axis=0) * np.nan, x.var(axis=0)), 8, "mean[0] is nan"),
        (lambda x: (x.mean(axis=0) / 0, x.var(axis=0)), 8, "inf"),
        (lambda x: (Fake(), x.var(axis=0)), 8, "mean is a Fake"),
        (lambda x: (x.mean(axis=0).view(Subclass), x.var(axis=0)), 8, "mean is a Subclass"),
        (lambda x: (x.mean(axis=0).astype(object), x.var(axis=0)), 8, "mean is a ndarray"),
        (_changes_input, 6, "changed its input x in place"),
        (_exits, 0, "called exit()"),
        (3.0, 0, "moments is a float, expected a function"),
    ],
)
def test_what_can_go_wrong_has_its_own_message(problem_set, work, score, phrase):
    report = problem_set.check("moments", work)
    assert phrase in report.messages
    assert report.score == score


@pytest.mark.parametrize("work", [_endless, _endless_swallowing])
def test_a_function_that_never_returns_is_stopped_once(problem_set, work):
    report = problem_set.questions["moments"].grade(InKernel(work, seconds=0.2))
    assert "did not finish: no answer within 0.2 s" in report.messages
    assert report.score == 0 and len(report.parts) == 1


def test_changed_input_is_named_and_costs_its_part_alone(problem_set):
    def in_place(x):
        mean, var = right(x)
        x -= mean
        return mean, var

    report = problem_set.check("moments", in_place)
    assert report.lost == {"leaves its inputs as they were"} and report.score == 8
    assert "changed its input x in place" in report.messages


def test_nonsense_is_not_paid_for_leaving_its_inputs_alone(problem_set):
    assert problem_set.check("moments", lambda x: (x, x)).score == 0


def test_printing_is_shown_shortened_and_costs_nothing(problem_set, capfd):
    report = problem_set.check("moments", _prints_a_megabyte)
    assert report.score == 10
    assert len(report._repr_mimebundle_()["text/html"]) < 20_000
    assert capfd.readouterr() == ("", "")


def test_a_warning_is_shown_and_costs_nothing(problem_set, capfd):
    def warns(x):
        warnings.warn("deprecated, they say", DeprecationWarning, stacklevel=1)
        np.log(np.zeros(1))
        return right(x)

    report = problem_set.check("moments", warns)
    assert report.score == 10
    html = report._repr_mimebundle_()["text/html"]
    assert "deprecated, they say" in html and "divide by zero" in html
    assert capfd.readouterr() == ("", "")  # nbgrader scores a cell that writes to standard error 0


def test_the_state_a_student_leaves_behind_does_not_matter(problem_set):
    before = problem_set.check("moments", lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1)))
    np.random.seed(99)  # noqa: NPY002 (a student may)
    with np.errstate(all="raise"), np.printoptions(precision=1), warnings.catch_warnings():
        warnings.simplefilter("error")
        after = problem_set.check("moments", lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1)))
        assert problem_set.check("moments", lambda x: (np.log(np.zeros(1)), right(x))[1]).score == 10
    assert after.score == before.score


def test_cases_come_from_the_seed_the_question_and_the_part_alone(problem_set):
    seen = []

    def spy(x):
        seen.append(x.copy())
        return right(x)

    question = problem_set.questions["moments"]
    for seed in (0, 0, 1):
        question.grade(InKernel(spy), seed=seed, cases=2)
    first, second, other = np.split(np.arange(len(seen)), 3)
    assert all(np.array_equal(seen[i], seen[j]) for i, j in zip(first, second, strict=True))
    assert not any(np.array_equal(seen[i], seen[j]) for i, j in zip(first, other, strict=True))
    assert not np.array_equal(seen[0], seen[1])


def test_seed_and_cases_of_the_grading_environment_are_used(problem_set, monkeypatch):
    seen = []
    monkeypatch.setenv("BNLAB_SEED", "7")
    monkeypatch.setenv("BNLAB_CASES", "5")
    problem_set.check("moments", lambda x: seen.append(x) or right(x))
    expected = []
    problem_set.questions["moments"].grade(InKernel(lambda x: expected.append(x) or right(x)), seed=7, cases=5)
    assert len(seen) == 15 and all(map(np.array_equal, seen, expected))


def test_plain_text_is_the_score_as_nbgrader_reads_it(problem_set):
    utils = pytest.importorskip("nbgrader.utils", reason="nbgrader is not installed: pip install 'bnlab[grading]'")
    from nbformat.v4 import new_code_cell, new_output

    for work, score in [(right, 10.0), (_unanswered, 0.0), (lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1)), 4.0)]:
        bundle = problem_set.check("moments", work)._repr_mimebundle_()
        cell = new_code_cell(outputs=[new_output("execute_result", data=bundle)])
        cell.metadata["nbgrader"] = {"grade": True, "solution": False, "points": 10, "grade_id": "moments"}
        assert utils.determine_grade(cell) == (score, 10.0)


def test_report_is_plain_data_and_escapes_what_students_write(problem_set):
    def hostile(x):
        print("<script>alert(1)</script>")
        raise ValueError("<img src=x onerror=alert(2)>")

    bundle = problem_set.check("moments", hostile)._repr_mimebundle_()
    assert json.loads(json.dumps(bundle[JSON_MIME])) == bundle[JSON_MIME]
    assert "<script" not in bundle["text/html"] and "<img" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"] and "&lt;img" in bundle["text/html"]


def test_printed_report_names_score_parts_and_hint(problem_set):
    text = str(problem_set.check("moments", lambda x: (x.mean(axis=0), x.var(axis=0, ddof=1))))
    assert "moments: 4 of 10 points, partly right" in text
    assert "[ok] the mean" in text and "[--] the variance" in text
    assert "Hint: It divides by m - 1." in text and "x = float64 array of shape (6, 4)" in text


def test_unknown_question_names_the_ones_there_are(problem_set):
    with pytest.raises(ValueError, match=r"no question 'momnets'; its questions are moments"):
        problem_set.check("momnets", right)


@pytest.mark.parametrize("signature", ["moments", "moments(x)", "moments(x) ->", "mo ments(x) -> y"])
def test_unreadable_signature(signature):
    with pytest.raises(ValueError, match="does not read like"):
        ProblemSet("demo").question(signature, points=1)


def test_two_of_the_same_name():
    demo = ProblemSet("demo")
    question = demo.question("f(x) -> y", points=1)
    question.part("a")(lambda student, rng: None)
    with pytest.raises(ValueError, match="two parts called 'a'"):
        question.part("a")(lambda student, rng: None)
    with pytest.raises(ValueError, match="two questions called 'f'"):
        demo.question("f(x) -> y", points=1)


class TestObjects:
    """A class as the answer: the check holds a handle and asks for methods and attributes by name."""

    @pytest.fixture
    def scaler(self):
        question = ProblemSet("demo").question("Scaler() -> scaler", points=4)

        @question.part("fit, then transform")
        def _(student, rng):
            x = rng.normal(size=(5, 2))
            scaler = student()
            scaler.call("fit", x)
            agree("mean", scaler.get("mean"), x.mean(axis=0))
            agree("scaled", scaler.call("transform", x), x - x.mean(axis=0))

        return question

    def test_right(self, scaler):
        class Scaler:
            def fit(self, x):
                self.mean = x.mean(axis=0)
                return self

            def transform(self, x):
                return x - self.mean

        assert scaler.grade(InKernel(Scaler)).score == 4

    def test_missing_method_and_attribute(self, scaler):
        class NoFit:
            pass

        class NoMean:
            def fit(self, x):
                pass

        assert "Scaler.fit raised AttributeError" in scaler.grade(InKernel(NoFit)).messages
        assert "Scaler.mean raised AttributeError" in scaler.grade(InKernel(NoMean)).messages


class TestAgree:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_another_order_of_summation_agrees(self, dtype):
        x = np.random.default_rng(0).normal(5, 3, size=1000).astype(dtype)
        agree("sum", np.add.reduce(x[::-1]), math.fsum(x))

    @given(st.floats(1e-30, 1e30), st.floats(1e-3, 1.0), st.integers(0, 9))
    @settings(max_examples=60)
    def test_a_relative_error_of_a_thousandth_never_passes(self, scale, error, index):
        expected = scale * np.random.default_rng(index).uniform(0.5, 1.0, size=10)
        given = expected.copy()
        given[index] += error * expected.max()
        with pytest.raises(Wrong, match="largest difference"):
            agree("y", given, expected)

    def test_float32_is_not_held_to_float64(self):
        expected = np.linspace(1, 2, 50)
        agree("y", expected.astype(np.float32), expected)
        with pytest.raises(Wrong):
            agree("y", expected * (1 + 1e-6), expected)

    def test_numbers_may_come_as_any_kind_of_number(self):
        for value in (2, 2.0, np.float32(2), np.float64(2), np.array(2.0)):
            agree("n", value, 2.0)

    def test_lists_of_numbers_are_as_good_as_arrays(self):
        for value in ([1, 2.0], (1, 2), [np.float64(1), 2], [np.array(1.0), np.array(2.0)]):
            agree("y", value, np.array([1.0, 2.0]))
        agree("y", [[1.0, 2.0], [3.0, 4.0]], np.array([[1.0, 2.0], [3.0, 4.0]]))

    def test_nan_and_inf_where_they_are_right(self):
        agree("y", np.array([np.nan, np.inf, 1.0]), np.array([np.nan, np.inf, 1.0]))
        with pytest.raises(Wrong):
            agree("y", np.array([0.0, 1.0]), np.array([np.nan, 1.0]))

    def test_named_mistake_wins_over_the_general_hint(self):
        with pytest.raises(Wrong) as caught:
            agree("y", np.ones(3), np.zeros(3), mistakes={"ones!": np.ones(3)}, hint="general")
        assert caught.value.hint == "ones!"
        with pytest.raises(Wrong) as caught:
            agree("y", np.full(3, 2.0), np.zeros(3), mistakes={"ones!": np.ones(3)}, hint="general")
        assert caught.value.hint == "general"

    def test_holds(self):
        holds(True, "never shown")
        with pytest.raises(Wrong, match="shown"):
            holds(False, "shown")


def test_an_answer_that_the_check_did_not_foresee_loses_its_part_alone():
    question = ProblemSet("demo").question("f() -> y", points=2)
    question.part("reads it")(lambda student, rng: holds(student()["key"] == 1, "no"))
    question.part("calls it")(lambda student, rng: student())
    report = question.grade(InKernel(lambda: 3.0))
    assert report.score == 1 and "could not make sense of this answer (TypeError" in report.messages


def test_score_is_never_beyond_the_points():
    question = ProblemSet("demo").question("f(x) -> y", points=7)
    for i in range(3):
        question.part(str(i), weight=1 / 3)(lambda student, rng: agree("y", student(1.0), 1.0))
    report = question.grade(InKernel(lambda x: x))
    assert isinstance(report, Report) and report.score == 7 and repr(report) == "7"


def test_a_part_that_needs_few_cases_is_run_so_often():
    problem_set = ProblemSet("ps0_few")
    question = problem_set.question("echo(x) -> x", points=2)
    seen = []

    @question.part("once", most_cases=1)
    def _(student, rng):
        seen.append("once")
        student(1.0)

    @question.part("always")
    def _(student, rng):
        seen.append("always")
        student(1.0)

    assert question.grade(InKernel(lambda x: x), cases=4).score == 2
    assert seen == ["once", *["always"] * 4]


def test_mistakes_are_computed_only_for_a_wrong_answer():
    def never():
        raise AssertionError("nobody asked")

    agree("mean", np.array([1.0]), np.array([1.0]), mistakes=never)
    with pytest.raises(Wrong) as wrong:
        agree("mean", np.array([3.0]), np.array([1.0]), mistakes=lambda: {"That is three.": np.array([3.0])})
    assert wrong.value.hint == "That is three."


def test_many_calls_draw_as_single_ones_and_leave_the_generators_alone():
    single, kept = (InKernel(lambda: float(np.random.rand())) for _ in range(2))  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    alone = [single.call((), {}).value for _ in range(3)]
    with kept.many_calls():
        together = [kept.call((), {}).value for _ in range(3)]
    assert alone == together and len(set(alone)) == 3
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
