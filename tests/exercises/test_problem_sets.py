"""What every problem set of the course has; `bnlab exercises verify` proves what its checks do."""

import re
from pathlib import Path

import pytest

from bnlab.exercises.source import find_sources
from bnlab.exercises.verify import stub

COURSE = Path(__file__).parents[2] / "exercises"
SOURCES = find_sources(COURSE)

every_set = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)


def test_there_are_eight():
    assert [source.name.partition("_")[0] for source in SOURCES] == [f"ps{n}" for n in range(1, 9)]


@every_set
def test_five_to_nine_functions_and_an_answer_in_words_are_worth_100_points(source):
    assert 5 <= len(source.problem_set.questions) <= 9
    assert 1 <= len(source.problem_set.written_answers) <= 2
    assert source.problem_set.points == 100


@every_set
def test_every_function_has_two_other_right_solutions_and_four_mistakes(source):
    assert min(source.cover("right").values()) >= 2, source.cover("right")
    assert min(source.cover("wrong").values()) >= 4, source.cover("wrong")
    assert sum(source.cover("borrowed").values()) >= 1


@every_set
def test_the_table_of_the_notebook_says_what_the_checks_say(source):
    text = (source.directory / "notebook.py").read_text(encoding="utf-8")
    rows = re.findall(r"^# \| \d+\. `(\w+)`.* \| ([●○]{5}) \| (\d+) \| (\d+) \|$", text, flags=re.MULTILINE)
    points = {name: question.points for name, question in source.problem_set.questions.items()}
    assert {name: float(worth) for name, _, _, worth in rows} == points | source.problem_set.written_answers


@every_set
def test_every_question_has_three_hints(source):
    text = (source.directory / "notebook.py").read_text(encoding="utf-8")
    for number in (1, 2, 3):
        assert text.count(f"<details><summary>Hint {number}:") >= len(source.problem_set.questions)


@every_set
def test_every_stub_says_what_goes_in_and_out_and_raises(source):
    for name in source.problem_set.questions:
        text = stub(source.notebook, name)
        assert "raise NotImplementedError()" in text
        assert '"""' in text and any(word in text for word in ("Parameters", "Returns", "shape")), name


@every_set
def test_the_rubric_covers_every_answer_in_words(source):
    rubric = source.rubric.read_text(encoding="utf-8")
    for name, points in source.problem_set.written_answers.items():
        assert f"`{name}`" in rubric and f"{points:g} points" in rubric


def test_forty_right_solutions_and_160_mistakes_in_all():
    assert sum(sum(source.cover("right").values()) for source in SOURCES) >= 40
    assert sum(sum(source.cover("wrong").values()) for source in SOURCES) >= 160
