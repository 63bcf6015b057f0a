"""Writing past the caches, in compiled loops.

A processor that stores a value first reads the cache line around it. For an output that is written as a whole and is
larger than the caches, that reading is for nothing: a third of what a copy moves. Stores of whole lines can do without
(x86: ``movntps``). On a Zen 5 they make a forward pass over such a tensor 1.3 to 2 times as fast; the copies of the C
library use them too. Elsewhere than on x86 nobody has measured, so ordinary stores are used there.

These stores obey no order but that of fences: a thread calls `fence` before it tells anybody that it is done. And any
atomic operation waits for all of them. So where they are under way, there may be no array that numba has made itself,
whose users it counts by such operations.
"""

import platform

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

PAST_CACHES = platform.machine().lower() in ("x86_64", "amd64")
LINE = 64  # bytes


@intrinsic
def _put_line(typingctx, source, target):
    """Copy a cache line from one address to another, which begins one."""

    def codegen(context, builder, signature, arguments):
        line = ir.VectorType(ir.IntType(32), LINE // 4)
        source, target = (builder.inttoptr(address, line.as_pointer()) for address in arguments)
        store = builder.store(builder.load(source, align=4), target, align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def fence(typingctx):
    """Let all that was written before be seen before all that is written after."""

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@numba.njit(nogil=True, cache=True)
def put(values, out):
    """Copy contiguous values past the caches.

    Parameters
    ----------
    values, out : arrays of the same size in bytes
        A multiple of 64 bytes; `out` begins a cache line.
    """
    source, target = values.ctypes.data, out.ctypes.data
    for at in range(0, values.size * values.itemsize, LINE):
        _put_line(source + at, target + at)
