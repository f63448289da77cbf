"""Explicit SIMD vectors for numba, continued: LANES features of a row in fixed point, to be added to sums.

    fixed_terms, add_terms, take_terms

What a vector is, and everything else: simd.py.
"""

from __future__ import annotations

from typing import Any

from engine.kernels.cpu.simd import LANES, Vector, _address, _splat
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INT32, _LONG = ir.IntType(32), ir.IntType(64)
_REALS = {32: ir.FloatType(), 64: ir.DoubleType()}
_DOUBLES, _LONGS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(_LONG, LANES)
longs = Vector("int64")


def _below(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(_LONG, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, count))


def _load_some(builder: Any, address: Any, there: Any) -> Any:
    """Load the lanes of a mask; the others are 0, and their memory is not touched."""
    kind = address.type.pointee
    width = {ir.FloatType(): "f32", ir.DoubleType(): "f64", _LONG: "i64"}[kind.element]
    signature = ir.FunctionType(kind, [address.type, _INT32, there.type, kind])
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.load.v{LANES}{width}")
    zeros = ir.Constant(kind, [0] * LANES)
    return builder.call(function, [address, _INT32(4 if width == "f32" else 8), there, zeros])


@intrinsic
def fixed_terms(_: Any, X: Any, i: Any, shift: Any, scale: Any, t: Any, weight: Any, count: Any) -> Any:
    """Return round((X[i + lane] - shift[t + lane]) * weight * scale[t + lane]) as int64 in the lanes below `count`.

    X, flat or C-contiguous, is float32 or float64, everything else float64. Lanes beyond are 0, their items untouched.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, start, shifts, scales, first, own, some = args
        there = _below(builder, some)
        items = []
        for number, (array, index) in enumerate(((rows, start), (shifts, first), (scales, first))):
            array_type = sig.args[(0, 2, 3)[number]]
            kind = ir.VectorType(_REALS[array_type.dtype.bitwidth], LANES)
            address = _address(context, builder, array_type, array, index, kind)
            loaded = _load_some(builder, address, there)
            items.append(loaded if kind == _DOUBLES else builder.fpext(loaded, _DOUBLES))
        value = builder.fmul(builder.fmul(builder.fsub(items[0], items[1]), _splat(builder, own)), items[2])
        rint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_DOUBLES, [_DOUBLES]), f"llvm.rint.v{LANES}f64"
        )
        return builder.fptosi(builder.call(rint, [value]), _LONGS)

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
                there = _below(builder, some)
                changed = getattr(builder, method)(_load_some(builder, address, there), terms)
                builder.call(function, [changed, address, _INT32(8), there])
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
