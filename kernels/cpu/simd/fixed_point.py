"""SIMD operations in fixed point: convert LANES features of a row to int64, and add them to sums.

    fixed_point_terms, add_terms, subtract_terms

The fixed point: decisions/0002-labels-and-sums.md. The vector types: vectors.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.kernels.cpu.simd.instruction_sets import FEATURES
from engine.kernels.cpu.simd.vectors import LANES, Vector, _emit_address, _emit_call, _emit_splat

_INT32, _LONG = ir.IntType(32), ir.IntType(64)
_REALS = {32: ir.FloatType(), 64: ir.DoubleType()}
_DOUBLES, _LONGS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(_LONG, LANES)
longs = Vector("int64")


def _first_lanes(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(_LONG, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _emit_splat(builder, count))


def _emit_load_first(builder: Any, address: Any, count: Any) -> Any:
    """Load the first `count` lanes; the others are 0, and memory beyond is not touched."""
    kind = address.type.pointee
    width = {ir.FloatType(): "f32", ir.DoubleType(): "f64", _LONG: "i64"}[kind.element]
    n_bytes = 4 if width == "f32" else 8
    signature = ir.FunctionType(kind, [address.type, _INT32, ir.VectorType(ir.IntType(1), LANES), kind])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.load.v{LANES}{width}")
    with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))) as (full, partial):
        with full:
            loaded = builder.load(address, align=n_bytes)
            full_block = builder.block
        with partial:
            zeros = ir.Constant(kind, [0] * LANES)
            masked = builder.call(function, [address, _INT32(n_bytes), _first_lanes(builder, count), zeros])
            partial_block = builder.block
    merged = builder.phi(kind)
    merged.add_incoming(loaded, full_block)
    merged.add_incoming(masked, partial_block)
    return merged


def _emit_round_to_int64(builder: Any, value: Any) -> Any:
    """Round doubles below 2^62 to int64; halves go to the even integer.

    Where the host has no instruction for it, a number is split at 2^32. The sum of a part and 1.5 2^52 holds that part,
    rounded, in its low bits. The split is exact, and multiples of 2^32 do not change which integer is even.
    """

    def round_even(vector: Any) -> Any:
        return _emit_call(builder, f"llvm.rint.v{LANES}f64", [vector])

    def constant(number: float) -> Any:
        return ir.Constant(_DOUBLES, [number] * LANES)

    def to_int52(vector: Any) -> Any:
        shifted = builder.bitcast(builder.fadd(vector, constant(1.5 * 2.0**52)), _LONGS)
        return builder.sub(shifted, builder.bitcast(constant(1.5 * 2.0**52), _LONGS))

    if "avx2" not in FEATURES or "avx512dq" in FEATURES:
        return builder.fptosi(round_even(value), _LONGS)
    high = round_even(builder.fmul(value, constant(2.0**-32)))
    low = builder.fsub(value, builder.fmul(high, constant(2.0**32)))
    return builder.add(builder.shl(to_int52(high), ir.Constant(_LONGS, [32] * LANES)), to_int52(low))


@intrinsic
def fixed_point_terms(_: Any, X: Any, i: Any, shift: Any, scale: Any, t: Any, weight: Any, count: Any) -> Any:
    """Return round((X[i + lane] - shift[t + lane]) * weight * scale[t + lane]) as int64 in the first `count` lanes.

    X, flat or C-contiguous, is float32 or float64, everything else float64. The other lanes are 0, and memory beyond is
    not touched.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, start, shifts, scales, first, row_weight, n_lanes = args
        items = []
        for number, (array, index) in enumerate(((rows, start), (shifts, first), (scales, first))):
            array_type = sig.args[(0, 2, 3)[number]]
            kind = ir.VectorType(_REALS[array_type.dtype.bitwidth], LANES)
            address = _emit_address(context, builder, array_type, array, index, kind)
            loaded = _emit_load_first(builder, address, n_lanes)
            items.append(loaded if kind == _DOUBLES else builder.fpext(loaded, _DOUBLES))
        value = builder.fmul(builder.fmul(builder.fsub(items[0], items[1]), _emit_splat(builder, row_weight)), items[2])
        return _emit_round_to_int64(builder, value)

    return longs(X, types.intp, shift, scale, types.intp, types.float64, types.intp), emit


def _update_emitter(method: str) -> Any:
    """Return the code generator of sums[start + lane] += terms or -= terms in the first `count` lanes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, terms, count = args
        address = _emit_address(context, builder, sig.args[0], array, index, _LONGS)
        signature = ir.FunctionType(ir.VoidType(), [_LONGS, address.type, _INT32, ir.VectorType(ir.IntType(1), LANES)])
        function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.store.v{LANES}i64")
        with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))) as (full, partial):
            with full:  # without a mask: a masked store delays the next load until it has left the store buffer
                result = getattr(builder, method)(builder.load(address, align=8), terms)
                builder.store(result, address, align=8)
            with partial:
                result = getattr(builder, method)(_emit_load_first(builder, address, count), terms)
                builder.call(function, [result, address, _INT32(8), _first_lanes(builder, count)])
        return context.get_dummy_value()

    return emit


@intrinsic
def add_terms(_: Any, sums: Any, start: Any, terms: Any, count: Any) -> Any:
    """Add the first `count` lanes to sums[start + lane]; `sums` is flat or C-contiguous, int64."""
    return types.void(sums, types.intp, terms, types.intp), _update_emitter("add")


@intrinsic
def subtract_terms(_: Any, sums: Any, start: Any, terms: Any, count: Any) -> Any:
    """Subtract the first `count` lanes from sums[start + lane]."""
    return types.void(sums, types.intp, terms, types.intp), _update_emitter("sub")
