"""SIMD vector types for numba, and the operations on them: local variables of these types live in registers.

LLVM vectorises only innermost loops, and an array never becomes a register, so a kernel that keeps a block of
accumulators in registers cannot be written with arrays. This file defines vectors of LANES 4-byte lanes, float32 and
int32, masks, and the operations that kernels need. LANES is what the registers of the host hold. A word is one lane of
quantized values, 4 bytes or 2 int16 of one row; `dot_accumulate` multiplies and adds them in one instruction where the
host has it. Everything else is plain LLVM vector code, which runs wherever numba does.

    memory      load, load_widened, broadcast, gather, gather_pairs, gather_quads, store, compress_store, prefetch
    values      splat, lane_indices, convert_to_floats, widen, reinterpret_as_floats
    arithmetic  +, -, *, /, sqrt, fma, dot_accumulate, minimum, maximum, reduce_sum, reduce_min, reduce_max
    masks       less, select, invert_mask, mask_to_bits, count_lanes, count_trailing_zeros

What the host has is what kernels are compiled for: instruction_sets.py chooses it. Where sums must have the same bits
on every host, kernels keep SUM_LANES accumulators, in as many vectors as that takes, and `fold` adds them.
"""

from __future__ import annotations

import operator
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from engine.kernels.cpu.jit_options import INNER
from engine.kernels.cpu.simd.instruction_sets import FEATURES

LANES = 16 if "avx512f" in FEATURES else 8 if "avx2" in FEATURES else 4
SUM_LANES = 16  # accumulators of a sum that has the same bits on every host: in 16 / LANES vectors
# Whether the host has dot products of int8 and int16 words: those of int8 in one instruction, of int16 in one or two.
HAS_INT8_DOT = "avx512vnni" in FEATURES if LANES == 16 else LANES == 8 and "avxvnni" in FEATURES
HAS_INT16_DOT = HAS_INT8_DOT or LANES == 8 or (LANES == 16 and "avx512bw" in FEATURES)

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
    """numba type of a vector: LANES lanes of one element type, passed and held by value."""

    def __init__(self, element: str) -> None:
        self.element = element
        super().__init__(name=f"{element}x{LANES}")


floats, ints, mask, doubles = Vector("float32"), Vector("int32"), Vector("bool"), Vector("float64")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Data model of Vector: one LLVM vector value."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(_ELEMENTS[vector.element], LANES))


def _vector_type(item: Any) -> Vector:
    return {types.float32: floats, types.float64: doubles}.get(item, ints)


def _emit_address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, pointee: Any) -> Any:
    if array_type.layout != "C":
        raise TypeError(f"{array_type} is not C-contiguous: a flat index would find other items.")
    data = context.make_array(array_type)(context, builder, array).data
    item = ir.IntType(8 * context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    typed = builder.bitcast(data, item.as_pointer())
    return builder.bitcast(builder.gep(typed, [index]), pointee.as_pointer())


def _emit_splat(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), value, _INT32(0))
    zeros = ir.Constant(_INT_LANES, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(first.type, ir.Undefined), zeros)


