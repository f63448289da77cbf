"""Explicit SIMD vectors for numba: local variables of these types live in registers.

LLVM vectorises only innermost loops, and an array never becomes a register, so a kernel that keeps a block of
accumulators in registers cannot be written with arrays. Here are two vector types of LANES 4-byte lanes, float32
and int32, and the few operations that kernels need. A word of codes holds 4 bytes or 2 int16 of one row: `accumulate`
multiplies and adds them in one instruction, where the host has it. Everything else is plain LLVM vector code, so it
runs wherever numba does; LANES is what the host's registers hold.

    load, load_narrow, store, prefetch, store_chosen, gather, gather_pairs, gather_quads, broadcast, splat,
    lane_numbers, +, -, *, /, root, fma, accumulate, least, greatest, less, select, tagged, bits, with_bits, as_numbers,
    total, lowest, highest, lane_bits, lowest_bit, lane_count, negated

The host is what numba compiles for: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES choose another one.
"""

from __future__ import annotations

import operator
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, overload, register_model


def _host_features() -> frozenset[str]:
    """Return the names of the instruction sets that numba compiles for."""
    if config.CPU_FEATURES is not None:
        words = config.CPU_FEATURES.split(",")
        return frozenset(word.strip()[1:] for word in words if word.strip().startswith("+"))
    if config.CPU_NAME is not None:
        return frozenset()
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


FEATURES = _host_features()
LANES = 16 if "avx512f" in FEATURES else 8 if "avx2" in FEATURES else 4
# Whether the products of a word of integers are one instruction; those of int16 and their addition may be two.
HAS_BYTE_DOTS = "avx512vnni" in FEATURES if LANES == 16 else LANES == 8 and "avxvnni" in FEATURES
HAS_SHORT_DOTS = HAS_BYTE_DOTS or LANES == 8 or (LANES == 16 and "avx512bw" in FEATURES)

_INT32 = ir.IntType(32)
_INT_LANES = ir.VectorType(_INT32, LANES)
_ELEMENTS = {
    "float32": ir.FloatType(),
    "int32": _INT32,
    "int64": ir.IntType(64),
    "float64": ir.DoubleType(),
    "bool": ir.IntType(1),
}


class Vector(types.Type):
    """LANES lanes of one element type; passed and held by value."""

    def __init__(self, element: str) -> None:
        self.element = element
        super().__init__(name=f"{element}x{LANES}")


floats, ints, mask = Vector("float32"), Vector("int32"), Vector("bool")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is one LLVM value."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_ELEMENTS[vector.element], LANES))


def _vector_of(array: Any) -> Vector:
    return floats if array.dtype == types.float32 else ints


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, pointee: Any) -> Any:
    if array_type.layout != "C":
        raise TypeError(f"{array_type} is not C-contiguous: a flat index would find other items.")
    data = context.make_array(array_type)(context, builder, array).data
    item = ir.IntType(8 * context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    typed = builder.bitcast(data, item.as_pointer())
    return builder.bitcast(builder.gep(typed, [index]), pointee.as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), value, _INT32(0))
    zeros = ir.Constant(_INT_LANES, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(first.type, ir.Undefined), zeros)


def _call(builder: Any, name: str, args: list[Any]) -> Any:
    kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def load(_: Any, array: Any, index: Any) -> Any:
    """Load LANES neighbouring items of a contiguous float32 or int32 array, from a flat index."""
    vector = _vector_of(array)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_ELEMENTS[vector.element], LANES)
        return builder.load(_address(context, builder, sig.args[0], args[0], args[1], kind), align=4)

    return vector(array, types.intp), emit


@intrinsic
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of an item, by its flat index, ahead of its use."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1], ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [address.type, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        builder.call(function, [address, _INT32(0), _INT32(3), _INT32(1)])  # for reading, into all caches, as data
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def store(_: Any, array: Any, index: Any, vector: Any) -> Any:
    """Store a vector into a contiguous float32 or int32 array, at a flat index."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1], args[2].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def broadcast(_: Any, array: Any, index: Any) -> Any:
    """Load one 4-byte item of a contiguous array into every lane."""
    vector = _vector_of(array)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = _ELEMENTS[vector.element]
        return _splat(builder, builder.load(_address(context, builder, sig.args[0], args[0], args[1], element)))

    return vector(array, types.intp), emit


@intrinsic
def splat(_: Any, value: Any) -> Any:
    """Put one float32 or int32 into every lane."""
    vector = floats if value == types.float32 else ints
    return vector(value), lambda context, builder, sig, args: _splat(builder, args[0])


def _arithmetic(function: Any, on_floats: str, on_ints: str) -> None:
    """Teach numba what an operator does lane by lane."""

    @intrinsic
    def lanewise(_: Any, a: Any, b: Any) -> Any:
        method = on_ints if a.element == "int32" else on_floats
        return a(a, b), lambda context, builder, sig, args: getattr(builder, method)(*args)

    @overload(function, strict=False)
    def operate(a: Any, b: Any) -> Any:
        if isinstance(a, Vector) and a == b:
            return lambda a, b: lanewise(a, b)
        return None


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")
_arithmetic(operator.truediv, "fdiv", "sdiv")


@intrinsic
def root(_: Any, a: Any) -> Any:
    """Return the square root of every lane."""
    return floats(a), lambda context, builder, sig, args: _call(builder, f"llvm.sqrt.v{LANES}f32", list(args))


@intrinsic
def as_numbers(_: Any, vector: Any) -> Any:
    """Return integers as floats, rounded; floats as they are."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[0].element == "float32":
            return args[0]
        return builder.sitofp(args[0], ir.VectorType(ir.FloatType(), LANES))

    return floats(vector), emit


