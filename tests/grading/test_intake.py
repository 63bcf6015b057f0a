"""Reading and repairing submissions: every way in which a file is no notebook, every way in which cells are mangled."""

import copy
import json
import os
from collections import Counter

import nbformat
import pytest
from conftest import NAME, RIGHT, cell
from hypothesis import given, settings
from hypothesis import strategies as st
from nbgrader.nbgraderformat import MetadataValidator

from bnlab.exercises.verify import run_notebook
from bnlab.grading.intake import UnreadableNotebook, belongs, inspect, read_notebook, repair

QUESTIONS = list(RIGHT)
FULL = {"mean_of": 30, "center": 30, "scale": 40}


# --- reading ---------------------------------------------------------------------------------------------------------


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("data", "phrases"),
    [
        (b"", ["is empty"]),
        (b" \n\n", ["is empty"]),
        (b"%PDF-1.7 ...", ["is a PDF"]),
        (b"<!DOCTYPE html><html>", ["is a web page"]),
        (b"PK\x03\x04rest", ["is a zip archive"]),
        ("def mean_of(x):\n    return x.mean(axis=0)", ["not JSON at line 1"]),
        ('{"cells": [],\n "nbformat": 4,,}', ["not JSON at line 2, column 16"]),
        ('{"cells": [\n {"cell_type": "code",\n "sou', ["breaks off at line 3"]),
        ('{"cells": [\n<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> mine\n]}', ["git conflict at line 2"]),
        ('{"caf\xe9": 1}'.encode("latin-1"), ["is not text in UTF-8 (byte 5)"]),
        ("[1, 2]", ["no notebook", "holds a list"]),
        ("3", ["holds a number"]),
        ('{"name": "x", "age": 3}', ["no notebook", "age, name"]),
        ('{"cells": {}, "nbformat": 4}', ["its cells are an object"]),
        ('{"cells": [], "nbformat": 5}', ["format 5", "expected 4"]),
        ('{"cells": [], "nbformat": "4"}', ["format '4'"]),
        ('{"worksheets": 7, "nbformat": 3}', ["old notebook format 3", "could not be converted"]),
        ('{"cells": [{"cell_type": "slide"}], "nbformat": 4}', ["cell 1 is neither code nor text"]),
        ('{"cells": [{"cell_type": "code", "source": 5}], "nbformat": 4}', ["source of cell 1 is a number"]),
        ("[" * 100_000, ["is not a notebook"]),
        ('{"cells": [], "nbformat": ' + "9" * 5000 + "}", ["is not a notebook"]),
    ],
)
def test_unreadable_files_are_named(tmp_path, data, phrases):
    with pytest.raises(UnreadableNotebook) as caught:
        read_notebook(write(tmp_path / "ps1_tiny.ipynb", data))
    message = str(caught.value)
    assert all(phrase in message for phrase in ["ps1_tiny.ipynb", *phrases]), message
    assert any(advice in message for advice in ("hand in", "copy it again")), message


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(UnreadableNotebook, match="does not exist"):
        read_notebook(tmp_path / "none.ipynb")
    (tmp_path / "ps1.ipynb").mkdir()
    with pytest.raises(UnreadableNotebook, match="is a directory"):
        read_notebook(tmp_path / "ps1.ipynb")
    write(tmp_path / "ps1.ipynb" / "inside.ipynb", "{}")
    with pytest.raises(UnreadableNotebook, match=r"name the file in it, inside\.ipynb"):
        read_notebook(tmp_path / "ps1.ipynb")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read every file")