def _emit_call(builder: Any, name: str, args: list[Any]) -> Any:
    kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def load(_: Any, array: Any, index: Any) -> Any:
    """Load LANES consecutive items of a contiguous float32, float64 or int32 array, from a flat index on."""
    vector = _vector_type(array.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(_ELEMENTS[vector.element], LANES)
        return builder.load(_emit_address(context, builder, sig.args[0], args[0], args[1], kind), align=4)

    return vector(array, types.intp), emit


@intrinsic
def prefetch(_: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of an item, given by its flat index."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _emit_address(context, builder, sig.args[0], args[0], args[1], ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [address.type, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch")
        builder.call(function, [address, _INT32(0), _INT32(3), _INT32(1)])  # to read, into all caches, data
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def store(_: Any, array: Any, index: Any, vector: Any) -> Any:
    """Store a vector to a contiguous float32, float64 or int32 array, from a flat index on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _emit_address(context, builder, sig.args[0], args[0], args[1], args[2].type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@intrinsic
def broadcast(_: Any, array: Any, index: Any) -> Any:
    """Load one 4-byte item of a contiguous array into every lane."""
    vector = _vector_type(array.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = _ELEMENTS[vector.element]
        return _emit_splat(
            builder, builder.load(_emit_address(context, builder, sig.args[0], args[0], args[1], element))
        )

    return vector(array, types.intp), emit


@intrinsic
def splat(_: Any, value: Any) -> Any:
    """Put one float32, float64 or int32 into every lane."""
    vector = _vector_type(value)
    return vector(value), lambda context, builder, sig, args: _emit_splat(builder, args[0])


def _register_operator(function: Any, on_floats: str, on_ints: str) -> None:
    """Register an operator with numba, lane by lane."""

    @intrinsic
    def lanewise(_: Any, a: Any, b: Any) -> Any:
        method = on_ints if a.element == "int32" else on_floats
        return a(a, b), lambda context, builder, sig, args: getattr(builder, method)(*args)

    @overload(function, strict=False)
    def operate(a: Any, b: Any) -> Any:
        if isinstance(a, Vector) and a == b:
            return lambda a, b: lanewise(a, b)
        return None


_register_operator(operator.add, "fadd", "add")
_register_operator(operator.sub, "fsub", "sub")
_register_operator(operator.mul, "fmul", "mul")
_register_operator(operator.truediv, "fdiv", "sdiv")


@intrinsic
def sqrt(_: Any, a: Any) -> Any:
    """Return the square root of every lane."""
    return floats(a), lambda context, builder, sig, args: _emit_call(builder, f"llvm.sqrt.v{LANES}f32", list(args))


@intrinsic
def convert_to_floats(_: Any, vector: Any) -> Any:
    """Convert integers to floats, rounded; floats stay as they are."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[0].element == "float32":
            return args[0]
        return builder.sitofp(args[0], ir.VectorType(ir.FloatType(), LANES))

    return floats(vector), emit


def _emit_gather(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Load the items of a float32 array one by one; indices as `gather` has them."""
    source, index_array, first = args
    width = sig.args[1].dtype.bitwidth
    real = ir.FloatType()
    gathered = ir.Constant(ir.VectorType(real, LANES), ir.Undefined)
    for lane in range(LANES):
        position = builder.add(first, ir.Constant(first.type, lane))
        index = builder.load(_emit_address(context, builder, sig.args[1], index_array, position, ir.IntType(width)))
        index = index if width == 64 else builder.sext(index, ir.IntType(64))
        item = builder.load(_emit_address(context, builder, sig.args[0], source, index, real))
        gathered = builder.insert_element(gathered, item, _INT32(lane))
    return gathered


@intrinsic
def gather(_: Any, array: Any, indices: Any, start: Any) -> Any:
    """Load the items of a float32 array at the LANES indices in `indices`, read from index `start` of it on.

    Indices that are int64 are those of rows, which often follow each other: their items are then loaded at once.
    """
    many = ir.VectorType(ir.IntType(64), LANES)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if sig.args[1].dtype.bitwidth != 64:
            return _emit_gather(context, builder, sig, args)
        source, index_array, start = args
        rows = builder.load(_emit_address(context, builder, sig.args[1], index_array, start, many), align=8)
        first = builder.extract_element(rows, _INT32(0))
        following = builder.add(_emit_splat(builder, first), ir.Constant(many, list(range(LANES))))
        equal = builder.bitcast(builder.icmp_signed("==", rows, following), ir.IntType(LANES))
        kind = ir.VectorType(ir.FloatType(), LANES)
        in_order = builder.icmp_signed("==", equal, ir.Constant(equal.type, -1))
        with builder.if_else(in_order, likely=True) as (consecutive, scattered):
            with consecutive:
                at_once = builder.load(_emit_address(context, builder, sig.args[0], source, first, kind), align=4)
                consecutive_end = builder.block
            with scattered:
                one_by_one = _emit_gather(context, builder, sig, args)
                scattered_end = builder.block
        gathered = builder.phi(kind)
        gathered.add_incoming(at_once, consecutive_end)
        gathered.add_incoming(one_by_one, scattered_end)
        return gathered

    return floats(array, indices, types.intp), emit


@intrinsic
def gather_pairs(_: Any, array: Any, origin: Any, indices: Any, start: Any) -> Any:
    """Load pairs of consecutive floats (2 i, 2 i + 1) of a flat array, from index `origin` of it on.

    LANES integers i are read from index `start` of `indices`. Returns two vectors: the first of all pairs, the second.
    """
    both = types.UniTuple(floats, 2)
    width = indices.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, base, index_array, first = args
        pair = ir.DoubleType()  # 8 bytes, moved as one
        gathered = ir.Constant(ir.VectorType(pair, LANES), ir.Undefined)
        for lane in range(LANES):
            position = builder.add(first, ir.Constant(first.type, lane))
            index = builder.load(_emit_address(context, builder, sig.args[2], index_array, position, ir.IntType(width)))
            index = builder.add(base, builder.shl(builder.zext(index, ir.IntType(64)), ir.IntType(64)(1)))
            item = builder.load(_emit_address(context, builder, sig.args[0], source, index, pair), align=4)
            gathered = builder.insert_element(gathered, item, _INT32(lane))
        flat = builder.bitcast(gathered, ir.VectorType(ir.FloatType(), 2 * LANES))
        parts = []
        for which in (0, 1):
            order = ir.Constant(_INT_LANES, list(range(which, 2 * LANES, 2)))
            parts.append(builder.shuffle_vector(flat, ir.Constant(flat.type, ir.Undefined), order))
        return context.make_tuple(builder, both, parts)

    return both(array, types.intp, indices, types.intp), emit


@intrinsic
def load_widened(_: Any, array: Any, index: Any) -> Any:
    """Load LANES consecutive items of a contiguous uint8 or uint16 array, and zero-extend them to int32."""
    width = array.dtype.bitwidth

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(width), LANES)
        narrow = builder.load(_emit_address(context, builder, sig.args[0], args[0], args[1], kind), align=width // 8)
        return builder.zext(narrow, _INT_LANES)

    return ints(array, types.intp), emit


@intrinsic
def reinterpret_as_floats(_: Any, vector: Any) -> Any:
    """Return integers reinterpreted as float32, bit for bit."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.VectorType(ir.FloatType(), LANES))

    return floats(vector), emit


@intrinsic
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once: of vectors lane by lane, or of three numbers of one type."""
    name = f"llvm.fma.{_suffix(a)}"
    return a(a, b, c), lambda context, builder, sig, args: _emit_call(builder, name, list(args))


def _suffix(kind: Any) -> str:
    """Return how LLVM's intrinsics name a type of real numbers: a vector, or one number."""
    element = kind.element if isinstance(kind, Vector) else str(kind)
    return (f"v{LANES}" if isinstance(kind, Vector) else "") + {"float32": "f32", "float64": "f64"}[element]


@intrinsic
def widen(_: Any, vector: Any) -> Any:
    """Return float32 lanes as float64."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fpext(args[0], ir.VectorType(ir.DoubleType(), LANES))

    return doubles(vector), emit


@intrinsic
def dot_accumulate(_: Any, kind: Any, sums: Any, x: Any, c: Any) -> Any:
    """Add to each lane of `sums` the dot product of one word of x and one of c, whose dtype is that of `kind`.

    uint8: 4 products with the 4 int8 of c, only where HAS_INT8_DOT. int16: 2 products, only where HAS_INT16_DOT.
    float32: one product; words are then the bits of floats.
    """
    fused = {types.uint8: "vpdpbusd", types.int16: "vpdpwssd"}

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, accumulated, left, right = args
        if sig.return_type == floats:
            real = accumulated.type
            words = [builder.bitcast(word, real) for word in (left, right)]
            return _emit_call(builder, f"llvm.fma.v{LANES}f32", [*words, accumulated])
        if HAS_INT8_DOT:
            return _emit_call(builder, f"llvm.x86.avx512.{fused[kind]}.{32 * LANES}", [accumulated, left, right])
        shorts = ir.VectorType(ir.IntType(16), 2 * LANES)
        signature = ir.FunctionType(accumulated.type, [shorts, shorts])
        name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[LANES]
        products = cgutils.get_or_insert_function(builder.module, signature, name)
        pairs = builder.call(products, [builder.bitcast(word, shorts) for word in (left, right)])
        return builder.add(accumulated, pairs)

    return sums(kind, sums, x, c), emit


def _emit_less(builder: Any, vector: Any, a: Any, b: Any) -> Any:
    return builder.icmp_signed("<", a, b) if vector.element == "int32" else builder.fcmp_ordered("<", a, b)


@intrinsic
def less(_: Any, a: Any, b: Any) -> Any:
    """Return the mask of a < b; NaN is not less."""
    return mask(a, b), lambda context, builder, sig, args: _emit_less(builder, sig.args[0], *args)


@intrinsic
def minimum(_: Any, a: Any, b: Any) -> Any:
    """Return a where a < b, else b."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(_emit_less(builder, sig.args[0], *args), *args)

    return a(a, b), emit


@intrinsic
def maximum(_: Any, a: Any, b: Any) -> Any:
    """Return b where a < b, else a."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(_emit_less(builder, sig.args[0], *args), args[1], args[0])

    return a(a, b), emit


@intrinsic
def select(_: Any, condition: Any, a: Any, b: Any) -> Any:
    """Return a where the mask is set, else b."""
    return a(condition, a, b), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def gather_quads(
    _: Any, array: Any, rows: Any, start: Any, stride: Any, offset: Any, out_stride: Any, out: Any, out_start: Any
) -> Any:
    """Gather 4 consecutive words of LANES rows, and store them transposed: 4 vectors, each of one word of every row.

    `array` (int32, flat) has a row every `stride` words. The indices of the rows are read from `rows` (int64), from
    index `start` on, and `offset` is the first of the 4 words. `out` (int32, flat) gets a vector at index `out_start`
    and every `out_stride` words.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, row_array, first, row_stride, column, spacing, target, position = args
        quad = ir.VectorType(_INT32, 4)
        word = _INT_LANES
        quads = []
        for lane in range(LANES):
            index = builder.add(first, ir.Constant(first.type, lane))
            row = builder.load(_emit_address(context, builder, sig.args[1], row_array, index, ir.IntType(64)))
            first_word = builder.add(builder.mul(row, row_stride), column)
            quads.append(builder.load(_emit_address(context, builder, sig.args[0], source, first_word, quad), align=4))
        for vector, transposed in enumerate(_emit_transpose(builder, quads)):
            index = builder.add(position, builder.mul(spacing, ir.Constant(position.type, vector)))
            builder.store(transposed, _emit_address(context, builder, sig.args[6], target, index, word), align=4)
        return context.get_dummy_value()

    signature = types.void(array, rows, types.intp, types.intp, types.intp, types.intp, out, types.intp)
    return signature, emit


def _emit_transpose(builder: Any, quads: list[Any]) -> list[Any]:
    """Return 4 vectors of LANES lanes from LANES vectors of 4: concatenate pairs, then sort the halves by word."""
    merged = quads
    while len(merged) > 4:
        width = merged[0].type.count
        order = ir.Constant(ir.VectorType(_INT32, 2 * width), list(range(2 * width)))
        merged = [builder.shuffle_vector(a, b, order) for a, b in zip(merged[::2], merged[1::2], strict=True)]
    rows_per_vector = LANES // 4  # each of the 4 vectors holds so many rows of 4 words

    def words(a: Any, b: Any, first: int) -> Any:  # returns word `first` of all rows of a and b, then word `first` + 1
        lanes = [4 * row + word for word in (first, first + 1) for row in range(2 * rows_per_vector)]
        return builder.shuffle_vector(a, b, ir.Constant(_INT_LANES, lanes))

    low = [words(merged[0], merged[1], word) for word in (0, 2)]
    high = [words(merged[2], merged[3], word) for word in (0, 2)]
    half = LANES // 2
    result = []
    for vector in range(4):
        half_of, part = divmod(vector, 2)
        lanes = [part * half + lane for lane in range(half)] + [LANES + part * half + lane for lane in range(half)]
        order = ir.Constant(_INT_LANES, lanes)
        result.append(builder.shuffle_vector(low[half_of], high[half_of], order))
    return result


@intrinsic
def lane_indices(_: Any) -> Any:
    """Return 0, 1, 2 … LANES - 1."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_INT_LANES, list(range(LANES)))

    return ints(), emit


def _emit_halves(builder: Any, vector: Any) -> list[Any]:
    """Return the first half of a vector, and the second."""
    width = vector.type.count // 2
    orders = [ir.Constant(ir.VectorType(_INT32, width), list(range(first, first + width))) for first in (0, width)]
    return [builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order) for order in orders]


@intrinsic
def reduce_sum(_: Any, vector: Any) -> Any:
    """Return the sum of the lanes: halves are added to halves, in a fixed order."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rest = args[0]
        while rest.type.count > 1:
            rest = builder.fadd(*_emit_halves(builder, rest))
        return builder.extract_element(rest, _INT32(0))

    return (types.float64 if vector == doubles else types.float32)(vector), emit


@numba.njit(**INNER, forceinline=True)
def fold(sums):  # type: ignore[no-untyped-def]
    """Return the sum of an array of SUM_LANES numbers, in the order in which reduce_sum adds so many lanes."""
    if LANES == 16:
        return reduce_sum(load(sums, 0))
    if LANES == 8:
        return reduce_sum(load(sums, 0) + load(sums, LANES))
    low, high = load(sums, 0) + load(sums, 2 * LANES), load(sums, LANES) + load(sums, 3 * LANES)
    return reduce_sum(low + high)


@intrinsic
def mask_to_bits(_: Any, selected: Any) -> Any:
    """Return a mask as the bits of a uint32, lane 0 lowest."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), _INT32)

    return types.uint32(selected), emit


@intrinsic
def invert_mask(_: Any, selected: Any) -> Any:
    """Return the complement of a mask."""
    return mask(selected), lambda context, builder, sig, args: builder.not_(args[0])


@intrinsic
def count_trailing_zeros(_: Any, number: Any) -> Any:
    """Return the position of the lowest bit of a uint32 that is not 0."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_INT32, [_INT32, ir.IntType(1)])
        count = cgutils.get_or_insert_function(builder.module, kind, "llvm.cttz.i32")
        return builder.zext(builder.call(count, [args[0], ir.IntType(1)(1)]), ir.IntType(64))

    return types.intp(types.uint32), emit


@intrinsic
def count_lanes(_: Any, selected: Any) -> Any:
    """Return the number of lanes that are set in a mask."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = _emit_call(builder, f"llvm.ctpop.i{LANES}", [builder.bitcast(args[0], ir.IntType(LANES))])
        return builder.zext(count, ir.IntType(64))

    return types.intp(selected), emit


def _emit_compress(builder: Any, vector: Any, selected: Any) -> Any:
    """Return a vector of 8 lanes with the selected ones first: the permutation is looked up by the bits of the mask."""
    orders = [[lane for lane in range(LANES) if mask_bits >> lane & 1] for mask_bits in range(1 << LANES)]
    filled = [number for order in orders for number in order + [0] * (LANES - len(order))]
    table = ir.Constant(ir.ArrayType(ir.IntType(8), len(filled)), filled)
    lanes_by_mask = cgutils.global_constant(builder.module, "lanes_by_mask", table)
    entry = builder.zext(builder.bitcast(selected, ir.IntType(LANES)), ir.IntType(64))
    address = builder.gep(lanes_by_mask, [_INT32(0), builder.mul(entry, ir.IntType(64)(LANES))])
    narrow = ir.VectorType(ir.IntType(8), LANES)
    order = builder.zext(builder.load(builder.bitcast(address, narrow.as_pointer()), align=8), _INT_LANES)
    moved = _emit_call(builder, "llvm.x86.avx2.permd", [builder.bitcast(vector, _INT_LANES), order])
    return builder.bitcast(moved, vector.type)


@intrinsic
def compress_store(_: Any, array: Any, index: Any, vector: Any, selected: Any) -> Any:
    """Store the lanes that a mask selects consecutively, from a flat index of an array on.

    There has to be room for LANES items: those behind the selected ones may be overwritten.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = _emit_address(context, builder, sig.args[0], args[0], args[1], args[2].type)
        if LANES == 8:  # AVX2 has no such instruction
            builder.store(_emit_compress(builder, args[2], args[3]), target, align=4)
            return context.get_dummy_value()
        suffix = f"v{LANES}" + ("f32" if sig.args[2] == floats else "i32")
        if LANES == 16:  # compressed in a register: Zen 4 takes 10 times as long to compress into memory
            undefined = ir.Constant(args[2].type, ir.Undefined)
            kind = ir.FunctionType(args[2].type, [args[2].type, args[2].type, args[3].type])
            name = f"llvm.x86.avx512.mask.compress.{suffix}"
            compress = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.store(builder.call(compress, [args[2], undefined, args[3]]), target, align=4)
            return context.get_dummy_value()
        target = builder.bitcast(target, args[2].type.element.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [args[2].type, target.type, args[3].type])
        name = f"llvm.masked.compressstore.{suffix}"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[2], target, args[3]])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, selected), emit


@intrinsic
def reduce_min(_: Any, vector: Any) -> Any:
    """Return the minimum of the lanes of a float vector without NaN."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rest = args[0]
        while rest.type.count > 1:
            low, high = _emit_halves(builder, rest)
            rest = builder.select(builder.fcmp_ordered("<", low, high), low, high)
        return builder.extract_element(rest, _INT32(0))

    return types.float32(vector), emit


@intrinsic
def reduce_max(_: Any, vector: Any) -> Any:
    """Return the maximum of the lanes of a float vector without NaN."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rest = args[0]
        while rest.type.count > 1:
            low, high = _emit_halves(builder, rest)
            rest = builder.select(builder.fcmp_ordered("<", low, high), high, low)
        return builder.extract_element(rest, _INT32(0))

    return types.float32(vector), emit