@intrinsic
def gather(_: Any, array: Any, numbers: Any, start: Any) -> Any:
    """Load the items of a float32 array that LANES integers name, read from index `start` of `numbers`."""
    width = numbers.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, indices, first = args
        real = ir.FloatType()
        gathered = ir.Constant(ir.VectorType(real, LANES), ir.Undefined)
        for lane in range(LANES):
            at = builder.add(first, ir.Constant(first.type, lane))
            index = builder.load(_address(context, builder, sig.args[1], indices, at, ir.IntType(width)))
            index = index if width == 64 else builder.sext(index, ir.IntType(64))
            item = builder.load(_address(context, builder, sig.args[0], source, index, real))
            gathered = builder.insert_element(gathered, item, _INT32(lane))
        return gathered

    return floats(array, numbers, types.intp), emit


@intrinsic
def gather_pairs(_: Any, array: Any, origin: Any, numbers: Any, start: Any) -> Any:
    """Load pairs of neighbouring floats (2 i, 2 i + 1) of a flat array, from index `origin` of it on.

    LANES integers i are read from index `start` of `numbers`. Returns the first of all pairs and the second.
    """
    both = types.UniTuple(floats, 2)
    width = numbers.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, base, indices, first = args
        pair = ir.DoubleType()  # 8 bytes, moved as one
        gathered = ir.Constant(ir.VectorType(pair, LANES), ir.Undefined)
        for lane in range(LANES):
            at = builder.add(first, ir.Constant(first.type, lane))
            index = builder.load(_address(context, builder, sig.args[2], indices, at, ir.IntType(width)))
            index = builder.add(base, builder.shl(builder.zext(index, ir.IntType(64)), ir.IntType(64)(1)))
            item = builder.load(_address(context, builder, sig.args[0], source, index, pair), align=4)
            gathered = builder.insert_element(gathered, item, _INT32(lane))
        flat = builder.bitcast(gathered, ir.VectorType(ir.FloatType(), 2 * LANES))
        parts = []
        for which in (0, 1):
            order = ir.Constant(_INT_LANES, list(range(which, 2 * LANES, 2)))
            parts.append(builder.shuffle_vector(flat, ir.Constant(flat.type, ir.Undefined), order))
        return context.make_tuple(builder, both, parts)

    return both(array, types.intp, numbers, types.intp), emit


