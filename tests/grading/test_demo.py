"""The demo's own arithmetic and manners. That it runs is `make grade-demo`'s business."""

import pytest
from conftest import NAME, make_course
from rich.console import Console

from bnlab.exercises.source import find_sources
from bnlab.grading import demo
from bnlab.grading.demo import CLASS, DemoError, Desk, Result, run_demo
from bnlab.grading.intake import read_notebook

SUBMISSIONS = {
    "right_loops": '''
"""Adds up the rows."""


def mean_of(x):
    return sum(x) / len(x)
''',
    "borrowed_scale": '''
"""Leaves it to a library."""

QUESTION = "scale"
FLAGS = "sklearn.preprocessing"


def scale(x):
    return __import__("sklearn.preprocessing").preprocessing.scale(x, with_mean=False)
''',
    **{
        f"wrong_{name}": f'''
"""Returns 0."""

QUESTION = "{name}"
LOSES = {{"the values"}}
SAYS = "0"


def {name}(x):
    return 0 * x
'''
        for name in ("mean_of", "center", "scale")
    },
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    course = make_course(tmp_path_factory.mktemp("demo"))
    (course / NAME / "submissions").mkdir()
    for name, text in SUBMISSIONS.items():
        (course / NAME / "submissions" / f"{name}.py").write_text(text.lstrip())
    (source,) = find_sources(course)
    return Desk(source, read_notebook(course / "source" / NAME / f"{NAME}.ipynb"))


def test_losses_follow_from_the_weights(desk):
    # A part of weight 3 of 4 is lost: 30 -> 7.5 left, 40 -> 10 left.
    assert demo.makes_one_mistake(desk).lost == 22.5
    assert demo.makes_many_mistakes(desk).lost == 22.5 + 22.5 + 30
    assert demo.does_half(desk).lost == 70 and demo.does_nothing(desk).lost == 100
    assert demo.deletes_cells(desk).lost == 30 and demo.mistypes(desk).lost == 40


def test_who_needs_an_eye_keeps_the_other_points(desk):
    for does, lost in ((demo.deletes_cells, 30), (demo.never_ends, 30), (demo.ends_the_process, 30)):
        assert (does(desk).lost, does(desk).status) == (lost, "could not grade")
    for does in (demo.saves_a_web_page, demo.takes_another_file):
        assert (does(desk).lost, does(desk).status) == (None, "could not grade")
    assert demo.mistypes(desk).status == "graded"  # an answer that is no Python is wrong, not a crash


def test_every_deed_makes_a_file_and_has_a_name(desk):
    deeds = [does for *_, does, _ in CLASS if does]
    assert len(CLASS) >= 12 and len(set(deeds)) == len(deeds)
    for does in deeds:
        assert does.__doc__ and demo.HandedIn is type(does(desk))


@pytest.mark.parametrize(
    ("status", "score", "expected_status", "expected_score", "right"),
    [
        ("graded", 66.67, "graded", 66.67, True),
        ("graded", 66.0, "graded", 66.67, False),
        ("graded", 0.0, "could not grade", None, False),
        ("could not grade", None, "could not grade", None, True),
        ("could not grade", 70.0, "could not grade", 70.0, True),
        ("could not grade", 70.0, "graded", 70.0, False),
        ("could not grade", 0.0, "could not grade", None, False),
        ("could not grade", None, "graded", 0.0, False),
        ("missing", None, "could not grade", None, False),
    ],
)
def test_verdict(status, score, expected_status, expected_score, right):
    assert Result("x", NAME, status, score, expected_status, expected_score, "").as_expected is right


def test_exit_status_says_whether_all_scores_are_right(monkeypatch, capsys):
    right = Result("amara", NAME, "graded", 100.0, "graded", 100.0, "")
    wrong = Result("mateo", NAME, "graded", 0.0, "graded", 100.0, "")
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: [right])
    assert demo.main() == 0 and "1 of 1 as expected" in capsys.readouterr().out
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: [right, wrong])
    assert demo.main() == 1
    shown = capsys.readouterr().out
    assert "Wrong: mateo, ps1_tiny: graded 0, expected graded 100" in shown and "1 of 2 as expected" in shown


def test_a_directory_of_somebody_elses_is_left_alone(tmp_path, desk):
    mine = tmp_path / "thesis.txt"
    mine.write_text("ten years of work")
    with pytest.raises(DemoError, match="not empty and not an earlier demo"):
        run_demo(tmp_path, desk.source.directory.parent, Console(quiet=True))
    assert mine.read_text() == "ten years of work"
