"""What passes between the trusted grader and the process that runs a submission: JSON and raw bytes, nothing else.

A message is a header (JSON) and buffers (the raw bytes of arrays), each preceded by its length. Reading one can build
numbers, strings, lists, tuples, dictionaries, NumPy arrays, torch tensors, handles and names, and no other object:
there is no pickle, no import and no call on the way. Whatever a hostile process writes, :func:`receive` returns such a
value or raises :class:`BadMessage`.
"""

import json
import math
import socket
import struct
import time
from typing import Any, BinaryIO

import numpy as np

from bnlab.checks import tensors
from bnlab.checks.oracle import Handle, Named

MESSAGE_LIMIT = 64 * 2**20  # bytes of all buffers of a message together
HEADER_LIMIT = 4 * 2**20  # bytes
DEPTH_LIMIT = 40  # containers inside containers
ITEMS_LIMIT = 100_000  # values in one message
OUTPUTS_LIMIT = 200  # outputs of one cell, and lines of a traceback
NAME_LIMIT = 200  # characters of a type's name
LENGTHS = struct.Struct("<IQ")  # bytes of the header, number of buffers
ARRAY_DTYPES = {np.dtype(code).str for code in "?bBhHiIlLqQefdFD"}
TENSOR_DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"}


class BadMessage(ValueError):
    """What was read is not a message: too long, too deep, cut off, or not what its header says."""


