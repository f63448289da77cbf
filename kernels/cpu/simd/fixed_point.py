"""Explicit SIMD vectors for numba, continued: LANES features of a row in fixed point, to be added to sums.

    fixed_terms, add_terms, take_terms

What a vector is, and everything else: vectors.py.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.kernels.cpu.simd.vectors import FEATURES, LANES, Vector, _address, _call, _splat

_INT32, _LONG = ir.IntType(32), ir.IntType(64)
_REALS = {32: ir.FloatType(), 64: ir.DoubleType()}
_DOUBLES, _LONGS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(_LONG, LANES)
longs = Vector("int64")


def _below(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(_LONG, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, count))


def _load_some(builder: Any, address: Any, count: Any) -> Any:
    """Load the first `count` lanes; the others are 0, and their memory is not touched."""
    kind = address.type.pointee
    width = {ir.FloatType(): "f32", ir.DoubleType(): "f64", _LONG: "i64"}[kind.element]
    n_bytes = 4 if width == "f32" else 8
    signature = ir.FunctionType(kind, [address.type, _INT32, ir.VectorType(ir.IntType(1), LANES), kind])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.load.v{LANES}{width}")
    with builder.if_else(builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))) as (whole, part):
        with whole:
            loaded = builder.load(address, align=n_bytes)
            after_whole = builder.block
        with part:
            zeros = ir.Constant(kind, [0] * LANES)
            masked = builder.call(function, [address, _INT32(n_bytes), _below(builder, count), zeros])
            after_part = builder.block
    either = builder.phi(kind)
    either.add_incoming(loaded, after_whole)
    either.add_incoming(masked, after_part)
    return either


def _as_longs(builder: Any, value: Any) -> Any:
    """Return doubles below 2^62 rounded to integers; of two as near, the even one.

    Without an instruction for it, a number is parted at 2^32: the sum of a part and 1.5 2^52 is that part, rounded, in
    its low bits. Nothing is lost on the way to the parts, and multiples of 2^32 do not change which integer is even.
    """

    def rounded(vector: Any) -> Any:
        return _call(builder, f"llvm.rint.v{LANES}f64", [vector])

    def of_all(number: float) -> Any:
        return ir.Constant(_DOUBLES, [number] * LANES)

    def small(vector: Any) -> Any:
        shifted = builder.bitcast(builder.fadd(vector, of_all(1.5 * 2.0**52)), _LONGS)
        return builder.sub(shifted, builder.bitcast(of_all(1.5 * 2.0**52), _LONGS))

    if "avx2" not in FEATURES or "avx512dq" in FEATURES:
        return builder.fptosi(rounded(value), _LONGS)
    high = rounded(builder.fmul(value, of_all(2.0**-32)))
    low = builder.fsub(value, builder.fmul(high, of_all(2.0**32)))
    return builder.add(builder.shl(small(high), ir.Constant(_LONGS, [32] * LANES)), small(low))


@intrinsic
def fixed_terms(_: Any, X: Any, i: Any, shift: Any, scale: Any, t: Any, weight: Any, count: Any) -> Any:
    """Return round((X[i + lane] - shift[t + lane]) * weight * scale[t + lane]) as int64 in the lanes below `count`.

    X, flat or C-contiguous, is float32 or float64, everything else float64. Lanes beyond are 0, their items untouched.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, start, shifts, scales, first, own, some = args
        items = []
        for number, (array, index) in enumerate(((rows, start), (shifts, first), (scales, first))):
            array_type = sig.args[(0, 2, 3)[number]]
            kind = ir.VectorType(_REALS[array_type.dtype.bitwidth], LANES)
            address = _address(context, builder, array_type, array, index, kind)
            loaded = _load_some(builder, address, some)
            items.append(loaded if kind == _DOUBLES else builder.fpext(loaded, _DOUBLES))
        value = builder.fmul(builder.fmul(builder.fsub(items[0], items[1]), _splat(builder, own)), items[2])
        return _as_longs(builder, value)

    return longs(X, types.intp, shift, scale, types.intp, types.float64, types.intp), emit


def _change(method: str) -> Any:
    """Return what emits sums[at + lane] = sums[at + lane] (+ or -) terms in the lanes below `count`."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, terms, some = args
        address = _address(context, builder, sig.args[0], array, index, _LONGS)
        signature = ir.FunctionType(ir.VoidType(), [_LONGS, address.type, _INT32, ir.VectorType(ir.IntType(1), LANES)])
        function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.store.v{LANES}i64")
        with builder.if_else(builder.icmp_signed(">=", some, ir.Constant(some.type, LANES))) as (whole, part):
            with whole:  # what was stored with a mask cannot be loaded before it has left the store buffer
                changed = getattr(builder, method)(builder.load(address, align=8), terms)
                builder.store(changed, address, align=8)
            with part:
                changed = getattr(builder, method)(_load_some(builder, address, some), terms)
                builder.call(function, [changed, address, _INT32(8), _below(builder, some)])
        return context.get_dummy_value()

    return emit


@intrinsic
def add_terms(_: Any, sums: Any, at: Any, terms: Any, count: Any) -> Any:
    """Add the lanes below `count` to sums[at + lane]; `sums` is flat or C-contiguous, int64."""
    return types.void(sums, types.intp, terms, types.intp), _change("add")


@intrinsic
def take_terms(_: Any, sums: Any, at: Any, terms: Any, count: Any) -> Any:
    """Subtract the lanes below `count` from sums[at + lane]."""
    return types.void(sums, types.intp, terms, types.intp), _change("sub")
