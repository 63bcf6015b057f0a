"""Reading problem sets, and proving them: what contradicts itself is refused, what isn't proven is reported."""

import pytest

from bnlab.exercises.source import SourceError, find_sources
from bnlab.exercises.verify import count, stub, verify

nbgrader_utils = pytest.importorskip("nbgrader.utils", reason="nbgrader is not installed: make test installs it")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def outcomes(course):
    return {outcome.submission: outcome for outcome in verify(course, jobs=1)}


def test_a_sound_problem_set_is_proven(course):
    found = outcomes(course)
    assert list(found) == ["solution", "stub", "right_loops", "wrong_mean_axis", "wrong_var_unbiased"]
    assert count(course) == 5
    assert {name: outcome.score for name, outcome in found.items()} == {
        "solution": 100,
        "stub": 0,
        "right_loops": 100,
        "wrong_mean_axis": 60,
        "wrong_var_unbiased": 40,
    }
    assert not any(outcome.complaints for outcome in found.values())


@pytest.mark.parametrize(
    "file, old, new, submission, complaint",
    [
        ("notebook.py", "return x.mean(axis=0)", "return x.mean(axis=1)", "solution", "mean: loses ['each column']"),
        ("submissions/right_loops.py", "/ len(column)", "/ 7", "right_loops", "mean: loses ['each column']"),
        ("submissions/wrong_mean_axis.py", "axis=1", "axis=0", "wrong_mean_axis", "mean: loses nothing"),
        ("submissions/wrong_mean_axis.py", "of each row", "of the rows", "wrong_mean_axis", "no message says"),
        ("submissions/wrong_var_unbiased.py", "x.var(axis=0, ddof=1)", "x", "wrong_var_unbiased", "no message says"),
        ("checks.py", "points=40)", "points=40); mean.part('x')(lambda student, rng: None)", "stub", "stub scores 20"),
    ],
)
def test_what_is_not_proven_is_reported(course, file, old, new, submission, complaint):
    change(course / "ps0_small" / file, old, new)
    found = outcomes(course)
    assert any(complaint in text for text in found[submission].complaints), found[submission].complaints


def test_stub_is_what_nbgrader_hands_out(course):
    from nbgrader.preprocessors import ClearSolutions

    source = find_sources(course)[0]
    released, _ = ClearSolutions().preprocess(source.notebook, {"metadata": {}, "language": "python"})
    cells = {cell.metadata.nbgrader.grade_id: cell.source for cell in released.cells if "nbgrader" in cell.metadata}
    for name in ("mean", "var"):
        assert stub(source.notebook, name) == cells[f"{name}-solution"]


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("notebook.py", '"points": 40', '"points": 39', "mean has 39 points in notebook.py, 40 in checks.py"),
        ("notebook.py", '"grade_id": "mean"', '"grade_id": "means"', "no cell has the grade_id 'mean'"),
        ("notebook.py", '"mean-solution"', '"mean-answer"', "no cell has the grade_id 'mean-solution'"),
        ("notebook.py", '"var-solution"', '"mean-solution"', "two cells have the grade_id mean-solution"),
        ("notebook.py", 'check("mean", mean)', 'check("mean", var)', "must end with the line"),
        (
            "notebook.py",
            "    ### BEGIN SOLUTION\n    return x.mean",
            "    return x.mean",
            "marks no ### BEGIN SOLUTION",
        ),
        ("checks.py", '"ps0_small"', '"ps1_small"', "declares 'ps1_small', but lies in ps0_small"),
        ("checks.py", 'ProblemSet("ps0_small")', "None", "NoneType"),
        ("submissions/right_loops.py", '"""Plain loops, both questions."""', "", "say in a docstring"),
        ("submissions/wrong_mean_axis.py", "QUESTION =", "QUESTIONS =", "missing: QUESTION"),
        ("submissions/wrong_mean_axis.py", '{"each column"}', '{"every column"}', "LOSES names {'every column'}"),
        ("submissions/wrong_mean_axis.py", "def mean", "def average", "defines none of the questions"),
    ],
)
def test_contradictions_are_named(course, file, old, new, message):
    change(course / "ps0_small" / file, old, new)
    source = find_sources(course)[0]
    with pytest.raises((SourceError, AttributeError)) as caught:
        source.problem_set, source.notebook, source.submissions  # noqa: B018
    assert message in str(caught.value)


def test_missing_course_and_problem_set(course, tmp_path):
    with pytest.raises(SourceError, match="is not a directory: go to the repository's root"):
        find_sources(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="holds no problem set"):
        find_sources(tmp_path)
    with pytest.raises(SourceError, match=r"no problem set 'ps0_smal'; it has ps0_small\. Did you mean ps0_small"):
        find_sources(course, ["ps0_smal"])
    (course / "ps0_small" / "checks.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"checks lie in a file checks\.py"):
        _ = find_sources(course)[0].problem_set
