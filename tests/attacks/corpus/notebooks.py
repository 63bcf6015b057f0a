"""Files that are no notebooks, and notebooks whose cells were mangled."""

import copy
import json
import random

import nbformat

from ..attack import (
    ABSENT,
    AT_BEST,
    BROKEN,
    FULL,
    ILLEGIBLE,
    NOTHING,
    attack,
    either,
)
from ..scene import cell

WRONG = "def mean_of(x):\n    return np.zeros(3)"


def whole_file(name, tries, make, others=ILLEGIBLE):
    """Declare an attack with the bytes of a file."""

    def build(scene):
        return make(scene)

    build.__name__, build.__doc__, build.__module__ = name, tries, __name__
    attack(others=others)(build)


def text_of(scene):
    return nbformat.writes(scene.honest())


whole_file("empty_file", "Hands in an empty file.", lambda scene: b"")
whole_file("random_bytes", "Hands in random bytes.", lambda scene: random.Random(0).randbytes(10_000))
whole_file("zip_archive", "Hands in a zip archive.", lambda scene: b"PK\x03\x04" + bytes(1000))
whole_file("broken_off", "Hands in half a notebook.", lambda scene: text_of(scene)[: len(text_of(scene)) // 2])
whole_file("invalid_json", "Hands in a notebook with a comma too many.", lambda scene: text_of(scene)[:-2] + ",}")
whole_file("brackets_without_end", "Hands in ten million brackets.", lambda scene: '{"cells": ' + "[" * 10_000_000)
whole_file(
    "numbers_without_end_in_the_file",
    "Gives the version as a number of a million digits.",
    lambda scene: '{"cells": [], "metadata": {}, "nbformat": ' + "9" * 1_000_000 + "}",
)
whole_file(
    "latin_1",
    "Writes the file in Latin-1.",
    lambda scene: text_of(scene).replace("Mean", "Mén").encode("latin-1") + b"\xe9",
)
whole_file("utf_16", "Writes the file in UTF-16.", lambda scene: text_of(scene).encode("utf-16"), FULL)
whole_file("utf_8_with_mark", "Writes the file with a byte order mark.", lambda s: text_of(s).encode("utf-8-sig"), FULL)
whole_file("utf_7", "Writes the file in UTF-7.", lambda s: text_of(s).replace('"', "+ACI-").encode("ascii", "replace"))
whole_file("null_bytes", "Writes null bytes between the cells.", lambda s: text_of(s).replace("\n", "\n\0").encode())
whole_file("format_of_the_future", "Claims format 99.", lambda s: text_of(s).replace('"nbformat": 4', '"nbformat": 99'))
whole_file("another_notebook", "Hands in some other notebook.", lambda s: nbformat.writes(nbformat.v4.new_notebook()))
whole_file("json_but_no_notebook", "Hands in a list of claims.", lambda s: '[{"score": 1000}]')
whole_file(
    "forged_record",
    "Hands in a grading record with full points.",
    lambda s: '{"schema": "bnlab-grading-record/1", "cells": 1, "nbformat": 4, "questions": [{"score": 30.0}]}',
)
whole_file("sixty_megabytes", "Hands in a file of 60 MB.", lambda s: text_of(s) + " " * 60_000_000)
whole_file("duplicate_keys", "Has every key of the file twice.", lambda s: '{"cells": [], ' + text_of(s)[1:], FULL)
whole_file(
    "not_a_number_in_json",
    "Has NaN and infinities where numbers stand.",
    lambda s: text_of(s).replace('"nbformat_minor": 5', '"nbformat_minor": NaN, "x": -Infinity'),
    either("graded", "unreadable", most=1.0),
)


def old_format(version):
    def make(scene):
        cells = []
        for each in scene.honest().cells:
            if each.cell_type == "code":
                cells.append(
                    {
                        "cell_type": "code",
                        "input": each.source,
                        "language": "python",
                        "outputs": [],
                        "collapsed": False,
                        "metadata": {},
                    }
                )
            else:
                cells.append({"cell_type": "markdown", "source": each.source, "metadata": {}})
        old = {"metadata": {"name": ""}, "nbformat": version, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
        return json.dumps(old)

    return make


whole_file("format_3", "Hands in a notebook in format 3.", old_format(3), FULL)
whole_file("format_2", "Hands in a notebook in format 2.", old_format(2), FULL)
whole_file(
    "format_3_that_is_nonsense",
    "Claims format 3 with worksheets that are none.",
    lambda s: (
        '{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": [{"cell_type": {}}, 7]}, 8]}'
    ),
)


@attack(mean_of=NOTHING)
def duplicated_cells(scene):
    """Copies every cell, so that each question is answered and tested twice, the wrong answer last."""
    notebook = scene.honest()
    copies = copy.deepcopy(notebook.cells)
    for each in copies:
        if each.metadata.get("nbgrader", {}).get("grade_id") == "mean_of-solution":
            each.source = WRONG
    notebook.cells += copies
    return json.dumps(notebook)


@attack()
def renamed_cells(scene):
    """Renames all cells."""
    notebook = scene.honest()
    for number, each in enumerate(notebook.cells):
        if "nbgrader" in each.metadata:
            each.metadata.nbgrader.grade_id = f"renamed-{number}"
    return notebook


@attack()
def marks_deleted(scene):
    """Deletes nbgrader's marks."""
    notebook = scene.honest()
    for each in notebook.cells:
        each.metadata.pop("nbgrader", None)
    return notebook


@attack(mean_of=ABSENT, center=ABSENT, scale=ABSENT)
def answers_deleted(scene):
    """Deletes all answers and keeps the tests."""
    notebook = scene.honest()
    notebook.cells = [each for each in notebook.cells if not each.metadata.get("nbgrader", {}).get("solution")]
    return notebook


@attack(mean_of=NOTHING)
def tests_deleted(scene):
    """Deletes the tests, in the hope that what isn't tested is paid in full."""
    notebook = scene.notebook(mean_of=WRONG)
    notebook.cells = [each for each in notebook.cells if not each.metadata.get("nbgrader", {}).get("grade")]
    return notebook


@attack()
def retyped_cells(scene):
    """Turns answers into text and text into code."""
    notebook = scene.honest()
    for number, each in enumerate(notebook.cells):
        kind = nbformat.v4.new_markdown_cell if each.cell_type == "code" else nbformat.v4.new_raw_cell
        notebook.cells[number] = kind(each.source, metadata=each.metadata, id=f"c{number}")
    return notebook


@attack(mean_of=AT_BEST, center=AT_BEST, scale=AT_BEST)
def reordered_cells(scene):
    """Turns the order of the cells around."""
    notebook = scene.honest()
    notebook.cells.reverse()
    return notebook


@attack(mean_of=NOTHING, scale=AT_BEST)
def grade_ids_of_others(scene):
    """Gives the easy answer the grade_id of the question that pays most, and both the same."""
    notebook = scene.notebook(mean_of=WRONG)
    answer = cell(notebook, "mean_of-solution")
    answer.metadata.nbgrader.grade_id = "scale-solution"
    cell(notebook, "center").metadata.nbgrader.grade_id = "mean_of"
    return notebook


@attack(mean_of=NOTHING)
def points_claimed(scene):
    """Claims a thousand points in the metadata of cells and notebook."""
    notebook = scene.notebook(mean_of=WRONG)
    for each in notebook.cells:
        if "nbgrader" in each.metadata:
            each.metadata.nbgrader |= {"points": 1000, "grade": True, "locked": True, "task": True, "cell_type": "code"}
    notebook.metadata["nbgrader"] = {"score": 1000, "__altered": False}
    notebook.metadata["bnlab"] = {"findings": [], "score": 1000, "records": [{"status": "graded", "score": 30}]}
    return notebook


@attack(mean_of=NOTHING)
def test_cells_of_its_own(scene):
    """Brings test cells of its own, worth a thousand points, which pass."""
    notebook = scene.notebook(mean_of=WRONG)
    mark = {"grade": True, "solution": False, "locked": True, "task": False, "schema_version": 3, "points": 1000}
    for name in ("mean_of", "extra", "bonus"):
        notebook.cells.append(nbformat.v4.new_code_cell("1000.0", metadata={"nbgrader": {"grade_id": name} | mark}))
    cell(notebook, "mean_of").source = "30.0"
    return notebook


@attack(mean_of=NOTHING)
def manual_grades_claimed(scene):
    """Turns its test into a cell that a person grades, and into a task."""
    notebook = scene.notebook(mean_of=WRONG)
    cell(notebook, "mean_of").metadata.nbgrader |= {"solution": True, "task": True, "grade": True, "points": 1000}
    return notebook


@attack(mean_of=NOTHING)
def metadata_of_the_wrong_kind(scene):
    """Puts lists, numbers and nested objects where the metadata has names."""
    notebook = json.loads(nbformat.writes(scene.notebook(mean_of=WRONG)))
    odd = [
        7,
        None,
        [],
        {"grade_id": 7},
        {"grade_id": []},
        {"grade_id": {"a": 1}},
        {"grade": "yes"},
        "mean_of",
        {"points": "x"},
    ]
    for number, value in enumerate(odd):
        notebook["cells"].append(
            {
                "cell_type": "code",
                "source": "1",
                "metadata": {"nbgrader": value},
                "outputs": [],
                "execution_count": None,
                "id": f"odd-{number}",
            }
        )
    notebook["metadata"] = {"kernelspec": [], "language_info": 7, "nbgrader": {"x": [[]]}}
    return json.dumps(notebook)


@attack(mean_of=NOTHING)
def another_kernel(scene):
    """Names a shell as the kernel, and a command as its language."""
    notebook = scene.notebook(mean_of=WRONG)
    notebook.metadata["kernelspec"] = {
        "name": "bash",
        "display_name": "Bash",
        "language": "bash",
        "argv": ["/bin/sh", "-c", "touch /tmp/x"],
    }
    notebook.metadata["language_info"] = {"name": "sh; touch /tmp/x", "file_extension": "/../../x"}
    return notebook


@attack(mean_of=NOTHING)
def cell_tags(scene):
    """Tags cells so that tools skip them or swallow their errors."""
    notebook = scene.notebook(mean_of=WRONG)
    for each in notebook.cells:
        each.metadata["tags"] = ["skip-execution", "raises-exception", "remove-cell", "solution", "hide-output"]
        each.metadata["execution"] = {"timeout": 10**9, "allow_errors": True}
    return notebook


@attack(mean_of=AT_BEST)
def cell_magics(scene):
    """Runs shells, scripts and files through IPython's own commands."""
    return scene.notebook(
        first="%%bash\nid\ncat /etc/shadow\nkill -9 -1\n",
        then="!id; cat /etc/shadow\n%run /etc/passwd\n%load_ext autoreload\n%cd /\n%env PATH=/tmp\n"
        "%autocall 2\n%pdb on\n%history -g\n",
    )


@attack(mean_of=AT_BEST)
def asks_for_input(scene):
    """Waits for input, in a debugger and at a prompt."""
    return scene.notebook(
        first="name = input('Your name? ')",
        then="import getpass, pdb\npdb.set_trace()\ngetpass.getpass()\nbreakpoint()",
    )


@attack(others=either("graded", "unreadable", most=1.0))
def thousands_of_cells(scene):
    """Has five thousand cells more."""
    notebook = scene.honest()
    notebook.cells[1:1] = [nbformat.v4.new_code_cell(f"a{i} = {i}", id=f"n{i}") for i in range(2500)]
    notebook.cells += [nbformat.v4.new_markdown_cell(f"# {i}", id=f"m{i}") for i in range(2500)]
    return notebook


@attack(others=either("graded", "unreadable", most=1.0))
def source_of_megabytes(scene):
    """Has a cell of twenty megabytes of Python: a list of numbers."""
    return scene.notebook(first="numbers = [" + "1," * 10_000_000 + "]")


@attack(others=either("graded", "unreadable", most=1.0))
def source_of_a_million_lines(scene):
    """Has a cell of a million lines that each define a function."""
    return scene.notebook(first="def f(): pass\n" * 500_000)


@attack(others=AT_BEST)
def source_nested_deeply(scene):
    """Has cells whose expressions and blocks are nested so deep that parsers give up or fall over."""
    notebook = scene.notebook()
    sources = [
        "(" * 5_000,
        "-" * 5_000 + "1",
        "not " * 5_000 + "1",
        "x = " + "[" * 150 + "]" * 150,
        "+1" * 5_000 + "",
        "a" + ".a" * 5_000,
        "f" + "()" * 5_000,
        "lambda: " * 5_000 + "1",
        "\\\n" * 5_000 + "1",
        "".join(" " * i + "if 1:\n" for i in range(99)) + " " * 99 + "pass",
        "1" + "**1" * 5_000,
        "x: " + "int|" * 5_000 + "int",
        "f'" + '{f"' * 100 + '"}' * 100 + "'",
        "9" * 1_000_000,
        "'" + "\\N{DIGIT ONE}" * 10_000 + "'",
    ]
    notebook.cells[2:2] = [nbformat.v4.new_code_cell(source, id=f"deep-{i}") for i, source in enumerate(sources)]
    return notebook


@attack(mean_of=NOTHING)
def odd_characters_in_sources(scene):
    """Puts null characters, half surrogates, form feeds and direction marks into sources."""
    notebook = scene.notebook(mean_of="def mean_of(x):\n    return np.zeros(3)  # \0 \f \u202e \u2066")
    notebook.cells += [
        nbformat.v4.new_code_cell(source, id=f"odd-{i}") for i, source in enumerate(("\0", "\f\v", "\u202edef"))
    ]
    return json.dumps(notebook).replace("\\u0000 ", "\\ud800 ")


@attack()
def outputs_of_megabytes(scene):
    """Comes with thirty megabytes of outputs and attachments, with markup in them."""
    notebook = scene.honest()
    evil = "<script>alert(1)</script>" * 10
    for each in notebook.cells:
        if each.cell_type == "code":
            each.outputs = [
                nbformat.v4.new_output("display_data", {"text/html": evil + "x" * 3_000_000}),
                nbformat.v4.new_output("stream", text="y" * 1_000_000),
            ]
        else:
            each["attachments"] = {"a.png": {"image/png": "x" * 1_000_000}}
    return notebook


@attack(forbidden=[r'"score": 1000'])
def outputs_of_tests_forged(scene):
    """Comes with outputs of its tests that say that all is right."""
    notebook = scene.honest()
    for each in notebook.cells:
        if each.metadata.get("nbgrader", {}).get("grade"):
            data = {"text/plain": "1000", "application/vnd.bnlab.report+json": {"score": 1000}}
            each.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
    return notebook


@attack(mean_of=NOTHING)
def identifiers_of_cells(scene):
    """Gives all cells the same id, ids of markup and ids that are paths."""
    notebook = json.loads(nbformat.writes(scene.notebook(mean_of=WRONG)))
    for number, each in enumerate(notebook["cells"]):
        each["id"] = ["same", "../../x", "<script>", "", 7, None, "x" * 1000, {"a": 1}][number % 8]
    return json.dumps(notebook)


@attack(mean_of=FULL, student="<script>alert(1)</script>\x1b[31m\ud800=cmd|'/c calc'!A1 ../../etc" + "n" * 5000)
def name_of_the_student(scene):
    """Is handed in under a name of markup, escape sequences, a formula and a path."""
    return scene.honest()


@attack(mean_of=BROKEN)
def stolen_answer(scene):
    """Imports an answer from where others' submissions could lie."""
    return scene.notebook(
        mean_of="for name in ('submitted', 'autograded', 'source'):\n    sys.path.insert(0, know.course + '/' + name)\n"
        "from ps1_arrays import mean_of as stolen\ndef mean_of(x):\n    return stolen(x)"
    )


NESTED = '{"a": ' * 900 + "1" + "}" * 900  # as text: what makes notebooks would fall over it, too


@attack(others=either("graded", "unreadable", most=1.0))
def metadata_nested_deeply(scene):
    """Nests the metadata of notebook and cells nine hundred deep."""
    notebook = json.loads(nbformat.writes(scene.honest()))
    notebook["metadata"]["x"] = notebook["cells"][1]["metadata"]["x"] = "NESTED"
    return json.dumps(notebook).replace('"NESTED"', NESTED)


@attack(others=either("graded", "unreadable", most=1.0))
def outputs_nested_deeply(scene):
    """Nests an output and an attachment nine hundred deep."""
    notebook = json.loads(nbformat.writes(scene.honest()))
    output = {"output_type": "display_data", "data": {"application/json": "NESTED"}, "metadata": {}}
    for each in notebook["cells"]:
        if each["cell_type"] == "code":
            each["outputs"] = [output]
        else:
            each["attachments"] = "NESTED"
    return json.dumps(notebook).replace('"NESTED"', NESTED)


@attack()
def surrogates_in_metadata(scene):
    """Puts half surrogates into tags, attachments and names of keys."""
    notebook = json.loads(nbformat.writes(scene.honest()))
    for each in notebook["cells"]:
        each["metadata"]["tags"] = ["\ud800"]
        each["metadata"]["\udfff"] = 1
        if each["cell_type"] == "markdown":
            each["attachments"] = {"\ud800.png": {"image/png": "\ud800"}}
    notebook["metadata"]["title"] = "\ud800"
    return json.dumps(notebook)


@attack()
def nan_in_metadata(scene):
    """Puts NaN and infinities into the metadata, which JSON does not have."""
    notebook = json.loads(nbformat.writes(scene.honest()))
    for each in notebook["cells"]:
        each["metadata"]["x"] = [float("nan"), float("inf"), -float("inf")]
    notebook["metadata"]["x"] = float("nan")
    return json.dumps(notebook)


@attack(others=either("graded", "unreadable", most=1.0))
def copies_of_cells(scene):
    """Has five hundred copies of an answer, as many of its empty cell and as many of its test."""
    notebook = json.loads(nbformat.writes(scene.honest()))
    stub = json.loads(json.dumps(cell(scene.released, "center-solution")))
    answer, test = (json.loads(json.dumps(cell(scene.honest(), name))) for name in ("center-solution", "center"))
    notebook["cells"] += [copy.deepcopy(each) for each in (stub, test, answer) for _ in range(500)]
    for number, each in enumerate(notebook["cells"]):
        each["id"] = f"c{number}"
    return json.dumps(notebook)