def test_file_without_permission(tmp_path):
    path = write(tmp_path / "ps1.ipynb", "{}")
    path.chmod(0)
    with pytest.raises(UnreadableNotebook, match="permissions"):
        read_notebook(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_that_are_unambiguous_are_read(tmp_path, answered, encoding):
    notebook = answered(center="def center(x):\n    return x - x.mean(axis=0)  # größer, 中心")
    path = write(tmp_path / "n.ipynb", json.dumps(notebook, ensure_ascii=False).encode(encoding))
    assert read_notebook(path) == notebook


@pytest.mark.parametrize("version", [2, 3])
def test_old_formats_are_converted_and_reported(tmp_path, version):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# old"},
        {
            "cell_type": "code",
            "collapsed": False,
            "input": RIGHT["center"],
            "language": "python",
            "metadata": {},
            "outputs": [],
        },
    ]
    old = {"metadata": {"name": "x"}, "nbformat": version, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
    notebook = read_notebook(write(tmp_path / "n.ipynb", json.dumps(old)))
    assert [c.source for c in notebook.cells] == ["# old", RIGHT["center"]]
    nbformat.validate(notebook)
    assert "File in an old notebook format: read as format 4." in inspect(notebook, ["center"])


def test_damaged_details_are_put_right(tmp_path):
    code = {"cell_type": "code", "source": ["a = 1\n", "b = '\ud800'"], "id": "same", "metadata": {"tags": "x"}}
    text = {"cell_type": "markdown", "source": "hi", "id": "same", "metadata": None, "attachments": 3}
    bare = {"cell_type": "raw"}
    marked = code | {"id": "no good", "outputs": [{"output_type": "nonsense"}], "metadata": {"nbgrader": {"x": 1}}}
    raw = {"cells": [code, text, bare, marked], "nbformat": 4, "nbformat_minor": 99, "metadata": {"kernelspec": 1}}
    notebook = read_notebook(write(tmp_path / "n.ipynb", json.dumps(raw)))
    nbformat.validate(notebook)
    assert [c.source for c in notebook.cells] == ["a = 1\nb = '\ufffd'", "hi", "", "a = 1\nb = '\ufffd'"]
    assert len({c.id for c in notebook.cells}) == 4
    assert notebook.cells[3].metadata == {"nbgrader": {"x": 1}} and notebook.cells[3].outputs == []


def test_sound_notebook_is_read_as_it_is(released):
    path = released / "release" / NAME / f"{NAME}.ipynb"
    assert read_notebook(path) == nbformat.read(path, as_version=4)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
odd_cells = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw", "heading"]) | json_values,
        "source": st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3) | json_values,
        "metadata": st.fixed_dictionaries({"nbgrader": json_values, "tags": json_values}) | json_values,
        "outputs": json_values,
        "execution_count": json_values,
        "id": json_values,
        "attachments": json_values,
    },
)
odd_notebooks = st.fixed_dictionaries(
    {"cells": st.lists(odd_cells, max_size=4) | json_values, "nbformat": st.sampled_from([2, 3, 4]) | json_values},
    optional={"metadata": json_values, "nbformat_minor": json_values, "worksheets": json_values},
)


@settings(max_examples=100)
@given(raw=odd_notebooks)
def test_any_json_is_read_soundly_or_refused(tmp_path_factory, handed_out, raw):
    path = tmp_path_factory.getbasetemp() / "any.ipynb"
    path.write_text(json.dumps(raw), encoding="utf-8")
    try:
        notebook = read_notebook(path)
    except UnreadableNotebook as error:
        assert str(error).startswith("any.ipynb ")
        return
    nbformat.validate(notebook)
    repaired, _ = repair(notebook, handed_out)
    MetadataValidator().validate_nb(repaired)


# --- repairing -------------------------------------------------------------------------------------------------------


def index(notebook, grade_id):
    return notebook.cells.index(cell(notebook, grade_id))


def grade(notebook, released):
    """Points by question, from running the cells in order."""
    _, reports, _ = run_notebook(notebook, {}, released / "source" / NAME)
    return {name: reports[name].score for name in QUESTIONS if name in reports}


def test_whole_submission_is_left_alone(answered, handed_out):
    notebook = answered()
    repaired, findings = repair(notebook, handed_out)
    assert findings == [] and repaired == notebook
    assert inspect(notebook, QUESTIONS) == []
    assert repair(handed_out, handed_out) == (handed_out, [])


def test_copied_answer_the_last_counts(answered, handed_out, released):
    notebook = answered()
    wrong = copy.deepcopy(cell(notebook, "center-solution"))
    wrong.source = "def center(x):\n    return x"
    notebook.cells.insert(index(notebook, "center-solution"), wrong)
    repaired, findings = repair(notebook, handed_out)
    assert findings == ["Answer cell copied (center): all copies run in their order, the last one counts."]
    assert cell(repaired, "center-solution").source == RIGHT["center"]
    assert grade(repaired, released) == FULL

    notebook.cells.append(wrong)  # now the wrong one is the last: it counts, and the test stands below it
    repaired, findings = repair(notebook, handed_out)
    assert "Test cell above the answer (center): moved below it." in findings
    assert grade(repaired, released) == FULL | {"center": 0}


def test_copy_that_was_never_filled_in_gives_way(answered, handed_out, released):
    notebook = answered()
    notebook.cells.insert(index(notebook, "center-solution") + 1, copy.deepcopy(cell(handed_out, "center-solution")))
    repaired, findings = repair(notebook, handed_out)
    assert findings == ["Empty answer cell beside the answer (center): left out."]
    assert grade(repaired, released) == FULL