def send(stream: BinaryIO, value: Any) -> None:
    """Write one value.

    Parameters
    ----------
    stream : binary file
    value : plain data, Handle or Named
        Numbers, strings, None, arrays, tensors, and lists, tuples and dictionaries (with string keys) of these.

    Raises
    ------
    TypeError
        Something in it is not plain data.
    """
    buffers: list[bytes] = []
    header = _write_json(_encode(value, buffers)).encode()
    pieces = [LENGTHS.pack(len(header), len(buffers)), header]
    for buffer in buffers:
        pieces += [struct.pack("<Q", len(buffer)), buffer]
    stream.write(b"".join(pieces))
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one value.

    Raises
    ------
    EOFError
        The stream ended before a message began: the other side is gone.
    BadMessage
        What was read is no message.
    """
    start = stream.read(LENGTHS.size)
    if not start:
        raise EOFError("the other side is gone")
    size, count = LENGTHS.unpack(_exactly(start, LENGTHS.size))
    if size > HEADER_LIMIT or count > ITEMS_LIMIT:
        raise BadMessage(f"a header of {size} bytes with {count} buffers, allowed {HEADER_LIMIT} and {ITEMS_LIMIT}")
    header = _exactly(stream.read(size), size)
    buffers, total = [], 0
    for _ in range(count):
        (length,) = struct.unpack("<Q", _exactly(stream.read(8), 8))
        total += length
        if total > MESSAGE_LIMIT:
            raise BadMessage(f"more than {MESSAGE_LIMIT} bytes")
        buffers.append(_exactly(stream.read(length), length))
    try:
        tree = _read_json(header.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the header is not JSON ({type(error).__name__})") from None
    return _Decoder(buffers).value(tree, 0)


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise BadMessage(f"cut off after {len(data)} of {size} bytes")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Made once: json.dumps and json.loads would make one for each of the hundreds of messages of a submission.
_write_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_read_json = json.JSONDecoder(parse_constant=_no_constant).decode


class Channel:
    """One end of a connected socket that carries messages, each within a time limit.

    Parameters
    ----------
    connection : socket.socket
        It is the channel's from now on.
    """

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._deadline: float | None = None
        self._received, self._at = b"", 0  # what has come, and how far it has been read

    def send(self, value: Any, deadline: float | None = None) -> None:
        """Write one value. Raises TimeoutError where the other side doesn't take it until the deadline.

        Parameters
        ----------
        value : plain data
            See :func:`send`.
        deadline : float, optional
            By `time.monotonic`, in seconds. Default: wait for ever.
        """
        self._deadline = deadline
        send(self, value)

    def receive(self, deadline: float | None = None) -> Any:
        """Read one value; see :func:`receive`. Raises TimeoutError where it isn't there until the deadline."""
        self._deadline = deadline
        return receive(self)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._connection.fileno()

    # What `send` and `receive` ask of a stream.

    def write(self, data: bytes) -> None:
        self._wait()
        self._connection.sendall(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only where the other side has closed."""
        end = self._at + size
        if end <= len(self._received):  # nearly always: a small message comes as one piece
            piece, self._at = self._received[self._at : end], end
            return piece
        taken = bytearray(self._received[self._at :])
        self._received, self._at = b"", 0
        while len(taken) < size:
            self._wait()
            piece = self._connection.recv(min(max(size - len(taken), 2**16), 2**20))
            if not piece:
                break
            self._received, self._at = piece, min(size - len(taken), len(piece))
            taken += piece[: self._at]
        return bytes(taken)

    def _wait(self) -> None:
        """Give the next call on the socket what is left of the time."""
        if self._deadline is None:
            self._connection.settimeout(None)
            return
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("out of time")
        self._connection.settimeout(left)


# --- values to JSON --------------------------------------------------------------------------------------------------


def _encode(value: Any, buffers: list[bytes]) -> Any:
    """A value as JSON. None, booleans, strings and finite numbers stand for themselves, all else has a tag."""
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is tuple or kind is list:
        return [kind.__name__, [_encode(item, buffers) for item in value]]
    if kind is float:
        return value if math.isfinite(value) else ["float", value.hex()]
    if kind is complex:
        return ["complex", value.real.hex(), value.imag.hex()]
    if isinstance(value, (np.ndarray, np.generic)):
        array = value if kind is np.ndarray else np.asarray(value)  # a subclass may do anything
        dtype = array.dtype.str
        if dtype not in ARRAY_DTYPES:
            raise TypeError(f"an array of dtype {array.dtype} can't be sent")
        buffers.append(array.tobytes())
        return ["scalar" if isinstance(value, np.generic) else "array", dtype, list(array.shape)]
    if tensors.is_tensor(value):
        dtype = tensors.dtype_name(value)
        if dtype not in TENSOR_DTYPES:
            raise TypeError(f"a tensor of dtype {dtype} can't be sent")
        order = _memory_order(value)
        plain = value.detach()
        buffers.append(_tensor_bytes(plain if order == sorted(order) else plain.permute(order)))
        return ["tensor", dtype, list(value.shape), order, value.requires_grad]
    if isinstance(value, Handle):
        return ["handle", value.number, value.type_name[:NAME_LIMIT]]
    if isinstance(value, Named):
        return ["named", value.name]
    if kind is dict and all(type(key) is str for key in value):
        return ["dict", [[key, _encode(item, buffers)] for key, item in value.items()]]
    raise TypeError(f"a {kind.__name__} can't be sent")


def _tensor_bytes(tensor: Any) -> bytes:
    import torch

    if tensor.dtype is torch.bfloat16:  # which NumPy doesn't know
        tensor = tensor.contiguous().view(torch.int16)
    return (tensor if tensor.is_cpu else tensor.cpu()).numpy().tobytes()


def _memory_order(tensor: Any) -> list[int]:
    """The axes as they lie in memory, slowest first: 0, 2, 3, 1 for channels_last."""
    if tensor.is_contiguous():
        return list(range(tensor.ndim))
    order = sorted(range(tensor.ndim), key=lambda axis: -tensor.stride(axis))
    return order if tensor.permute(order).is_contiguous() else list(range(tensor.ndim))


# --- JSON to values --------------------------------------------------------------------------------------------------


class _Decoder:
    """Turns JSON into a value; buffers are used in the order in which arrays stand in it."""

    def __init__(self, buffers: list[bytes]):
        self._buffers = iter(buffers)
        self._items = 0

    def value(self, tree: Any, depth: int) -> Any:
        self._items += 1
        if self._items > ITEMS_LIMIT or depth > DEPTH_LIMIT:
            raise BadMessage(f"more than {ITEMS_LIMIT} values, or {DEPTH_LIMIT} containers inside each other")
        kind = type(tree)
        if tree is None or kind is str or kind is int or kind is bool or kind is float:
            return tree
        if kind is not list or not tree or type(tree[0]) is not str:
            raise BadMessage("a value without a tag")
        tag = tree[0]
        read = TAGS.get(tag)
        if read is None:
            raise BadMessage(f"unknown tag {tag[:NAME_LIMIT]!r}")
        try:
            return read(self, depth + 1, *tree[1:])
        except BadMessage:
            raise
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # a field is not what it should be
            raise BadMessage(f"a {tag} whose fields are wrong ({type(error).__name__})") from None

    def _float(self, depth: int, text: str) -> float:
        return float.fromhex(text)

    def _complex(self, depth: int, real: str, imaginary: str) -> complex:
        return complex(float.fromhex(real), float.fromhex(imaginary))

    def _list(self, depth: int, items: list) -> list:
        return [self.value(item, depth) for item in _of(list, items)]

    def _tuple(self, depth: int, items: list) -> tuple:
        return tuple(self._list(depth, items))

    def _dict(self, depth: int, pairs: list) -> dict:
        return {_of(str, key): self.value(item, depth) for key, item in _of(list, pairs)}

    def _array(self, depth: int, dtype: str, shape: list) -> np.ndarray:
        if dtype not in ARRAY_DTYPES:
            raise BadMessage(f"an array of dtype {dtype!r}")
        data = self._buffer(np.dtype(dtype).itemsize, shape)
        return np.frombuffer(bytearray(data), dtype).reshape(shape)  # of a bytearray, so that it can be written to

    def _scalar(self, depth: int, dtype: str, shape: list) -> np.generic:
        return self._array(depth, dtype, shape)[()]

    def _tensor(self, depth: int, dtype: str, shape: list, order: list, requires_grad: bool) -> Any:
        import torch

        if dtype not in TENSOR_DTYPES:
            raise BadMessage(f"a tensor of dtype {dtype!r}")
        if any(type(axis) is not int for axis in _of(list, order)) or sorted(order) != list(range(len(shape))):
            raise BadMessage("an order of axes that is none")
        kind = getattr(torch, dtype)
        data = self._buffer(kind.itemsize, shape)
        flat = torch.frombuffer(bytearray(data), dtype=kind) if data else torch.empty(0, dtype=kind)
        tensor = flat.reshape([shape[axis] for axis in order])
        if order != sorted(order):
            tensor = tensor.permute([order.index(axis) for axis in range(len(shape))])
        return tensor.requires_grad_() if _of(bool, requires_grad) else tensor

    def _handle(self, depth: int, number: int, type_name: str) -> Handle:
        return Handle(_of(int, number), _of(str, type_name)[:NAME_LIMIT])

    def _named(self, depth: int, name: str) -> Named:
        return Named(_of(str, name))

    def _buffer(self, itemsize: int, shape: list) -> bytes:
        """The next buffer, if it is as long as the shape says."""
        count = itemsize
        if len(_of(list, shape)) > 32:
            raise BadMessage("a shape that is none")
        for size in shape:
            if type(size) is not int or size < 0:
                raise BadMessage("a shape that is none")
            count *= size
        data = next(self._buffers, None)
        if data is None or len(data) != count:
            raise BadMessage(f"a buffer that doesn't fit the shape {shape}")
        return data


TAGS = {
    tag: getattr(_Decoder, f"_{tag}")
    for tag in ("float", "complex", "list", "tuple", "dict", "array", "scalar", "tensor", "handle", "named")
}


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise BadMessage(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value
