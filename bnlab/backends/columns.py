"""Loops down the rows of some columns, whose sums or factors stay in registers; in compiled loops.

Where channels are innermost, each has a sum and factors of its own. A loop along a row loads them, and stores the sums,
for every value. These loops take `STRIPE` bytes of a row at a time, as many channels as the registers of a processor
hold, and go down: nothing is loaded but the values, and nothing stored but the output. numba has no such loops, so they
are put together here, in LLVM's own vectors.

An array that is an argument begins at the first value of its stripe, in the first row; `stride` is the number of values
from one row to the next, `step` that from one block of rows to the next. So a row of one channel, which is as long as
an image, can be gone along too: as rows of a stripe each, whose columns all have the same factors. The loops named
"of line" take a line of the cache at a time; they do the rest of a row.

numba keeps what it has compiled by the date of the caller's file: after a change here, touch ``backends/numba.py``.
"""

from contextlib import contextmanager

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnlab.backends.stores import LINE, store_past_caches

# In bytes: three sums, and what is loaded, fit into the registers.
STRIPE = 256 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 128

_FREE = ("contract", "reassoc", "nsz")  # what may be done to a sum, as in the other loops


class _Builder:
    """What all of the loops are made of: vectors at addresses, and a loop down the rows."""

    def __init__(self, context, builder, signature, arguments, width):
        self.builder = builder
        arrays = []
        for kind, value in zip(signature.args, arguments, strict=True):
            is_array = isinstance(kind, types.Array)
            arrays.append(context.make_array(kind)(context, builder, value).data if is_array else value)
        self.arguments = arrays
        scalar = context.get_value_type(signature.args[0].dtype)
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.vector = ir.VectorType(scalar, width // self.size)

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

    @contextmanager
    def rows(self, count, stride, times, step):
        """A loop over rows, and around it one over as many such blocks; what it gives is the offset of a row."""
        with cgutils.for_range(self.builder, times) as block, cgutils.for_range(self.builder, count) as row:
            yield self.builder.add(self.builder.mul(block.index, step), self.builder.mul(row.index, stride))

    def either(self, flag, make):
        """Build what `make` gives for a flag that is up, and for one that is not; which of them runs, the flag says."""
        with self.builder.if_else(cgutils.is_not_null(self.builder, flag)) as (then, otherwise):
            with then:
                make(True)
            with otherwise:
                make(False)

    def write_rows(self, value_of, out, past, *loop):
        """Write what `value_of` makes of each row's offset, past the caches if `past`."""

        def write(is_past):
            with self.rows(*loop) as row:
                if is_past:
                    store_past_caches(self.builder, value_of(row), self._at(out, row))
                else:
                    self.store(value_of(row), out, row)

        self.either(past, write)


def _loops(make, width):
    """An intrinsic of arrays and numbers that `make` builds of vectors of so many bytes; it returns nothing."""

    def intrinsic_of(typingctx, *kinds):
        def codegen(context, builder, signature, arguments):
            b = _Builder(context, builder, signature, arguments, width)
            make(b, *b.arguments)
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    return intrinsic_of


def _add_moments(width):
    @intrinsic
    def add_moments(typingctx, x, center, sums, squares, rows, stride, times, step):
        """Add x - center, and its square, to `sums` and `squares`."""

        def make(b, x, center, sums, squares, *loop):
            middle = b.load(center)
            with b.sums(sums, squares) as (first, second), b.rows(*loop) as row:
                d = b.subtract(b.load(x, row), middle)
                b.add_to(first, d)
                b.add_to(second, b.multiply(d, d))

        return _loops(make, width)(typingctx, x, center, sums, squares, rows, stride, times, step)

    return add_moments


def _scale(width):
    @intrinsic
    def scale(typingctx, x, more, has_more, center, slant, height, least, out, past, rows, stride, times, step):
        """Write (x - center) * slant + height, plus `more` if it is there, or `least` where that is more."""

        def make(b, x, more, has_more, center, slant, height, least, out, past, *loop):
            middle, slant, height, least = b.load(center), b.load(slant), b.load(height), b.spread(least)

            def write(with_more):
                def scaled(row):
                    v = b.add(b.multiply(b.subtract(b.load(x, row), middle), slant), height)
                    v = b.add(v, b.load(more, row)) if with_more else v
                    return b.builder.select(b.builder.fcmp_ordered("<", v, least), least, v)

                b.write_rows(scaled, out, past, *loop)

            b.either(has_more, write)

        return _loops(make, width)(
            typingctx, x, more, has_more, center, slant, height, least, out, past, rows, stride, times, step
        )

    return scale


def _let_through(b, x, dy, row, middle, slant, height, more=None):
    """x - center, and the gradient from above where (x - center) * slant + height, plus `more`, is positive; else 0."""
    d, from_above = b.subtract(b.load(x, row), middle), b.load(dy, row)
    if slant is None:
        return d, from_above
    v, zero = b.add(b.multiply(d, slant), height), ir.Constant(b.vector, None)
    v = v if more is None else b.add(v, b.load(more, row))
    return d, b.builder.select(b.builder.fcmp_ordered("<=", v, zero), zero, from_above)


def _add_products(width):
    @intrinsic
    def add_products(
        typingctx, x, dy, more, center, slant, height, relu, has_more, passed, above, along, away, rows, stride, times,
        step,
    ):  # fmt: skip
        """Add dy, dy * (x - center), and x - center, to `above`, `along` and `away`.

        With `relu`, of dy what a ReLU has let through; with `has_more`, which was added before, that goes to `passed`.
        """

        def make(b, x, dy, more, center, slant, height, relu, has_more, passed, above, along, away, *loop):
            middle, slant, height = b.load(center), b.load(slant), b.load(height)

            def add(has_relu, with_more=False):
                with b.sums(above, along, away) as totals, b.rows(*loop) as row:
                    line = (slant, height) if has_relu else (None, None)
                    d, from_above = _let_through(b, x, dy, row, middle, *line, more if with_more else None)
                    if with_more:
                        b.store(from_above, passed, row)
                    b.add_to(totals[0], from_above)
                    b.add_to(totals[1], b.multiply(from_above, d))
                    b.add_to(totals[2], d)

            b.either(relu, lambda has: b.either(has_more, lambda more: add(True, more)) if has else add(False))

        return _loops(make, width)(
            typingctx, x, dy, more, center, slant, height, relu, has_more, passed, above, along, away, rows, stride,
            times, step,
        )  # fmt: skip

    return add_products


def _gradient(width):
    @intrinsic
    def gradient(
        typingctx, x, dy, center, slant, height, relu, factor, slope, shift, training, out, past, rows, stride, times,
        step,
    ):  # fmt: skip
        """Write dy * factor, if `training` + (x - center) * slope + shift; with `relu`, of dy what it let through."""

        def make(b, x, dy, center, slant, height, relu, factor, slope, shift, training, out, past, *loop):
            middle, slant, height = b.load(center), b.load(slant), b.load(height)
            factor, slope, shift = b.load(factor), b.load(slope), b.load(shift)

            def write(has_relu, is_training):
                def slope_at(row):
                    line = (slant, height) if has_relu else (None, None)
                    d, from_above = _let_through(b, x, dy, row, middle, *line)
                    direct = b.multiply(from_above, factor)
                    return b.add(direct, b.add(b.multiply(d, slope), shift)) if is_training else direct

                b.write_rows(slope_at, out, past, *loop)

            b.either(relu, lambda has: b.either(training, lambda is_training: write(has, is_training)))

        return _loops(make, width)(
            typingctx, x, dy, center, slant, height, relu, factor, slope, shift, training, out, past, rows, stride,
            times, step,
        )  # fmt: skip

    return gradient


add_moments, add_moments_of_line = _add_moments(STRIPE), _add_moments(LINE)
scale, scale_of_line = _scale(STRIPE), _scale(LINE)
add_products, add_products_of_line = _add_products(STRIPE), _add_products(LINE)
gradient, gradient_of_line = _gradient(STRIPE), _gradient(LINE)
