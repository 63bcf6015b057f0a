"""What passes the pipe comes out as it went in, and nothing that a hostile process writes does more than be refused."""

import io
import json
import math
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bnlab.checks import Handle, Named
from bnlab.grading import wire
from bnlab.grading.wire import BadMessage, receive, send


def passed(value):
    stream = io.BytesIO()
    send(stream, value)
    stream.seek(0)
    result = receive(stream)
    assert stream.read() == b""
    return result


def message(tree, *buffers):
    header = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    parts = [wire.LENGTHS.pack(len(header), len(buffers)), header]
    for buffer in buffers:
        parts += [struct.pack("<Q", len(buffer)), buffer]
    return io.BytesIO(b"".join(parts))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad)
            and a.is_contiguous() == b.is_contiguous()
            and np.array_equal(a.detach().double().numpy(), b.detach().double().numpy(), equal_nan=True)
        )
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.tobytes() == b.tobytes() and a.shape == b.shape
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return type(b) is float and (a == b or (math.isnan(a) and math.isnan(b)))
    return type(a) is type(b) and a == b


arrays = npst.arrays(
    st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, np.bool_, np.complex128]),
    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.complex_numbers(allow_nan=False)
    | arrays
    | arrays.map(lambda array: array.dtype.type(7)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_plain_data_come_out_as_they_went_in(value):
    assert same(value, passed(value))


@pytest.mark.parametrize("dtype", sorted(wire.TENSOR_DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4, 5), (2, 3, 2, 3, 2)])
def test_tensors_keep_dtype_shape_and_grad_flag(dtype, shape):
    tensor = (torch.arange(math.prod(shape)) % 2).reshape(shape).to(getattr(torch, dtype))
    assert same(tensor, passed(tensor))
    if tensor.is_floating_point():
        assert same(tensor.clone().requires_grad_(), passed(tensor.clone().requires_grad_()))


@pytest.mark.parametrize(("axes", "form"), [(4, "channels_last"), (5, "channels_last_3d")])
def test_tensors_keep_their_memory_format(axes, form):
    form = getattr(torch, form)
    tensor = torch.randn(*range(2, 2 + axes)).contiguous(memory_format=form)
    result = passed(tensor)
    assert torch.equal(tensor, result) and result.is_contiguous(memory_format=form) and not result.is_contiguous()
    assert torch.equal(passed(tensor[..., ::2]), tensor[..., ::2])


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4))
def test_transposed_tensors_lie_in_memory_as_before(order, shape):
    tensor = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape).permute(order)
    result = passed(tensor)
    assert torch.equal(tensor, result)
    assert [tensor.stride(k) for k in range(4) if tensor.shape[k] > 1] == [
        result.stride(k) for k in range(4) if tensor.shape[k] > 1
    ]


def test_handles_and_names_pass():
    assert same(
        [Handle(3, "Layer"), Named("bnlab.models:small_vgg")],
        passed([Handle(3, "Layer"), Named("bnlab.models:small_vgg")]),
    )


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {3, 4}, b"bytes", np.array([object()]), np.datetime64("2026-01-01"), print]
)
def test_anything_else_is_not_sent(value):
    with pytest.raises(TypeError, match="can't be sent"):
        send(io.BytesIO(), [value])


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_noise_is_refused(data):
    stream = io.BytesIO(data)
    with pytest.raises((BadMessage, EOFError)):
        while True:
            receive(stream)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(sorted(wire.TAGS)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@settings(max_examples=300)
@given(json_values, st.lists(st.binary(max_size=16), max_size=3))
def test_any_json_is_a_plain_value_or_refused(tree, buffers):
    try:
        value = receive(message(tree, *buffers))
    except BadMessage:
        return
    assert same(value, passed(value))


NESTED = [["list", []]]
for _ in range(60):
    NESTED = ["list", [NESTED]]


@pytest.mark.parametrize(
    "stream",
    [
        message(["array", "<f8", [2]], b"\0" * 8),  # shorter than it says
        message(["array", "<f8", [1]], b"\0" * 16),
        message(["array", "<f8", [-1]], b""),
        message(["array", "<f8", [2.0]], b"\0" * 16),
        message(["array", "<f8", [True]], b"\0" * 8),
        message(["array", "|O", [1]], b"\0" * 8),  # pointers
        message(["array", "<M8[s]", [1]], b"\0" * 8),
        message(["array", "<f8", [1] * 40], b"\0" * 8),
        message(["array", "<f8", [2**62, 2**62]], b""),
        message(["tensor", "qint8", [1], [0], False], b"\0"),
        message(["tensor", "float32", [1], [1], False], b"\0" * 4),
        message(["tensor", "float32", [1], [True], False], b"\0" * 4),
        message(["tensor", "int64", [1], [0], True], b"\0" * 8),  # integers have no gradient
        message(["pickle", "gASVAAAA"]),
        message(["value", []]),  # a method of the reader's own
        message(["__init__", []]),
        message(["handle", "3", "x"]),
        message(["handle", True, "x"]),
        message(["dict", [["a"]]]),
        message(["dict", [[1, 2]]]),
        message(["float", "0x1p99999"]),
        message(["float", "ten"]),
        message({"a": 1}),
        message([]),
        message(NESTED),
        message(["list", [0] * (wire.ITEMS_LIMIT + 1)]),
        message(b"NaN"),
        message(b"[" * 100_000),
        message(b"\xff\xfe"),
        message(pickle.dumps(print)),
        io.BytesIO(wire.LENGTHS.pack(2**31, 0)),  # says that it is huge
        io.BytesIO(wire.LENGTHS.pack(1, 2**60)),
        io.BytesIO(wire.LENGTHS.pack(1, 1) + b"0" + struct.pack("<Q", 2**60)),
        io.BytesIO(wire.LENGTHS.pack(100, 0) + b"[1"),
        io.BytesIO(b"\0\0"),
    ],
)
def test_what_is_not_what_it_says_is_refused(stream):
    with pytest.raises(BadMessage):
        receive(stream)


def test_the_end_is_told_from_a_cut():
    with pytest.raises(EOFError):
        receive(io.BytesIO())


def test_nothing_is_unpickled(monkeypatch):
    """Neither Python's nor NumPy's nor torch's: they would run what the other side sends."""

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, name in ((pickle, "loads"), (pickle, "load"), (pickle, "Unpickler"), (torch, "load"), (np, "load")):
        monkeypatch.setattr(module, name, refuse)
    value = {"a": [np.arange(3), torch.ones(2, 3), (1.5, None)], "b": Handle(1, "X")}
    assert same(value, passed(value))
    assert "pickle" not in vars(wire) and "eval" not in vars(wire)
