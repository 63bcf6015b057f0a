"""One submission, graded from outside: what it says is a score, what it does is a status, and it is the same again."""

import ast
import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from conftest import NAME

from bnlab.exercises.source import find_sources
from bnlab.exercises.verify import stub
from bnlab.grading.confine import Limits
from bnlab.grading.grade import Grader
from bnlab.grading.material import Material
from bnlab.grading.record import Record
from bnlab.grading.sandbox import Sandbox

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap"
)
COURSE = Path(__file__).parents[2] / "exercises"
LIMITS = Limits(cell_seconds=2, question_seconds=4, submission_seconds=60, memory=300 * 2**20, output_bytes=200_000)


@pytest.fixture(scope="module")
def grader(released):
    material = replace(Material.of_course(released, NAME), cases=2)
    with Grader(material, Sandbox(limits=LIMITS)) as grader:
        yield grader


@pytest.fixture
def graded(grader, answered):
    """Grade a submission with the given answers; statuses by question, and the whole."""

    def grade(notebook=None, **changed):
        notebook = answered(**changed) if notebook is None else notebook
        data = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
        whole = grader.grade(data, "alice")
        return {result.question: result for result in whole.record.questions}, whole

    return grade


def plain(notebook):
    """The cell in which the tiny set makes its data: no question's."""
    return next(c for c in notebook.cells if c.source.startswith("DATA"))


def outputs(whole, begin):
    """Outputs of the cell that begins so."""
    return next(c.outputs for c in nbformat.reads(whole.notebook, 4).cells if c.source.startswith(begin))


def scores(results):
    return {name: result.score for name, result in results.items()}


FULL = {"mean_of": 30, "center": 30, "scale": 40}


def test_right_answers_score_full_and_twice_the_same(graded, grader):
    results, whole = graded()
    assert scores(results) == FULL and whole.record.score == whole.record.points == 100
    _, again = graded()
    assert whole.record.to_json() == again.record.to_json() and whole.notebook == again.notebook
    with Grader(grader.material, grader.sandbox) as other:
        data = json.dumps(nbformat.reads(whole.notebook, 4)).encode()
        assert other.grade(data, "alice").record.questions == whole.record.questions
    assert Record.from_json(whole.record.to_json()) == whole.record


def test_the_stub_scores_nothing_and_is_graded(graded):
    results, _ = graded(mean_of=None, center=None, scale=None)
    assert scores(results) == dict.fromkeys(FULL, 0.0)
    assert {result.status for result in results.values()} == {"graded"}


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ("import os\ndef center(x):\n    os._exit(1)", "crashed", "exit code 1"),
        ("def center(x):\n    import ctypes; ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("def center(x):\n    while True: pass", "timeout", "used up"),
        ("import os\nos._exit(1)", "crashed", "the cell with the answer was stopped"),
        ("while True: pass", "timeout", "the cell with the answer was stopped"),
        ("def center(x):\n    return bytearray(10**12)", "memory", "memory"),
        ("def center(x):\n    import os\n    os.write(3, b'x' * 100)", "crashed", "no answer"),
    ],
)
def test_what_stops_one_question_stops_no_other(graded, answer, status, says):
    results, _ = graded(center=answer)
    assert results["center"].status == status and results["center"].score is None
    assert says in results["center"].message
    assert (results["mean_of"].score, results["scale"].score) == (30, 40)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("def center(x)\n    return x", "SyntaxError"),
        ("raise ValueError('not today')", "not today"),
        ("def centre(x):\n    return x", "not defined"),
        ("center = 3", "is a int"),
        ("def center(x):\n    return x", "center"),
        ("def center(x):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def center(x):\n    import sys\n    sys.exit()", "exit()"),
        ("def center(x):\n    return chr(0xD800)", ""),
    ],
)
def test_a_wrong_answer_is_graded(graded, answer, says):
    results, whole = graded(center=answer)
    assert results["center"].status == "graded" and results["center"].score == 0
    assert says in results["center"].message
    assert (results["mean_of"].score, results["scale"].score) == (30, 40)
    whole.notebook.encode("utf-8")


def test_an_ordinary_cell_that_never_ends_is_left_out(graded, answered):
    notebook = answered()
    plain(notebook).source = "while True: pass"
    results, whole = graded(notebook)
    assert scores(results) == FULL
    assert outputs(whole, "while True")[0].evalue.startswith("timeout")


def test_no_points_for_want_of_a_stopped_cell_needs_an_eye(graded, answered):
    """The answer may be right: what it needs was in a cell that was stopped."""
    notebook = answered(scale="def scale(x):\n    return helper(x)")
    extra = nbformat.v4.new_code_cell("import os\ndef helper(x): return x / x.std(axis=0)\nos._exit(1)")
    notebook.cells.insert(4, extra)
    results, _ = graded(notebook)
    assert results["scale"].status == "crashed" and results["scale"].score is None
    assert (results["mean_of"].score, results["center"].score) == (30, 30)