@intrinsic
def load_narrow(_: Any, array: Any, index: Any) -> Any:
    """Load LANES neighbouring items of a contiguous uint8 or uint16 array as integers."""
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(width), LANES)
        narrow = builder.load(_address(context, builder, sig.args[0], args[0], args[1], kind), align=width // 8)
        return builder.zext(narrow, _INT_LANES)

    return ints(array, types.intp), emit


@intrinsic
def with_bits(_: Any, vector: Any) -> Any:
    """Return the floats that have these bits."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.VectorType(ir.FloatType(), LANES))

    return floats(vector), emit


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    return floats(a, b, c), lambda context, builder, sig, args: _call(builder, f"llvm.fma.v{LANES}f32", list(args))


@intrinsic
def accumulate(_: Any, kind: Any, total: Any, x: Any, c: Any) -> Any:
    """Add to each lane of `total` the products of what one word of x and c holds; the type of `kind` says what.

    uint8: 4 of them, times 4 int8 in c, where HAS_BYTE_DOTS; int16: 2 by 2, where HAS_SHORT_DOTS; float32: one by one,
    with words that are bits of floats.
    """
    fused = {types.uint8: "vpdpbusd", types.int16: "vpdpwssd"}

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, accumulated, left, right = args
        if sig.return_type == floats:
            real = accumulated.type
            words = [builder.bitcast(word, real) for word in (left, right)]
            return _call(builder, f"llvm.fma.v{LANES}f32", [*words, accumulated])
        if HAS_BYTE_DOTS:
            return _call(builder, f"llvm.x86.avx512.{fused[kind]}.{32 * LANES}", [accumulated, left, right])
        shorts = ir.VectorType(ir.IntType(16), 2 * LANES)
        signature = ir.FunctionType(accumulated.type, [shorts, shorts])
        name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]
        products = cgutils.get_or_insert_function(builder.module, signature, name)
        pairs = builder.call(products, [builder.bitcast(word, shorts) for word in (left, right)])
        return builder.add(accumulated, pairs)

    return total(kind, total, x, c), emit


def _smaller(builder: Any, vector: Any, a: Any, b: Any) -> Any:
    return builder.icmp_signed("<", a, b) if vector.element == "int32" else builder.fcmp_ordered("<", a, b)


@intrinsic
def less(_: Any, a: Any, b: Any) -> Any:
    """Return the mask of a < b; NaN is not less."""
    return mask(a, b), lambda context, builder, sig, args: _smaller(builder, sig.args[0], *args)


@intrinsic
def least(_: Any, a: Any, b: Any) -> Any:
    """Return a where a < b, else b."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(_smaller(builder, sig.args[0], *args), *args)

    return a(a, b), emit


@intrinsic
def greatest(_: Any, a: Any, b: Any) -> Any:
    """Return b where a < b, else a."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(_smaller(builder, sig.args[0], *args), args[1], args[0])

    return a(a, b), emit


@intrinsic
def select(_: Any, chosen: Any, a: Any, b: Any) -> Any:
    """Return a where the mask is set, else b."""
    return a(chosen, a, b), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def tagged(_: Any, score: Any, keep: Any, tag: Any) -> Any:
    """Return a score's bits & keep | tag: small numbers ride in the low bits of scores. Also for a single score."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = isinstance(sig.return_type, Vector)
        whole = _INT_LANES if vector else _INT32
        mask, number = (_splat(builder, arg) if vector else arg for arg in args[1:])
        kept = builder.and_(builder.bitcast(args[0], whole), mask)
        return builder.bitcast(builder.or_(kept, number), args[0].type)

    return score(score, types.int32, types.int32), emit


@intrinsic
def bits(_: Any, vector: Any) -> Any:
    """Return a float vector's bits as integers; an integer vector as it is."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _INT_LANES)

    return ints(vector), emit


@intrinsic
def gather_quads(
    _: Any, array: Any, rows: Any, start: Any, stride: Any, offset: Any, apart: Any, out: Any, at: Any
) -> Any:
    """Transpose: of LANES rows, 4 neighbouring 4-byte words each, write 4 vectors of one word of every row.

    `array` (int32, flat), `rows` (int64) from index `start` names the rows, a row begins every `stride` words,
    `offset` is the first of the 4 words; `out` (int32, flat) gets a vector at index `at` and every `apart` words.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, numbers, first, step, column, between, target, place = args
        quad = ir.VectorType(_INT32, 4)
        word = _INT_LANES
        quads = []
        for lane in range(LANES):
            index = builder.add(first, ir.Constant(first.type, lane))
            row = builder.load(_address(context, builder, sig.args[1], numbers, index, ir.IntType(64)))
            item = builder.add(builder.mul(row, step), column)
            quads.append(builder.load(_address(context, builder, sig.args[0], source, item, quad), align=4))
        for vector, transposed in enumerate(_transposed(builder, quads)):
            index = builder.add(place, builder.mul(between, ir.Constant(place.type, vector)))
            builder.store(transposed, _address(context, builder, sig.args[6], target, index, word), align=4)
        return context.get_dummy_value()

    signature = types.void(array, rows, types.intp, types.intp, types.intp, types.intp, out, types.intp)
    return signature, emit


def _transposed(builder: Any, quads: list[Any]) -> list[Any]:
    """Return 4 vectors of LANES lanes from LANES vectors of 4: pairs are joined, then halves are parted by word."""
    joined = quads
    while len(joined) > 4:
        width = joined[0].type.count
        order = ir.Constant(ir.VectorType(_INT32, 2 * width), list(range(2 * width)))
        joined = [builder.shuffle_vector(a, b, order) for a, b in zip(joined[::2], joined[1::2], strict=True)]
    per = LANES // 4  # rows that each of the 4 vectors holds, 4 words a row

    def words(a: Any, b: Any, first: int) -> Any:  # word `first` of all rows of a and b, then word `first` + 1
        lanes = [4 * row + word for word in (first, first + 1) for row in range(2 * per)]
        return builder.shuffle_vector(a, b, ir.Constant(_INT_LANES, lanes))

    low = [words(joined[0], joined[1], word) for word in (0, 2)]
    high = [words(joined[2], joined[3], word) for word in (0, 2)]
    half = LANES // 2
    result = []
    for number in range(4):
        pair, part = divmod(number, 2)
        lanes = [part * half + lane for lane in range(half)] + [LANES + part * half + lane for lane in range(half)]
        order = ir.Constant(_INT_LANES, lanes)
        result.append(builder.shuffle_vector(low[pair], high[pair], order))
    return result


@intrinsic
def lane_numbers(_: Any) -> Any:
    """Return 0, 1, 2 … LANES - 1."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_INT_LANES, list(range(LANES)))

    return ints(), emit


@intrinsic
def total(_: Any, vector: Any) -> Any:
    """Return the sum of the lanes, halves added to halves."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rest, width = args[0], LANES
        while width > 1:
            width //= 2
            halves = []
            for first in (0, width):
                order = ir.Constant(ir.VectorType(_INT32, width), list(range(first, first + width)))
                halves.append(builder.shuffle_vector(rest, ir.Constant(rest.type, ir.Undefined), order))
            rest = builder.fadd(*halves)
        return builder.extract_element(rest, _INT32(0))

    return types.float32(vector), emit


@intrinsic
def lane_bits(_: Any, chosen: Any) -> Any:
    """Return a mask as the bits of an integer, lane 0 lowest."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), _INT32)

    return types.uint32(chosen), emit


@intrinsic
def negated(_: Any, chosen: Any) -> Any:
    """Return the mask of the lanes that are not set."""
    return mask(chosen), lambda context, builder, sig, args: builder.not_(args[0])


@intrinsic
def lowest_bit(_: Any, number: Any) -> Any:
    """Return the position of the lowest bit of a uint32 that is not 0."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_INT32, [_INT32, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i32")
        return builder.zext(builder.call(count, [args[0], ir.IntType(1)(1)]), ir.IntType(64))

    return types.intp(types.uint32), emit


