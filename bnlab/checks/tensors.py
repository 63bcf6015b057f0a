"""torch tensors, for code that must work without torch.

Where torch was never imported there are no tensors, so nothing here imports it: it is looked up among the modules that
are there. A tensor is plain data for a check, like an array.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np


def loaded_torch() -> ModuleType | None:
    """The module torch where something has imported it, else None."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "Tensor") else None  # in the middle of its import it has no Tensor yet


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor (or parameter)."""
    torch = loaded_torch()
    return torch is not None and isinstance(value, torch.Tensor)


def copied(tensor: Any) -> Any:
    """A detached copy with the same dtype and memory format; on the CPU, whose memory can be looked at."""
    return tensor.detach().clone().cpu()


def fresh_argument(tensor: Any) -> Any:
    """A copy to hand to a function: a leaf that requires grad if the original does."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def as_array(tensor: Any) -> np.ndarray:
    """The values as a NumPy array: half types, which NumPy lacks or computes badly with, as float32."""
    torch = loaded_torch()
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.numpy()


def dtype_name(value: Any) -> str:
    """Name of the dtype of a tensor, an array or a number: "float32", "bfloat16" ..."""
    return str(value.dtype).removeprefix("torch.") if is_tensor(value) else str(np.asarray(value).dtype)


def same(a: Any, b: Any) -> bool:
    """Whether two tensors are equal in dtype, shape and all values; NaN equals NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    at_once = a.device == b.device and loaded_torch().equal(a, b)
    return at_once or np.array_equal(as_array(a), as_array(b), equal_nan=True)


@contextlib.contextmanager
def default_state() -> Iterator[None]:
    """Run a call with torch's own defaults, and give back afterwards what was set before.

    A student who has switched gradients off, or changed the default dtype, in some other cell loses nothing by that.
    """
    torch = loaded_torch()
    if torch is None:
        yield
        return
    dtype = torch.get_default_dtype()
    with torch.inference_mode(False), torch.enable_grad():
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            if torch.get_default_dtype() != dtype:
                torch.set_default_dtype(dtype)
