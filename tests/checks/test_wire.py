"""The checks of every problem set, through an oracle that lets nothing pass but JSON and raw array bytes.

It stands for the trusted grader: if a check relied on holding the student's function, or on an object of the student's,
the two oracles would disagree here.
"""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.exercises.source import find_sources
from bnlab.exercises.verify import run_notebook, stub, without_figures
from bnlab.grading.wire import receive, send

COURSE = Path(__file__).parents[2] / "exercises"


def over_the_wire(value):
    stream = io.BytesIO()
    send(stream, value)
    stream.seek(0)
    return receive(stream)


class Wire:
    """An oracle in front of another, with a pipe between."""

    def __init__(self, behind):
        self._behind = behind

    @property
    def watching(self):
        return self._behind.watching

    @watching.setter
    def watching(self, whether):
        self._behind.watching = whether

    def call(self, args, kwargs):
        return self._pass(self._behind.call(*map(over_the_wire, (args, kwargs))))

    def method(self, handle, name, args, kwargs):
        return self._pass(self._behind.method(over_the_wire(handle), name, *map(over_the_wire, (args, kwargs))))

    def attribute(self, handle, name):
        return self._pass(self._behind.attribute(over_the_wire(handle), name))

    def make(self, what, args, kwargs):
        return self._pass(self._behind.make(over_the_wire(what), *map(over_the_wire, (args, kwargs))))

    def vjp(self, handle, args, cotangent, directions):
        return self._pass(self._behind.vjp(*map(over_the_wire, (handle, args, cotangent, directions))))

    @staticmethod
    def _pass(reply):
        return replace(reply, value=over_the_wire(reply.value))


@pytest.mark.parametrize("source", find_sources(COURSE), ids=lambda source: source.name)
def test_both_oracles_report_the_same(source):
    questions = source.problem_set.questions
    everything = [{}, {name: stub(source.notebook, name) for name in questions}]
    everything += [submission.cells for submission in source.submissions]
    answers = without_figures(source.notebook)
    answers.cells = [cell for cell in answers.cells if not cell.metadata.get("nbgrader", {}).get("grade")]
    compared = 0
    for cells in everything:
        first, *_ = run_notebook(answers, cells, source.directory.resolve())
        for name in cells or questions:
            here = questions[name].grade(source.problem_set.oracle(name, first[name]), seed=3)
            there = questions[name].grade(Wire(source.problem_set.oracle(name, first[name])), seed=3)
            # torch gives some warnings once in a process only
            here, there = (replace(r, parts=[replace(p, warned=()) for p in r.parts]) for r in (here, there))
            assert here == there, f"{name} of {source.name}"
            compared += 1
    assert compared >= 2 * len(questions)