@intrinsic
def lane_count(_: Any, chosen: Any) -> Any:
    """Return how many lanes of a mask are set."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = _call(builder, f"llvm.ctpop.i{LANES}", [builder.bitcast(args[0], ir.IntType(LANES))])
        return builder.zext(count, ir.IntType(64))

    return types.intp(chosen), emit


def _moved_down(builder: Any, vector: Any, chosen: Any) -> Any:
    """Return a vector of 8 lanes with the chosen ones first: their numbers are looked up by the bits of the mask."""
    orders = [[lane for lane in range(LANES) if bits >> lane & 1] for bits in range(1 << LANES)]
    filled = [number for order in orders for number in order + [0] * (LANES - len(order))]
    table = ir.Constant(ir.ArrayType(ir.IntType(8), len(filled)), filled)
    numbers = cgutils.global_constant(builder.module, "lanes_by_mask", table)
    entry = builder.zext(builder.bitcast(chosen, ir.IntType(LANES)), ir.IntType(64))
    address = builder.gep(numbers, [_INT32(0), builder.mul(entry, ir.IntType(64)(LANES))])
    narrow = ir.VectorType(ir.IntType(8), LANES)
    order = builder.zext(builder.load(builder.bitcast(address, narrow.as_pointer()), align=8), _INT_LANES)
    moved = _call(builder, "llvm.x86.avx2.permd", [builder.bitcast(vector, _INT_LANES), order])
    return builder.bitcast(moved, vector.type)


@intrinsic
def store_chosen(_: Any, array: Any, index: Any, vector: Any, chosen: Any) -> Any:
    """Store the lanes of a vector that a mask chooses, one after the other, from a flat index of an array on.

    There has to be room for LANES items: those behind the chosen ones may be overwritten.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = _address(context, builder, sig.args[0], args[0], args[1], args[2].type)
        if LANES == 8:  # where there is no such instruction
            builder.store(_moved_down(builder, args[2], args[3]), target, align=4)
            return context.get_dummy_value()
        target = builder.bitcast(target, args[2].type.element.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [args[2].type, target.type, args[3].type])
        suffix = "f32" if sig.args[2] == floats else "i32"
        name = f"llvm.masked.compressstore.v{LANES}{suffix}"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[2], target, args[3]])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, chosen), emit


@intrinsic
def lowest(_: Any, vector: Any) -> Any:
    """Return the least lane of a float vector."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [args[0].type])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fmin.v{LANES}f32")
        return builder.call(function, args)

    return types.float32(vector), emit


@intrinsic
def highest(_: Any, vector: Any) -> Any:
    """Return the greatest lane of a float vector."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [args[0].type])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fmax.v{LANES}f32")
        return builder.call(function, args)

    return types.float32(vector), emit
