"""Explicit SIMD vectors for numba, continued: LANES values of a row in their own dtype, and stored as codes.

    values, differences, store_values, poisoned, nearest, store_codes

What a vector is, and everything else: vectors.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.kernels.cpu.simd.fixed_point import _REALS, _below, _load_some
from engine.kernels.cpu.simd.vectors import LANES, Vector, _address, _call, _splat, floats

_INT32 = ir.IntType(32)
doubles = Vector("float64")


def _vector_of(array: Any) -> Vector:
    return floats if array.dtype == types.float32 else doubles


def _store_some(builder: Any, vector: Any, address: Any, count: Any, name: str) -> None:
    """Store the first `count` lanes; the memory of the others is not touched. With a mask it is slow on many hosts."""
    kind = ir.FunctionType(ir.VoidType(), [vector.type, address.type, _INT32, ir.VectorType(ir.IntType(1), LANES)])
    store, n_bytes = f"llvm.masked.store.v{LANES}{name}", int(name[1:]) // 8
    with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))) as (whole, part):
        with whole:
            builder.store(vector, address, align=n_bytes)
        with part:
            masked = cgutils.get_or_insert_function(builder.module, kind, store)
            builder.call(masked, [vector, address, _INT32(n_bytes), _below(builder, count)])


@intrinsic
def values(_: Any, array: Any, at: Any, count: Any) -> Any:
    """Return array[at + lane] of a flat or C-contiguous float32 or float64 array, in its dtype; 0 from `count` on.

    Items of lanes beyond are not touched.
    """
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_REALS[width], LANES)
        address = _address(context, builder, sig.args[0], args[0], args[1], kind)
        return _load_some(builder, address, args[2])

    return _vector_of(array)(array, types.intp, types.intp), emit


@intrinsic
def differences(_: Any, a: Any, i: Any, b: Any, j: Any, count: Any, factor: Any) -> Any:
    """Return (a[i + lane] - b[j + lane]) * factor as floats in the lanes below `count`, and 0 in those beyond.

    a and b are flat or C-contiguous arrays of one dtype, float32 or float64, as is the factor; differences are rounded
    in that dtype. Items of lanes beyond are not touched.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_REALS[a.dtype.bitwidth], LANES)
        items = []
        for array, index in ((0, 1), (2, 3)):
            address = _address(context, builder, sig.args[array], args[array], args[index], kind)
            items.append(_load_some(builder, address, args[4]))
        scaled = builder.fmul(builder.fsub(*items), _splat(builder, args[5]))
        return scaled if a.dtype == types.float32 else builder.fptrunc(scaled, ir.VectorType(ir.FloatType(), LANES))

    return floats(a, types.intp, b, types.intp, types.intp, factor), emit


@intrinsic
def store_values(_: Any, array: Any, at: Any, vector: Any, count: Any) -> Any:
    """Store the lanes below `count` to array[at + lane] of a flat or C-contiguous array of the vector's dtype.

    With integers nothing is stored: such a call may stand in a branch that is never taken.
    """
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if isinstance(array.dtype, types.Float):
            address = _address(context, builder, sig.args[0], args[0], args[1], args[2].type)
            _store_some(builder, args[2], address, args[3], f"f{width}")
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), emit


@intrinsic
def poisoned(_: Any, poison: Any, vector: Any) -> Any:
    """Return poison + 0 times the vector: NaN, from then on, in lanes that held NaN or infinity."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zeros = ir.Constant(args[1].type, [0.0] * LANES)
        return builder.fadd(args[0], builder.fmul(args[1], zeros))

    return poison(poison, vector), emit


@intrinsic
def nearest(_: Any, vector: Any) -> Any:
    """Return the integers nearest to the lanes, as floats; of two, the even one."""
    return floats(vector), lambda context, builder, sig, args: _call(builder, f"llvm.rint.v{LANES}f32", list(args))


@intrinsic
def store_codes(_: Any, codes: Any, at: Any, vector: Any, zero: Any, count: Any) -> Any:
    """Store the lanes below `count`, which are integers, to codes[at + lane] with `zero` added.

    `codes` is flat or C-contiguous, uint8 or int16; items of lanes beyond are not touched. With float32 nothing is
    stored: such a call may stand in a branch that is never taken.
    """
    width = codes.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if isinstance(codes.dtype, types.Integer):
            numbers = builder.fptosi(args[2], ir.VectorType(_INT32, LANES))
            narrow = ir.VectorType(ir.IntType(width), LANES)
            stored = builder.trunc(builder.add(numbers, _splat(builder, args[3])), narrow)
            address = _address(context, builder, sig.args[0], args[0], args[1], narrow)
            _store_some(builder, stored, address, args[4], f"i{width}")
        return context.get_dummy_value()

    return types.void(codes, types.intp, vector, types.int32, types.intp), emit
