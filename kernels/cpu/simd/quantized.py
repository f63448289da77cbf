"""SIMD operations on rows in their own dtype, and on their quantized values.

    load_first, load_differences, store_first, propagate_nonfinite, rint, store_quantized, apply_scales

The last vector of a row may be partial: `count` lanes of it hold values, and memory beyond them is not touched.
The vector types: vectors.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.kernels.cpu.simd.fixed_point import _REALS, _emit_load_first, _first_lanes
from engine.kernels.cpu.simd.vectors import LANES, _emit_address, _emit_call, _emit_splat, _vector_type, floats

_INT32 = ir.IntType(32)


def _emit_store_first(builder: Any, vector: Any, address: Any, count: Any, name: str) -> None:
    """Store the first `count` lanes; full vectors without a mask, because masked stores are slow on many hosts."""
    kind = ir.FunctionType(ir.VoidType(), [vector.type, address.type, _INT32, ir.VectorType(ir.IntType(1), LANES)])
    store, n_bytes = f"llvm.masked.store.v{LANES}{name}", int(name[1:]) // 8
    with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))) as (full, partial):
        with full:
            builder.store(vector, address, align=n_bytes)
        with partial:
            masked = cgutils.get_or_insert_function(builder.module, kind, store)
            builder.call(masked, [vector, address, _INT32(n_bytes), _first_lanes(builder, count)])


@intrinsic
def load_first(_: Any, array: Any, start: Any, count: Any) -> Any:
    """Load array[start + lane] into the first `count` lanes, and 0 into the others.

    `array` is flat or C-contiguous, float32 or float64, and so is the vector.
    """
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_REALS[width], LANES)
        address = _emit_address(context, builder, sig.args[0], args[0], args[1], kind)
        return _emit_load_first(builder, address, args[2])

    return _vector_type(array.dtype)(array, types.intp, types.intp), emit


@intrinsic
def load_differences(_: Any, a: Any, i: Any, b: Any, j: Any, count: Any, factor: Any) -> Any:
    """Return (a[i + lane] - b[j + lane]) * factor as floats in the first `count` lanes, and 0 in the others.

    a and b are flat or C-contiguous arrays of one dtype, float32 or float64, as is the factor; differences are rounded
    in that dtype.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_REALS[a.dtype.bitwidth], LANES)
        items = []
        for array, index in ((0, 1), (2, 3)):
            address = _emit_address(context, builder, sig.args[array], args[array], args[index], kind)
            items.append(_emit_load_first(builder, address, args[4]))
        scaled = builder.fmul(builder.fsub(*items), _emit_splat(builder, args[5]))
        return scaled if a.dtype == types.float32 else builder.fptrunc(scaled, ir.VectorType(ir.FloatType(), LANES))

    return floats(a, types.intp, b, types.intp, types.intp, factor), emit


@intrinsic
def store_first(_: Any, array: Any, start: Any, vector: Any, count: Any) -> Any:
    """Store the first `count` lanes to array[start + lane]; `array` is flat or C-contiguous, in the vector's dtype.

    For an integer array nothing is stored: numba also compiles the branch that is not taken for its dtype.
    """
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if isinstance(array.dtype, types.Float):
            address = _emit_address(context, builder, sig.args[0], args[0], args[1], args[2].type)
            _emit_store_first(builder, args[2], address, args[3], f"f{width}")
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), emit


@intrinsic
def propagate_nonfinite(_: Any, poison: Any, vector: Any) -> Any:
    """Return poison + 0 * vector: NaN in every lane in which a vector has held NaN or infinity so far."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zeros = ir.Constant(args[1].type, [0.0] * LANES)
        return builder.fadd(args[0], builder.fmul(args[1], zeros))

    return poison(poison, vector), emit


@intrinsic
def rint(_: Any, vector: Any) -> Any:
    """Round the lanes to the nearest integers, as floats; halves to the even one."""
    return floats(vector), lambda context, builder, sig, args: _emit_call(builder, f"llvm.rint.v{LANES}f32", list(args))


@intrinsic
def store_quantized(_: Any, values: Any, start: Any, vector: Any, zero: Any, count: Any) -> Any:
    """Store the first `count` lanes, whole numbers in float32, to values[start + lane] with `zero` added.

    `values` is flat or C-contiguous, uint8 or int16. For a float32 array nothing is stored: numba also compiles the
    branch that is not taken for its dtype.
    """
    width = values.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if isinstance(values.dtype, types.Integer):
            integers = builder.fptosi(args[2], ir.VectorType(_INT32, LANES))
            narrow_type = ir.VectorType(ir.IntType(width), LANES)
            stored = builder.trunc(builder.add(integers, _emit_splat(builder, args[3])), narrow_type)
            address = _emit_address(context, builder, sig.args[0], args[0], args[1], narrow_type)
            _emit_store_first(builder, stored, address, args[4], f"i{width}")
        return context.get_dummy_value()

    return types.void(values, types.intp, vector, types.int32, types.intp), emit


@intrinsic
def apply_scales(_: Any, sums: Any, row_step: Any, row_term: Any, step: Any, offset: Any) -> Any:
    """Return (sums * row_step + row_term) * step + offset as floats if sums are integers; floats stay as they are.

    Each of the two multiplications is rounded once, with its addition.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[0] == floats:
            return args[0]
        products = builder.sitofp(args[0], args[1].type)
        scaled = _emit_call(builder, f"llvm.fma.v{LANES}f32", [products, args[1], args[2]])
        return _emit_call(builder, f"llvm.fma.v{LANES}f32", [scaled, args[3], args[4]])

    return floats(sums, floats, floats, floats, floats), emit
