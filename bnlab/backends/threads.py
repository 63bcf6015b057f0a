"""Compiled loops in the very threads that torch computes in.

torch's threads (OpenMP) go on turning for milliseconds after an operation, in case another one follows. Threads of our
own would have to share the cores with them, just when BN comes after a convolution. So the same threads do the work:
torch has loaded the OpenMP library, and its function ``GOMP_parallel`` runs any C function in all of them.

Where there is no such library, and in a process that was forked (its OpenMP threads have stayed in the other one),
threads of our own do.
"""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def pointer(typingctx, address):
    """The pointer to an address, a whole number; in compiled code."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def add(typingctx, address, amount):
    """Add to the whole number at an address and return what it was; in compiled code.

    No two threads are given the same number, and who sees a number sees all that was written before it was put there.
    """

    def codegen(context, builder, signature, arguments):
        number = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", number, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


def _find():
    try:
        found = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError, TypeError):  # the last one on Windows
        return None
    found.argtypes, found.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return found


_gomp_parallel = _find() if "OpenMP" in torch.__config__.parallel_info() else None
_pool = None


def _forget():
    """In a forked process."""
    global _gomp_parallel, _pool
    _gomp_parallel = _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run(function, address, job, threads):
    """Call a compiled function in several threads at once, and wait for all of them.

    Parameters
    ----------
    function : ctypes function
        Takes the address of the job. It finds out by `add` what is left to do.
    address : int
        Where the function's code is.
    job : int
        The address of whatever it reads.
    threads : int
    """
    global _pool
    if threads == 1:
        function(job)
    elif _gomp_parallel is not None:
        _gomp_parallel(address, job, threads, 0)
    else:
        if _pool is None or _pool._max_workers < threads - 1:
            _pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="bnlab")
        others = [_pool.submit(function, job) for _ in range(threads - 1)]
        function(job)
        for each in others:
            each.result()
