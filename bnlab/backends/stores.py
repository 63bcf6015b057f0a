"""Writing past the caches, in compiled loops.

A processor that stores a value first reads the cache line around it. For an output that is written as a whole and is
larger than the caches, that reading is for nothing: a third of what a copy moves. Stores of whole lines can do without
(x86: ``movntps``), and the copies of the C library do. We tried these loops on AMD's Zen 5, where they gained by it,
and nowhere else; on other architectures than x86 ordinary stores are used.

These stores obey no order but that of fences: a thread calls `fence` before it tells anybody that it is done. And any
atomic operation waits for all of them. So where they are under way, there may be no array that numba has made itself,
whose users it counts by such operations.
"""

import platform

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
def fence(typingctx):
    """Let all that was written before be seen before all that is written after."""

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen
