"""Comparisons that explain themselves.

:func:`agree` compares what a student's function returned with what is right, and where they differ looks through the
named mistakes for the one that gives the same wrong numbers. :func:`holds` asserts a property. Both raise
:class:`Wrong`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnlab.checks import tensors

# How far a correct computation may be from the float64 answer, relative to the answer's scale. Wide enough for another
# order of summation and for a computation in float32, far narrower than any mistake that a check looks for.
TOLERANCE = {"float64": 1e-8, "float32": 2e-4, "float16": 5e-3, "bfloat16": 4e-2}


class Wrong(Exception):
    """An answer is wrong: what was seen, and a hint.

    Parameters
    ----------
    message : str
        What was given and what was expected.
    hint : str
        What the likely mistake is, or what to do.
    answered : bool
        False where the question was left as it was handed out.
    final : bool
        Whether the question's other parts are pointless to try: it isn't answered, or never returns.
    """

    def __init__(self, message: str, hint: str = "", *, answered: bool = True, final: bool = False):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.answered = answered
        self.final = final


def holds(condition: bool, message: str, hint: str = "") -> None:
    """Raise :class:`Wrong` with this message and hint unless `condition` is true."""
    if not condition:
        raise Wrong(message, hint)


def agree(
    name: str,
    given: Any,
    expected: Any,
    *,
    mistakes: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    tolerance: float | None = None,
    scale: float | None = None,
    hint: str = "",
) -> None:
    """Raise :class:`Wrong` unless `given` is the array, tensor or number `expected`, up to rounding.

    Parameters
    ----------
    name : str
        What the value is called in the question.
    given : plain data
        What the student's function returned.
    expected : array_like or tensor
        The right answer, computed in float64. A tensor of one axis or more demands a tensor.
    mistakes : mapping from str to array_like, or a function that returns one, optional
        What a known mistake would have given, by the hint that names it. The first that matches is shown. A function is
        called only where the answer is wrong: most answers are right, and needn't wait for what they aren't.
    tolerance : float, optional
        Largest difference allowed, relative to `scale`. By default it follows the dtype of `given`: 1e-8 for float64,
        2e-4 for float32, 5e-3 for float16, 4e-2 for bfloat16.
    scale : float, optional
        Size of the numbers that the answer was computed from. By default the largest of \\|expected\\|.
    hint : str
        Shown where no named mistake matches.

    Raises
    ------
    Wrong
        Wrong type, shape or dtype, NaN or infinity, or different values.
    """
    value = _as_array(name, given, expected, hint)
    expected = _plain(expected)
    if tolerance is None:
        tolerance = TOLERANCE.get(tensors.dtype_name(given), TOLERANCE["float64"])

    def matches(other: Any) -> bool:
        return value.shape == np.shape(other) and _close(value, _plain(other), tolerance, scale)

    if matches(expected):
        return
    mistakes = mistakes() if callable(mistakes) else mistakes or {}
    named = next((text for text, wrong in mistakes.items() if matches(wrong)), "")
    if value.shape != expected.shape:
        raise Wrong(f"{name} has shape {value.shape}, expected {expected.shape}.", named or hint)
    unexpected = ~np.isfinite(value) & np.isfinite(expected)
    if unexpected.any():
        first = _index(unexpected)
        raise Wrong(
            f"{name}{_at(first)} is {value[first]}, expected {_number(expected[first])}.",
            named or hint or "NaN comes from 0/0 or the root of a negative number, inf from a division by zero.",
        )
    difference = np.abs(value.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(np.where(np.isfinite(difference), difference, -1)), difference.shape)
    message = f"{name} = {show(given if tensors.is_tensor(given) else value)}\nexpected {show(expected)}"
    if value.size > 1:
        message += f"\nlargest difference at {name}{_at(worst)}: {_number(value[worst])}"
        message += f", expected {_number(expected[worst])}"
    raise Wrong(message, named or hint)


def _plain(value: Any) -> np.ndarray:
    return tensors.as_array(value) if tensors.is_tensor(value) else np.asarray(value)


def _as_array(name: str, given: Any, expected: Any, hint: str) -> np.ndarray:
    kind = "torch tensor" if tensors.is_tensor(expected) else "NumPy array"
    expected = _plain(expected)
    wanted = "a number" if expected.ndim == 0 else f"a {kind} of shape {expected.shape}"
    if given is None:
        raise Wrong(f"{name} is None, expected {wanted}.", hint or "Does the function return it?")
    is_number = isinstance(given, int | float | np.generic) and not isinstance(given, bool | np.bool_)
    is_tensor = tensors.is_tensor(given)
    if not (is_tensor or isinstance(given, np.ndarray) or is_number or _is_numbers(given)):
        raise Wrong(f"{name} is a {_type_name(given)}, expected {wanted}.")
    if kind == "torch tensor" and expected.ndim and not is_tensor:
        raise Wrong(f"{name} is a {_type_name(given)}, expected {wanted}.", "Stay in torch: no .numpy(), no .tolist().")
    value = _plain(given)
    if expected.dtype.kind in "fiu" and value.dtype.kind not in "fiu":
        raise Wrong(f"{name} has dtype {value.dtype}, expected real numbers such as float64.")
    if not is_tensor and value.dtype.kind == "f" and value.dtype.itemsize < 4:
        raise Wrong(f"{name} has dtype {value.dtype}, expected float32 or float64.", "float16 keeps three digits only.")
    return value


def _close(value: np.ndarray, target: np.ndarray, tolerance: float, scale: float | None) -> bool:
    if scale is None:
        size = np.abs(target)
        scale = float(size.max(initial=0))
        if not np.isfinite(scale):
            scale = float(size[np.isfinite(size)].max(initial=0))
        scale = scale or 1.0
    with np.errstate(invalid="ignore"):
        if value.dtype.kind == target.dtype.kind == "f" and bool((np.abs(value - target) <= tolerance * scale).all()):
            return True  # the usual case. What follows is for NaN and infinity, too, and takes several times as long
        return bool(np.allclose(value, target, rtol=0, atol=tolerance * scale, equal_nan=True))


def show(value: Any) -> str:
    """A value in one or a few short lines: small arrays whole, large ones by dtype, shape and range."""
    if tensors.is_tensor(value):
        shown = show(tensors.as_array(value))
        return shown.replace(" array of shape", " tensor of shape").replace("float32", tensors.dtype_name(value), 1)
    if isinstance(value, np.ndarray) and value.ndim:
        if value.size <= 12:
            text = np.array2string(value, precision=5, suppress_small=False, separator=", ", max_line_width=100)
            return text.replace("\n", "\n      ")
        about = f"{value.dtype} array of shape {value.shape}"
        if value.dtype.kind in "iuf" and np.isfinite(value).any():
            finite = value[np.isfinite(value)]
            about += f", values from {_number(finite.min())} to {_number(finite.max())}"
        if value.dtype.kind == "f" and np.isnan(value).any():
            about += f", {int(np.isnan(value).sum())} of them NaN"
        return about
    if isinstance(value, float | np.floating | np.ndarray):
        return _number(value)
    if isinstance(value, list | tuple) and any(map(_holds_arrays, value)):
        first = ", ".join(_outline(item) for item in value[:3])
        return f"{type(value).__name__} of {len(value)}: {first}{', ...' if len(value) > 3 else ''}"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} [...]"


def _holds_arrays(value: Any) -> bool:
    is_array = tensors.is_tensor(value) or isinstance(value, np.ndarray)
    return is_array or (isinstance(value, list | tuple) and any(map(_holds_arrays, value)))


def _outline(value: Any) -> str:
    """An array inside a list by its shape alone."""
    if isinstance(value, list | tuple) and _holds_arrays(value):
        return f"({', '.join(map(_outline, value))})"
    kind = "tensor" if tensors.is_tensor(value) else "array"
    return f"{kind} of shape {tuple(value.shape)}" if _holds_arrays(value) else show(value)


def _number(value: Any) -> str:
    return f"{float(value):.6g}" if np.asarray(value).dtype.kind in "iuf" else str(value)


def _index(mask: np.ndarray) -> tuple:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _at(index: tuple) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]" if len(index) else ""


def _type_name(given: Any) -> str:
    return getattr(given, "type_name", type(given).__name__)


def _is_numbers(given: Any) -> bool:
    """Whether it is a list of numbers, or a list of such lists of equal length: as good as an array."""
    if not isinstance(given, list | tuple) or not given:
        return False
    if all(_is_numbers(item) for item in given):
        return len({np.shape(item) for item in given}) == 1
    numbers = int | float | np.generic | np.ndarray
    return all(isinstance(item, numbers) and np.ndim(item) == 0 and not isinstance(item, bool) for item in given)
