"""Checks of torch code: tensors as plain data, objects made by name, gradients, and borrowed answers."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from bnlab.checks import BATCH_NORMS, ProblemSet, Wrong, agree, holds


def one_question(signature, **options):
    """Decorator: a problem set with one question, made of one part."""

    def declare(run):
        problem_set = ProblemSet("a_set")
        question = problem_set.question(signature, 10, **options)
        question.part("the part")(run)
        return lambda work: problem_set.check(question.name, work)

    return declare


class TestTensors:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_tolerance_follows_the_dtype(self, dtype):
        exact = torch.linspace(0.1, 1, 7, dtype=torch.float64)
        agree("y", exact.to(dtype), exact)
        step = torch.finfo(dtype).eps
        with pytest.raises(Wrong):
            agree("y", (exact * (1 + 60 * step + 1e-6)).to(dtype), exact, tolerance=step)
        with pytest.raises(Wrong, match="largest difference"):
            agree("y", (exact * 1.1).to(dtype), exact)

    def test_a_tensor_is_demanded_where_a_tensor_is_expected(self):
        with pytest.raises(Wrong, match="expected a torch tensor of shape"):
            agree("y", np.ones(3), torch.ones(3))
        agree("y", torch.ones(3), np.ones(3))
        agree("y", 2.0, torch.tensor(2.0))

    def test_dtype_memory_format_and_grad_flag_reach_the_function(self):
        @one_question("f(x, w) -> y")
        def check(student, rng):
            x = torch.ones(2, 3, 4, 5, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
            y = student(x, torch.ones(3, requires_grad=True))
            holds(y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last), "format lost")
            holds(not y.requires_grad, "the graph came back")

        def work(x, w):
            assert x.is_contiguous(memory_format=torch.channels_last) and w.requires_grad and w.is_leaf
            return x * w.view(1, 3, 1, 1).to(x.dtype)

        assert check(work).score == 10

    def test_a_tensor_changed_in_place_is_named(self):
        problem_set = ProblemSet("a_set")
        question = problem_set.question("f(x) -> y", 10)
        question.part("value")(lambda student, rng: agree("y", student(torch.ones(3)), 2 * torch.ones(3)))
        question.keeps_its_inputs(lambda rng: (torch.ones(3),))
        report = problem_set.check("f", lambda x: x.mul_(2))
        assert report.lost == {"leaves its inputs as they were"} and "changed its input x" in report.messages

    def test_what_a_student_set_globally_does_not_matter(self):
        @one_question("f(x) -> y")
        def check(student, rng):
            _, (gradient,) = student.vjp((torch.ones(3),), torch.ones(3))
            agree("gradient", gradient, 2 * torch.ones(3))

        def work(x):
            return x * torch.tensor([2.0, 2.0, 2.0]).to(torch.zeros(1).dtype)

        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        try:
            assert check(work).score == 10
            assert torch.get_default_dtype() == torch.float64 and not torch.is_grad_enabled()
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_grad_enabled(True)


class TestGradients:
    def test_first_and_second_derivatives_are_those_of_autograd(self):
        @one_question("f(x, g) -> y")
        def check(student, rng):
            x, g, dy, v = (torch.tensor(rng.normal(size=(4, 3)), requires_grad=True) for _ in range(4))
            y, gradients, second = student.vjp((x, g), dy, directions=(v, None))
            expected = (x**2 * g).sin()
            agree("y", y, expected)
            first = torch.autograd.grad(expected, (x, g), dy, create_graph=True)
            for name, given, exact in zip("xg", gradients, first, strict=True):
                agree(name, given, exact)
            for given, exact in zip(second, torch.autograd.grad((first[0] * v).sum(), (x, g, dy)), strict=True):
                agree("second", given, exact)

        assert check(lambda x, g: (x**2 * g).sin()).score == 10
        assert check(lambda x, g: (x.detach() ** 2 * g).sin()).score == 0

    def test_a_list_of_outputs_is_as_good_as_a_tuple(self):
        @one_question("f(x) -> y, z")
        def check(student, rng):
            _, (gradient,) = student.vjp((torch.ones(3),), (torch.ones(3), torch.ones(3)))
            agree("gradient", gradient, 5 * torch.ones(3))

        assert check(lambda x: [2 * x, 3 * x]).score == 10

    def test_no_graph_gives_none(self):
        @one_question("f(x) -> y")
        def check(student, rng):
            _, (gradient,), second = student.vjp((torch.ones(3),), torch.ones(3), directions=(torch.ones(3),))
            holds(gradient is None and second == (None, None), f"{gradient} {second}")

        assert check(lambda x: x.detach() * 2).score == 10

    def test_an_autograd_function_is_applied_and_may_refuse_second_derivatives(self):
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x**2

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx, dy):
                (x,) = ctx.saved_tensors
                return 2 * x * dy

        @one_question("Square(x) -> y")
        def check(student, rng):
            _, (gradient,) = student.vjp((torch.ones(3),), torch.ones(3))
            agree("gradient", gradient, 2 * torch.ones(3))
            *_, second = student.vjp((torch.ones(3),), torch.ones(3), directions=(torch.ones(3),))
            agree("second", second[0], 2 * torch.ones(3), hint="It can be differentiated once only.")

        report = check(Square)
        assert report.score == 0 and "second is None" in report.messages and "once only" in report.messages

    def test_a_module_s_parameters_have_gradients_by_name(self):
        @one_question("Layer(d) -> layer")
        def check(student, rng):
            layer = student(3)
            x, dy = torch.ones(2, 3), torch.ones(2, 3)
            layer.call("load_state_dict", {"weight": torch.full((3,), 5.0)})
            y, gradients = layer.vjp((x,), dy)
            agree("y", y, torch.full((2, 3), 5.0))
            agree("dx", gradients["0"], torch.full((2, 3), 5.0))
            agree("dweight", gradients["weight"], torch.full((3,), 2.0))
            holds(layer.get("weight.requires_grad") is True, "frozen")

        class Layer(torch.nn.Module):
            def __init__(self, d):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.ones(d))

            def forward(self, x):
                return x * self.weight

        assert check(Layer).score == 10


class TestObjects:
    def test_models_are_made_on_the_other_side_and_passed(self):
        @one_question("convolutions(model, others) -> n")
        def check(student, rng):
            model = student.make("bnlab.models:small_vgg", width=2)
            agree("n", student(model, [model, {"again": model}]), 18)
            holds("<small_vgg>" in student.tried, student.tried)
            agree("state", model.call("state_dict")["classifier.bias"], torch.zeros(10))

        def convolutions(model, others):
            models = [model, others[0], others[1]["again"]]
            return sum(isinstance(module, torch.nn.Conv2d) for one in models for module in one.modules())

        assert check(convolutions).score == 10

    def test_functions_are_passed_by_name(self):
        @one_question("apply(f, x) -> y")
        def check(student, rng):
            agree("y", student(student.the("numpy:sqrt"), 4.0), 2.0)

        assert check(lambda f, x: f(x)).score == 10

    @pytest.mark.parametrize("name", ["os:getcwd", "subprocess:run", "builtins:eval"])
    def test_nothing_but_the_course_and_its_libraries_can_be_named(self, name):
        @one_question("apply(f) -> y")
        def check(student, rng):
            student.make(name)

        assert "neither the checks' own nor of bnlab, numpy, torch" in check(lambda f: f).messages


class TestBorrowed:
    @pytest.mark.parametrize(
        ("work", "named"),
        [
            (lambda x: torch.nn.functional.batch_norm(x, None, None, training=True), "torch.nn.functional.batch_norm"),
            (lambda x: torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False), "torch.batch_norm"),
            (lambda x: torch.nn.BatchNorm1d(3)(x), "torch.nn.modules.batchnorm"),
            (lambda x: __import__("bnlab").BatchNorm1d(3)(x), "bnlab.modules"),
            (lambda x: torch.tensor(np.cov(x.numpy())), "numpy.cov"),
            (lambda x: torch.tensor(np.corrcoef(x.numpy())), "numpy.cov"),  # a detour
        ],
    )
    def test_a_call_is_reported_and_costs_nothing(self, work, named):
        @one_question("f(x) -> y", borrowed=(*BATCH_NORMS, "numpy.cov"))
        def check(student, rng):
            student(torch.tensor(rng.normal(size=(4, 3)), dtype=torch.float32))

        report = check(work)
        assert report.score == 10 and named in report.borrowed
        assert "already is the answer" in str(report) and "already is the answer" in report._html()
        assert report.to_dict()["borrowed"] == list(report.borrowed)

    def test_own_code_is_not(self):
        @one_question("f(x) -> y")
        def check(student, rng):
            student(torch.tensor(rng.normal(size=(4, 3))))

        report = check(lambda x: (x - x.mean(0)) / x.std(0))
        assert report.borrowed == () and "answer" not in str(report)

    def test_what_a_question_allows_is_not(self):
        @one_question("f(x) -> y", borrowed=())
        def check(student, rng):
            student(torch.ones(4, 3))

        assert check(lambda x: torch.nn.BatchNorm1d(3)(x)).borrowed == ()

    def test_watching_imports_nothing(self):
        code = (
            "import sys; from bnlab.checks import ProblemSet; problem_set = ProblemSet('a_set');"
            "problem_set.question('f(x) -> y', 1).part('p')(lambda student, rng: student(1.0));"
            "problem_set.check('f', lambda x: x); assert 'torch' not in sys.modules"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_answer_that_draws_from_the_global_generators_comes_out_the_same_every_time():
    drawn = []

    @one_question("f(x) -> y")
    def check(student, rng):
        drawn.append([float(student(1.0)), float(student(1.0))])

    def work(x):
        return random.random() + np.random.random() + torch.rand(()).item()  # noqa: NPY002

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    check(work)
    first = list(drawn)
    assert len({number for pair in first for number in pair}) == 6, "every call draws other numbers"
    torch.rand(3)
    drawn.clear()
    check(work)
    assert drawn == first
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]  # noqa: NPY002
