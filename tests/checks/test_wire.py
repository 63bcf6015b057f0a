"""The checks of every problem set, through an oracle that lets nothing pass but JSON and raw array bytes.

It stands for the trusted grader: if a check relied on holding the student's function, or on an object of the student's,
the two oracles would disagree here.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bnlab.checks import Failure, Handle, Named
from bnlab.exercises.source import find_sources
from bnlab.exercises.verify import run_notebook, stub, without_figures

COURSE = Path(__file__).parents[2] / "exercises"


def encode(value):
    if isinstance(value, torch.Tensor):
        plain = value.detach().view(torch.uint16) if value.dtype == torch.bfloat16 else value.detach()
        last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        return {"tensor": encode(plain.numpy()), "dtype": str(value.dtype), "last": last, "grad": value.requires_grad}
    if isinstance(value, Named):
        return {"named": value.name}
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        data = base64.b64encode(value.tobytes()).decode()
        return {"array": data, "dtype": value.dtype.str, "shape": value.shape, "scalar": value.ndim == 0}
    if isinstance(value, Handle):
        return {"handle": value.number, "type": value.type_name}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, encode(item)] for key, item in value.items()]}
    assert value is None or type(value) in (bool, int, float, str), f"{type(value)} cannot cross the wire"
    return {"plain": value}


def decode(sent):
    kind, data = next(iter(sent.items()))
    if kind == "tensor":
        tensor = torch.from_numpy(np.array(decode(data)))
        tensor = tensor.view(torch.bfloat16) if sent["dtype"] == "torch.bfloat16" else tensor
        tensor = tensor.contiguous(memory_format=torch.channels_last) if sent["last"] else tensor
        return tensor.requires_grad_(sent["grad"])
    if kind == "named":
        return Named(data)
    if kind == "array":
        array = np.frombuffer(base64.b64decode(data), dtype=sent["dtype"]).reshape(sent["shape"]).copy()
        return array[()] if sent["scalar"] else array
    if kind == "handle":
        return Handle(data, sent["type"])
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(decode(item) for item in data)
    if kind == "dict":
        return {key: decode(item) for key, item in data}
    return data


def over_the_wire(value):
    return decode(json.loads(json.dumps(encode(value))))


class Wire:
    """An oracle in front of another, with a pipe between."""

    def __init__(self, behind):
        self._behind = behind

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
        failure = reply.failure and Failure(*json.loads(json.dumps(list(vars(reply.failure).values()))))
        if failure:
            failure = Failure(failure.kind, tuple(failure.types), failure.message, failure.where)
        return replace(reply, value=over_the_wire(reply.value), failure=failure)


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
            assert here == there, f"{name} of {source.name}"
            compared += 1
    assert compared >= 2 * len(questions)
