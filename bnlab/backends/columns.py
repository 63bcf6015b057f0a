"""Loops down the rows of some columns, whose sums or factors stay in registers; in compiled loops.

Where channels are innermost, each has a sum and factors of its own. A loop along a row loads them, and stores the sums,
for every value. These loops take `STRIPE` bytes of a row at a time, as many channels as the registers of a processor
hold, and go down: nothing is loaded but the values, and nothing stored but the output. numba has no such loops, so they
are put together here, in LLVM's own vectors.

An array that is an argument begins at the first value of its stripe, in the first row; `stride` is the number of values
from one row to the next.
"""

from contextlib import contextmanager

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnlab.backends.stores import store_past_caches

# In bytes: three sums, and what is loaded, fit into the registers.
STRIPE = 256 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 128

_FREE = ("contract", "reassoc", "nsz")  # what may be done to a sum, as in the other loops


class _Builder:
    """What all of the loops are made of: vectors at addresses, and a loop down the rows."""

    def __init__(self, context, builder, signature, arguments):
        self.builder = builder
        arrays = []
        for kind, value in zip(signature.args, arguments, strict=True):
            is_array = isinstance(kind, types.Array)
            arrays.append(context.make_array(kind)(context, builder, value).data if is_array else value)
        self.arguments = arrays
        scalar = context.get_value_type(signature.args[0].dtype)
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.vector = ir.VectorType(scalar, STRIPE // self.size)

    def load(self, pointer, offset=None):
        return self.builder.load(self._at(pointer, offset), align=self.size)

    def store(self, value, pointer, offset=None):
        self.builder.store(value, self._at(pointer, offset), align=self.size)

    def _at(self, pointer, offset):
        if offset is not None:
            pointer = self.builder.gep(pointer, [offset])
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def spread(self, scalar):
        """A vector of the same value."""
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), None)
        one = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
        )
        return self.builder.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), lanes)

    @contextmanager
    def sums(self, *arrays):
        """Sums that begin with what is in these arrays, and end there."""
        totals = [cgutils.alloca_once_value(self.builder, self.load(array)) for array in arrays]
        yield totals
        for total, array in zip(totals, arrays, strict=True):
            self.store(self.builder.load(total), array)

    def add_to(self, total, value):
        self.builder.store(self.add(self.builder.load(total), value), total)

    def add(self, a, b):
        return self.builder.fadd(a, b, flags=_FREE)

    def subtract(self, a, b):
        return self.builder.fsub(a, b, flags=_FREE)

    def multiply(self, a, b):
        return self.builder.fmul(a, b, flags=_FREE)

    def rows(self, count, stride):
        """A loop over rows; what it gives is the offset of a row."""
        return _Rows(self.builder, cgutils.for_range(self.builder, count), stride)

    def write_rows(self, value_of, out, past, count, stride):
        """Write what `value_of` makes of each row's offset, past the caches if `past`."""
        with self.builder.if_else(cgutils.is_not_null(self.builder, past)) as (then, otherwise):
            with then, self.rows(count, stride) as row:
                store_past_caches(self.builder, value_of(row), self._at(out, row))
            with otherwise, self.rows(count, stride) as row:
                self.store(value_of(row), out, row)


class _Rows:
    def __init__(self, builder, loop, stride):
        self.builder, self.loop, self.stride = builder, loop, stride

    def __enter__(self):
        return self.builder.mul(self.loop.__enter__().index, self.stride)

    def __exit__(self, *error):
        return self.loop.__exit__(*error)


def _loops(make):
    """An intrinsic of arrays and numbers that `make` builds and that returns nothing."""

    def intrinsic_of(typingctx, *kinds):
        def codegen(context, builder, signature, arguments):
            b = _Builder(context, builder, signature, arguments)
            make(b, *b.arguments)
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    return intrinsic_of


@intrinsic
def add_moments(typingctx, x, center, sums, squares, rows, stride):
    """Add x - center, and its square, to `sums` and `squares`."""

    def make(b, x, center, sums, squares, rows, stride):
        middle = b.load(center)
        with b.sums(sums, squares) as (first, second), b.rows(rows, stride) as row:
            d = b.subtract(b.load(x, row), middle)
            b.add_to(first, d)
            b.add_to(second, b.multiply(d, d))

    return _loops(make)(typingctx, x, center, sums, squares, rows, stride)


@intrinsic
def add_products(typingctx, x, dy, center, above, along, away, rows, stride):
    """Add dy, dy * (x - center), and x - center, to `above`, `along` and `away`."""

    def make(b, x, dy, center, above, along, away, rows, stride):
        middle = b.load(center)
        with b.sums(above, along, away) as totals, b.rows(rows, stride) as row:
            from_above, d = b.load(dy, row), b.subtract(b.load(x, row), middle)
            b.add_to(totals[0], from_above)
            b.add_to(totals[1], b.multiply(from_above, d))
            b.add_to(totals[2], d)

    return _loops(make)(typingctx, x, dy, center, above, along, away, rows, stride)


@intrinsic
def scale(typingctx, x, more, has_more, center, slant, height, least, out, past, rows, stride):
    """Write (x - center) * slant + height, plus `more` if it is there, or `least` where that is more."""

    def make(b, x, more, has_more, center, slant, height, least, out, past, rows, stride):
        middle, slant, height, least = b.load(center), b.load(slant), b.load(height), b.spread(least)

        def scaled(row):
            v = b.add(b.multiply(b.subtract(b.load(x, row), middle), slant), height)
            return b.builder.select(b.builder.fcmp_ordered("<", v, least), least, v)

        def scaled_with_more(row):
            v = b.add(b.add(b.multiply(b.subtract(b.load(x, row), middle), slant), height), b.load(more, row))
            return b.builder.select(b.builder.fcmp_ordered("<", v, least), least, v)

        with b.builder.if_else(cgutils.is_not_null(b.builder, has_more)) as (then, otherwise):
            with then:
                b.write_rows(scaled_with_more, out, past, rows, stride)
            with otherwise:
                b.write_rows(scaled, out, past, rows, stride)

    return _loops(make)(typingctx, x, more, has_more, center, slant, height, least, out, past, rows, stride)


@intrinsic
def gradient(typingctx, x, dy, center, factor, slope, shift, out, past, rows, stride):
    """Write dy * factor + (x - center) * slope + shift; past the caches if `past`."""

    def make(b, x, dy, center, factor, slope, shift, out, past, rows, stride):
        middle, factor, slope, shift = b.load(center), b.load(factor), b.load(slope), b.load(shift)

        def slope_at(row):
            along = b.add(b.multiply(b.subtract(b.load(x, row), middle), slope), shift)
            return b.add(b.multiply(b.load(dy, row), factor), along)

        b.write_rows(slope_at, out, past, rows, stride)

    return _loops(make)(typingctx, x, dy, center, factor, slope, shift, out, past, rows, stride)