def test_answer_written_into_another_cell(answered, handed_out, released):
    notebook = answered(center=None)
    notebook.cells.insert(3, nbformat.v4.new_code_cell(RIGHT["center"]))  # above the empty cell, which would hide it
    repaired, findings = repair(notebook, handed_out)
    assert findings == [
        "Answer cell without its mark (center): recognized by the function that it defines.",
        "Empty answer cell beside the answer (center): left out.",
    ]
    assert grade(repaired, released) == FULL


def test_metadata_lost_everywhere(answered, handed_out, released):
    notebook = answered()
    for one in notebook.cells:
        one.metadata = {}
    repaired, findings = repair(notebook, handed_out)
    assert findings == [
        "Answer cell without its mark (all): recognized by the function that it defines.",
        "Test cell without its mark (all): recognized by what it says.",
    ]
    assert grade(repaired, released) == FULL


def test_swapped_names(answered, handed_out, released):
    notebook = answered()
    one, other = cell(notebook, "center-solution"), cell(notebook, "scale-solution")
    one.metadata, other.metadata = other.metadata, one.metadata
    repaired, _ = repair(notebook, handed_out)
    assert cell(repaired, "center-solution").source == RIGHT["center"]
    assert grade(repaired, released) == FULL


def test_deleted_cells(answered, handed_out, released):
    notebook = answered()
    for grade_id in ("mean_of", "center", "center-solution", "scale-solution"):
        notebook.cells.remove(cell(notebook, grade_id))
    repaired, findings = repair(notebook, handed_out)
    assert findings == [
        "Answer cell missing (center, scale): the question is graded on what is left.",
        "Test cell missing (mean_of, center): put back.",
    ]
    assert index(repaired, "mean_of") == index(repaired, "mean_of-solution") + 1
    assert grade(repaired, released) == {"mean_of": 30}  # the other two tests raise NameError
    assert inspect(notebook, QUESTIONS) == findings


def test_answer_that_is_no_def_counts_where_its_cell_is_gone(answered, handed_out, released):
    notebook = answered()
    notebook.cells.remove(cell(notebook, "scale-solution"))
    notebook.cells.append(nbformat.v4.new_code_cell("scale = lambda x: x / x.std(axis=0)"))
    notebook.cells.remove(cell(notebook, "scale"))
    assert grade(repair(notebook, handed_out)[0], released) == FULL


@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_retyped_cells(answered, handed_out, released, kind):
    notebook = answered()
    for grade_id in ("center-solution", "scale"):
        place = index(notebook, grade_id)
        old = notebook.cells[place]
        notebook.cells[place] = nbformat.from_dict(
            {"cell_type": kind, "metadata": old.metadata, "source": old.source, "id": old.id}
        )
    repaired, findings = repair(notebook, handed_out)
    assert findings == [
        "Answer cell of another type (center): turned back into code.",
        "Test cell of another type (scale): turned back into code.",
    ]
    nbformat.validate(repaired)
    assert grade(repaired, released) == FULL


def test_attempt_kept_as_text_is_no_answer(answered, handed_out):
    notebook = answered()
    kept = nbformat.v4.new_markdown_cell("def center(x):\n    return 0 * x")
    kept.metadata = copy.deepcopy(cell(notebook, "center-solution").metadata)
    notebook.cells.append(kept)
    repaired, _ = repair(notebook, handed_out)
    assert cell(repaired, "center-solution").source == RIGHT["center"]
    assert repaired.cells[-1].cell_type == "markdown" and repaired.cells[-1].source == kept.source


def test_merged_cells(answered, handed_out, released):
    notebook = answered()
    merged = cell(notebook, "mean_of-solution")
    merged.source = "\n\n".join([*RIGHT.values(), 'check("scale", scale)'])
    for grade_id in ("center-solution", "scale-solution", "scale"):
        notebook.cells.remove(cell(notebook, grade_id))
    repaired, findings = repair(notebook, handed_out)
    assert "Answer in the cell of another question (center, scale): graded from there." in findings
    assert grade(repaired, released) == FULL