@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.4", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"cells": 3, "nbformat": 4}', b"x" * (51 * 2**20)],
    ids=["empty", "pdf", "cut", "deep", "bytes", "nonsense", "huge"],
)
def test_what_is_no_notebook_is_unreadable(grader, data):
    record = grader.grade(data, "bob").record
    assert {result.status for result in record.questions} == {"unreadable"}
    assert record.score == 0 and all(result.score is None for result in record.questions)


def test_nothing_handed_in_is_missing(grader):
    record = grader.grade(None, "bob").record
    assert {result.status for result in record.questions} == {"missing"} and record.submission == ""


def test_a_deleted_answer_is_missing(graded, answered):
    notebook = answered()
    notebook.cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") != "center-solution"]
    results, _ = graded(notebook)
    assert results["center"].status == "missing"
    assert (results["mean_of"].score, results["scale"].score) == (30, 40)


def test_some_questions_alone(grader, answered):
    data = json.dumps(answered(center="def center(x):\n    return x")).encode()
    whole = grader.grade(data, "alice").record
    part = grader.grade(data, "alice", ["scale"]).record
    assert part.questions == tuple(result for result in whole.questions if result.question == "scale")


@pytest.mark.parametrize("drawn", [False, True])
def test_pictures_are_as_handed_in_or_drawn_anew(grader, answered, drawn):
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    plt.figure(figsize=(1, 1)).savefig(file, format="png")
    plt.close("all")
    notebook = answered()
    cell = plain(notebook)
    cell.source = "plt.plot([1, 2])\nplt.show()"
    picture = base64.b64encode(file.getvalue()).decode()
    shown = {"image/png": picture, "text/html": "<script>alert(1)</script>"}
    cell.outputs = [nbformat.v4.new_output("display_data", shown)]
    imports = r"import numpy as np\nimport matplotlib.pyplot as plt"
    material = replace(grader.material, released=grader.material.released.replace("import numpy as np", imports))
    with Grader(material, grader.sandbox, pictures=drawn) as other:
        (output,) = outputs(other.grade(json.dumps(notebook).encode(), "alice"), "plt.plot")
    assert "text/html" not in output.data
    assert (base64.b64decode(output.data["image/png"]) == file.getvalue()) is not drawn
    assert (output.metadata.get("bnlab") == "picture as handed in") is not drawn


def test_a_flood_of_output_is_cut(graded, answered):
    notebook = answered()
    flood = "for _ in range(100):\n    print('x' * 1_000_000)\nfor _ in range(9999):\n    display('y' * 999)"
    plain(notebook).source = flood
    results, whole = graded(notebook)
    assert scores(results) == FULL and len(whole.notebook) < 1_000_000


def test_no_pickle_on_the_way():
    """Nothing that the grader uses to read answers can build objects: no module of it imports a pickle of any kind."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "copyreg", "joblib"}
    for name in ("wire", "remote", "grade", "runner", "fork_server", "sandbox", "confine", "record", "intake"):
        tree = ast.parse((Path(__file__).parents[2] / f"bnlab/grading/{name}.py").read_text())
        imported = {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        imported |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        calls = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        assert not imported & forbidden and not calls & {"load", "eval", "literal_eval"}, name


def test_no_pickle_is_read_while_grading(graded, monkeypatch):
    import pickle

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    bomb = "class Bomb:\n    def __reduce__(self): return (print, ('boom',))\ndef center(x):\n    return Bomb()"
    results, _ = graded(center=bomb)
    assert results["center"].score == 0 and "Bomb" in results["center"].message


@pytest.mark.parametrize("source", find_sources(COURSE), ids=lambda source: source.name)
def test_the_sets_of_the_course_are_graded_as_in_a_students_kernel(source):
    released = json.loads(nbformat.writes(source.notebook))
    for one in released["cells"]:
        name = one["metadata"].get("nbgrader", {}).get("grade_id", "").removesuffix("-solution")
        if name in source.problem_set.questions and one["metadata"]["nbgrader"]["solution"]:
            one["source"] = stub(source.notebook, name)
    material = Material(source.name, json.dumps(released), source.checks.read_text(encoding="utf-8"), 99, 1)
    with Grader(material, Sandbox()) as grader:
        solved = grader.grade(nbformat.writes(source.notebook).encode(), "solution").record
        untouched = grader.grade(json.dumps(released).encode(), "stub").record
    assert [(r.question, r.status, r.score, r.message) for r in solved.questions if r.score != r.points] == []
    assert solved.score == source.problem_set.checked_points and solved.findings == ()
    assert untouched.score == 0 and {result.status for result in untouched.questions} == {"graded"}
    assert all(answer.answered for answer in solved.written)
