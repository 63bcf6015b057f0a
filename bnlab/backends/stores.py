"""Writing past the caches, in compiled loops.

A processor that stores a value first reads the cache line around it. For an output that is written as a whole and is
larger than the caches, that reading is for nothing: a third of what a copy moves. Stores of whole lines can do without
(x86: ``movntps``), and the copies of the C library do. We tried these loops on AMD's Zen 5, where they gained by it, and
nowhere else; on other architectures than x86 ordinary stores are used.

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


def store_past_caches(builder, value, pointer):
    """Put together the store of a vector of whole lines to where a line begins."""
    store = builder.store(value, pointer, align=LINE)
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


@intrinsic
def _put_line(typingctx, source, target):
    """Copy a cache line from one address to another, which begins one."""

    def codegen(context, builder, signature, arguments):
        line = ir.VectorType(ir.IntType(32), LINE // 4)
        source, target = (builder.inttoptr(address, line.as_pointer()) for address in arguments)
        store_past_caches(builder, builder.load(source, align=4), target)
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