def test_changed_test_cell_is_kept_beside_the_original(answered, handed_out, released):
    notebook = answered(center="def center(x):\n    return x")
    cell(notebook, "center").source = "def center(x):\n    return x - x.mean(axis=0)\nprint('passed')"
    repaired, findings = repair(notebook, handed_out)
    assert findings == ["Test cell changed (center): kept as an ordinary cell, the original comes after it."]
    assert "print('passed')" in repaired.cells[index(repaired, "center") - 1].source
    assert cell(repaired, "center").source == 'check("center", center)'

    cell(notebook, "center").source = ""
    repaired, _ = repair(notebook, handed_out)
    assert len(repaired.cells) == len(handed_out.cells)
    assert cell(repaired, "center").source == 'check("center", center)'


def test_tag_that_skips_a_test_is_gone(answered, handed_out):
    notebook = answered()
    cell(notebook, "center").metadata["tags"] = ["skip-execution"]
    repaired, _ = repair(notebook, handed_out)
    assert "tags" not in cell(repaired, "center").metadata


def test_reversed_notebook(answered, handed_out, released):
    notebook = answered()
    notebook.cells.reverse()
    repaired, findings = repair(notebook, handed_out)
    assert any(finding.startswith("Opening cells (imports)") for finding in findings)
    assert "Test cell above the answer (all): moved below it." in findings
    assert grade(repaired, released) == FULL


@pytest.mark.parametrize("opening", ["", "import nowhere_to_be_found\nimport numpy as np\nfrom checks import check"])
def test_imports_deleted_or_broken(answered, handed_out, released, opening):
    notebook = answered()
    place = next(i for i, c in enumerate(notebook.cells) if c.source.startswith("import numpy"))
    notebook.cells[place].source = opening
    repaired, findings = repair(notebook, handed_out)
    assert findings == ["Opening cells (imports) changed, moved or deleted: the originals run first."]
    assert grade(repaired, released) == FULL


def test_syntax_error_and_magic(answered, handed_out, released):
    notebook = answered(center="def center(x:\n    return")
    notebook.cells.insert(1, nbformat.v4.new_code_cell("%matplotlib inline\n!ls\nfrom math import *"))
    repaired, findings = repair(notebook, handed_out)
    assert findings == []
    assert cell(repaired, "center-solution").source == "def center(x:\n    return"
    assert grade(repaired, released).keys() == {"mean_of", "scale"}


def test_instructors_cells_of_every_kind(handed_out):
    """Read-only cells, written answers and tasks, as nbgrader knows them: missing ones come back in their place."""
    kinds = {
        "rules": {"grade": False, "solution": False, "locked": True, "task": False},
        "essay": {"grade": True, "solution": True, "locked": False, "task": False, "points": 5},
        "report": {"grade": False, "solution": False, "locked": True, "task": True, "points": 5},
    }
    source = copy.deepcopy(handed_out)
    for place, (name, mark) in zip((1, 6, len(source.cells) + 2), kinds.items(), strict=True):
        new = nbformat.v4.new_markdown_cell(f"about {name}", id=name)
        new.metadata["nbgrader"] = {"grade_id": name, "schema_version": 3, **mark}
        source.cells.insert(place, new)
    notebook = copy.deepcopy(source)
    cell(notebook, "essay").source = "my words"
    assert repair(notebook, source) == (notebook, [])

    for name in kinds:
        notebook.cells.remove(cell(notebook, name))
    repaired, findings = repair(notebook, source)
    in_order = [c.metadata.nbgrader.grade_id for c in repaired.cells if "nbgrader" in c.metadata]
    assert in_order == [c.metadata.nbgrader.grade_id for c in source.cells if "nbgrader" in c.metadata]
    assert all(cell(repaired, name) == cell(source, name) for name in kinds)
    assert findings == [
        "Answer missing (essay): its empty cell is put back.",
        "Read-only cell missing (rules, report): put back.",
    ]


def test_another_notebook_does_not_belong(answered, handed_out):
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('hello')")])
    assert not belongs(other, handed_out)
    assert belongs(answered(), handed_out)
    bare = answered()
    for one in bare.cells:
        one.metadata = {}
    assert belongs(bare, handed_out)


# Manglings: each takes a notebook's cells, a place and another number.


def duplicate(cells, i, j):
    cells.insert(j % (len(cells) + 1), copy.deepcopy(cells[i]))


def delete(cells, i, j):
    del cells[i]


def strip(cells, i, j):
    cells[i].metadata = nbformat.NotebookNode()


def rename(cells, i, j):
    cells[i].metadata["nbgrader"] = copy.deepcopy(cells[j % len(cells)].metadata.get("nbgrader", {"grade_id": j}))


def retype(cells, i, j):
    kind = ("code", "markdown", "raw")[j % 3]
    new = {
        "code": nbformat.v4.new_code_cell,
        "markdown": nbformat.v4.new_markdown_cell,
        "raw": nbformat.v4.new_raw_cell,
    }
    cells[i] = new[kind](cells[i].source, metadata=cells[i].metadata, id=cells[i].id)


def move(cells, i, j):
    cells.insert(j % len(cells), cells.pop(i))


def merge(cells, i, j):
    if i + 1 < len(cells) and cells[i].cell_type == cells[i + 1].cell_type == "code":
        cells[i].source += "\n\n" + cells.pop(i + 1).source


def scribble(cells, i, j):
    cells[i].source += f"\nscratch = {j}"


def add(cells, i, j):
    cells.insert(i, nbformat.v4.new_code_cell(f"mine = {j}", id=f"mine-{j}"))


def empty(cells, i, j):
    cells[i].source = ""


GENTLE = [duplicate, strip, rename, retype, move, add]  # none takes an answer away
places = st.integers(0, 200)


def manglings(kinds):
    return st.lists(st.tuples(st.sampled_from(kinds), places, places), max_size=12)


def mangle(notebook, steps):
    for step, i, j in steps:
        if notebook.cells:
            step(notebook.cells, i % len(notebook.cells), j)
    return notebook


@settings(max_examples=100)
@given(
    steps=manglings([*GENTLE, merge, delete, scribble, empty]),
    unanswered=st.sets(st.sampled_from(QUESTIONS)),
)
def test_repair_keeps_all_code_and_every_test_once(answered, handed_out, steps, unanswered):
    given_in = mangle(answered(**dict.fromkeys(unanswered)), steps)
    before, released_before = copy.deepcopy(given_in), copy.deepcopy(handed_out)
    repaired, findings = repair(given_in, handed_out)

    assert given_in == before and handed_out == released_before  # nothing that was given is changed
    nbformat.validate(repaired)
    MetadataValidator().validate_nb(repaired)  # nbgrader takes it

    handed = Counter(c.source.strip() for c in handed_out.cells if "nbgrader" in c.metadata)
    own = [c.source.strip() for c in before.cells if c.source.strip() and c.source.strip() not in handed]
    kept = iter([c.source.strip() for c in repaired.cells])
    assert all(text in kept for text in own)  # in the order they had

    for name in QUESTIONS:
        text = cell(handed_out, name).source
        assert [c.metadata.get("nbgrader") for c in repaired.cells if c.source.strip() == text] == [
            cell(handed_out, name).metadata.nbgrader
        ]
        answer = [
            i
            for i, c in enumerate(repaired.cells)
            if c.metadata.get("nbgrader", {}).get("grade_id") == f"{name}-solution"
        ]
        assert len(answer) <= 1 and all(repaired.cells[i].cell_type == "code" for i in answer)
        assert all(i < index(repaired, name) for i in answer)

    again, still_found = repair(repaired, handed_out)
    assert again == repaired
    assert all(f.startswith(("Answer cell missing", "Answer in the cell")) for f in still_found)
    assert set(still_found) <= set(findings)
    inspect(given_in, QUESTIONS)


@settings(max_examples=60)
@given(steps=manglings(GENTLE))
def test_mangling_that_keeps_the_answers_costs_nothing(answered, handed_out, released, steps):
    repaired, _ = repair(mangle(answered(), steps), handed_out)
    assert grade(repaired, released) == FULL


def test_students_need_no_nbgrader(tmp_path):
    """`bnlab check` imports this module where nbgrader isn't installed."""
    import subprocess
    import sys

    code = "import sys; sys.modules['nbgrader'] = None; import bnlab.grading.intake; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("answered", [(), ("first",), ("second",), ("first", "second")])
def test_answers_in_words_are_not_mistaken_for_each_other(answered):
    """They are all handed out with the same text."""

    def written(name):
        mark = {"grade_id": name, "solution": True, "grade": True, "locked": False, "points": 3, "task": False}
        return nbformat.v4.new_markdown_cell("YOUR ANSWER HERE", metadata={"nbgrader": {**mark, "schema_version": 3}})

    source = nbformat.v4.new_notebook(cells=[written("first"), written("second")])
    notebook = copy.deepcopy(source)
    for cell_ in notebook.cells:
        if cell_.metadata.nbgrader.grade_id in answered:
            cell_.source = "Because."
    repaired, findings = repair(notebook, source)
    texts = {c.metadata.nbgrader.grade_id: c.source for c in repaired.cells}
    empty = "YOUR ANSWER HERE"
    assert texts == {name: "Because." if name in answered else empty for name in ("first", "second")}
    assert findings == []
