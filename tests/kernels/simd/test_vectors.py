"""SIMD operations: lane by lane what NumPy does element by element."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest

from engine.kernels.cpu.simd import fixed_point, quantized
from engine.kernels.cpu.simd import vectors as simd
from engine.kernels.cpu.simd.vectors import LANES


def floats(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=LANES).astype(np.float32)


@numba.njit
def arithmetic(a: Any, b: Any, out: Any) -> None:
    x, y = simd.load(a, 0), simd.load(b, 0)
    simd.store(out, 0, x + y)
    simd.store(out, LANES, x - y)
    simd.store(out, 2 * LANES, x * y)
    simd.store(out, 3 * LANES, x / y)
    simd.store(out, 4 * LANES, simd.minimum(x, y))
    simd.store(out, 5 * LANES, simd.maximum(x, y))
    simd.store(out, 6 * LANES, simd.select(simd.less(x, y), x, simd.splat(np.float32(7))))
    simd.store(out, 7 * LANES, simd.sqrt(x * x))


@numba.njit
def fused_product(a: Any, b: Any, c: Any, out: Any) -> None:
    simd.store(out, 0, simd.fma(simd.load(a, 0), simd.load(b, 0), simd.load(c, 0)))


@numba.njit
def accumulate_dots(dtype: Any, total: Any, x: Any, c: Any, out: Any) -> None:
    simd.store(out, 0, simd.dot_accumulate(dtype, simd.load(total, 0), simd.load(x, 0), simd.broadcast(c, 1)))


@numba.njit
def gather_items(table: Any, indices: Any, out: Any) -> None:
    simd.store(out, 0, simd.gather(table, indices, 1))


@numba.njit
def gather_quads(
    words: Any, rows: Any, start: int, stride: int, offset: int, out_stride: int, out: Any, out_start: int
) -> None:
    simd.gather_quads(words, rows, start, stride, offset, out_stride, out, out_start)


def test_arithmetic_is_lane_by_lane() -> None:
    a, b, out = floats(1), floats(2), np.empty(8 * LANES, np.float32)
    arithmetic(a, b, out)
    selected = np.where(a < b, a, np.float32(7))
    expected = [a + b, a - b, a * b, a / b, np.minimum(a, b), np.maximum(a, b), selected, np.sqrt(a * a)]
    np.testing.assert_array_equal(out.reshape(8, LANES), expected)


def test_minimum_and_maximum_of_integers_are_signed() -> None:
    a = np.resize(np.array([-5, 3, 2**31 - 1, -(2**31)], np.int32), LANES)
    b = np.resize(np.array([4, -3, -1, 0], np.int32), LANES)
    out = np.empty((2, LANES), np.int32)

    @numba.njit
    def both(a: Any, b: Any, out: Any) -> None:
        simd.store(out, 0, simd.minimum(simd.load(a, 0), simd.load(b, 0)))
        simd.store(out, LANES, simd.maximum(simd.load(a, 0), simd.load(b, 0)))

    both(a, b, out)
    np.testing.assert_array_equal(out, [np.minimum(a, b), np.maximum(a, b)])


def test_a_fused_product_is_rounded_once() -> None:
    a = np.full(LANES, 1 + 2.0**-12, np.float32)
    c = np.full(LANES, -(1 + 2.0**-11), np.float32)
    out = np.empty(LANES, np.float32)
    fused_product(a, a, c, out)
    assert (out == np.float32(2.0**-24)).all()  # rounded twice it would be 0


@pytest.mark.skipif(not simd.HAS_INT8_DOT, reason="this CPU has no dot products of int8")
def test_the_dot_product_of_a_word_of_int8_has_four_terms() -> None:
    random = np.random.default_rng(0)
    total, out = np.arange(LANES, dtype=np.int32), np.empty(LANES, np.int32)
    x, c = random.integers(0, 256, (LANES, 4)).astype(np.uint8), random.integers(-128, 128, (2, 4)).astype(np.int8)
    accumulate_dots(np.uint8(0), total, x.view(np.int32).ravel(), c.view(np.int32).ravel(), out)
    np.testing.assert_array_equal(out, total + x.astype(np.int64) @ c[1].astype(np.int64))


@pytest.mark.skipif(not simd.HAS_INT16_DOT, reason="this CPU has no dot products of int16")
def test_the_dot_product_of_a_word_of_int16_has_two_terms() -> None:
    random = np.random.default_rng(0)
    total, out = np.arange(LANES, dtype=np.int32), np.empty(LANES, np.int32)
    x, c = (random.integers(-(2**13), 2**13, (n, 2)).astype(np.int16) for n in (LANES, 2))
    accumulate_dots(np.int16(0), total, x.view(np.int32).ravel(), c.view(np.int32).ravel(), out)
    np.testing.assert_array_equal(out, total + x.astype(np.int64) @ c[1].astype(np.int64))


INSTRUCTIONS = {
    "alderlake": ("+avx2,+fma,+avxvnni", {"uint8": "vpdpbusd", "int16": "vpdpwssd"}, "ymm"),
    "cascadelake": ("+avx2,+fma,+avx512f,+avx512bw,+avx512vnni", {"uint8": "vpdpbusd", "int16": "vpdpwssd"}, "zmm"),
    "skylake-avx512": ("+avx2,+fma,+avx512f,+avx512bw", {"int16": "vpmaddwd"}, "zmm"),
    "haswell": ("+avx2,+fma", {"int16": "vpmaddwd"}, "ymm"),
    "sandybridge": ("+avx", {}, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("cpu", INSTRUCTIONS)
def test_hosts_multiply_integers_with_the_widest_instruction_they_have(cpu: str) -> None:
    if llvm.get_process_triple().split("-")[0] != "x86_64":
        pytest.skip("these are names of x86 processors")
    features, instructions, registers = INSTRUCTIONS[cpu]
    code = f"""
import numba
from engine.kernels.cpu.simd import vectors as simd

@numba.njit
def dots(kind, words, out):
    total = simd.dot_accumulate(kind, simd.load(out, 0), simd.load(words, 0), simd.load(words, simd.LANES))
    simd.store(out, 0, total)

assert (simd.HAS_INT8_DOT, simd.HAS_INT16_DOT) == {("uint8" in instructions, "int16" in instructions)}
for dtype, name in {instructions}.items():
    words = numba.types.Array(numba.types.int32, 1, "C")
    signature = (getattr(numba.types, dtype), words, words)
    dots.compile(signature)
    lines = dots.inspect_asm(signature).splitlines()
    assert any(name in line and "{registers}" in line for line in lines), (dtype, name)
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_word_can_be_one_float() -> None:
    total, x, c, out = floats(1), floats(2), floats(3), np.empty(LANES, np.float32)
    accumulate_dots(np.float32(0), total, x.view(np.int32), c.view(np.int32), out)
    expected = (x.astype(np.float64) * np.float64(c[1]) + total).astype(np.float32)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_items_are_gathered_by_index() -> None:
    table = np.arange(100, dtype=np.float32) * 3
    for dtype in (np.int32, np.int64):
        indices = np.random.default_rng(0).integers(0, 100, LANES + 1).astype(dtype)
        out = np.empty(LANES, np.float32)
        gather_items(table, indices, out)
        np.testing.assert_array_equal(out, table[indices[1:]])


@pytest.mark.parametrize("other", range(LANES))
def test_rows_that_follow_each_other_but_for_one_are_gathered_by_index(other: int) -> None:
    table, out = np.arange(100, dtype=np.float32) * 3, np.empty(LANES, np.float32)
    indices = np.arange(40, 40 + LANES + 1)
    gather_items(table, indices, out)
    np.testing.assert_array_equal(out, table[indices[1:]])
    indices[1 + other] = 7
    gather_items(table, indices, out)
    np.testing.assert_array_equal(out, table[indices[1:]])


@numba.njit
def scale_sums(sums: Any, numbers: Any, out: Any) -> None:
    row_step, row_term = simd.load(numbers, 0), simd.load(numbers, LANES)
    step, offset = simd.load(numbers, 2 * LANES), simd.load(numbers, 3 * LANES)
    simd.store(out, 0, quantized.apply_scales(simd.load(sums, 0), row_step, row_term, step, offset))


def test_sums_of_integers_become_scores_and_floats_stay() -> None:
    numbers, out = np.random.default_rng(0).normal(size=4 * LANES).astype(np.float32), np.empty(LANES, np.float32)
    row_step, row_term, step, offset = numbers.astype(np.float64).reshape(4, LANES)
    sums = np.arange(-3, LANES - 3, dtype=np.int32) * 1_000_001
    scale_sums(sums, numbers, out)
    np.testing.assert_allclose(out, (sums * row_step + row_term) * step + offset, rtol=1e-5)
    scale_sums(numbers, numbers, out)
    np.testing.assert_array_equal(out, numbers[:LANES])


@pytest.mark.parametrize("offset", [0, 4])
def test_quads_of_words_are_transposed(offset: int) -> None:
    words = np.arange(40 * 8, dtype=np.int32)
    rows = np.random.default_rng(0).integers(0, 40, LANES + 2)
    out = np.full((4, 2 * LANES), -1, np.int32)
    gather_quads(words, rows, 2, 8, offset, 2 * LANES, out.reshape(-1), LANES)
    np.testing.assert_array_equal(out[:, LANES:], words.reshape(40, 8)[rows[2:], offset : offset + 4].T)
    assert (out[:, :LANES] == -1).all()


@numba.njit
def subtract_rows(a: Any, b: Any, count: int, factor: Any, out: Any) -> None:
    simd.prefetch(a, 3)
    simd.store(out, 0, quantized.load_differences(a, 3, b, 1, count, factor))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, 3 * LANES])
def test_differences_are_rounded_once_and_stop_where_rows_end(dtype: Any, count: int) -> None:
    random = np.random.default_rng(0)
    n_lanes = min(count, LANES)
    a, b = random.normal(size=3 + n_lanes).astype(dtype), random.normal(size=1 + n_lanes).astype(dtype)
    out = np.empty(LANES, np.float32)
    subtract_rows(a, b, count, dtype(0.5), out)
    np.testing.assert_array_equal(out[:n_lanes], ((a[3:] - b[1:]) * dtype(0.5)).astype(np.float32))
    assert (out[n_lanes:] == 0).all()


@numba.njit
def lowest_set_lane(values: Any, out: Any) -> Any:
    below = simd.less(simd.load(values, 0), simd.splat(np.float32(0.0)))
    simd.compress_store(out, 0, simd.lane_indices(), simd.invert_mask(below))
    return simd.count_trailing_zeros(simd.mask_to_bits(below))


def test_the_lowest_bit_is_the_first_lane_and_the_inverted_mask_has_the_other_lanes() -> None:
    values, out = np.ones(LANES, np.float32), np.full(LANES, -1, np.int32)
    values[[2, 3]] = -1
    assert lowest_set_lane(values, out) == 2
    assert out[:-2].tolist() == [lane for lane in range(LANES) if lane not in (2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "lanes"), [("haswell", 8), ("generic", 4)])
def test_narrower_vectors_label_by_the_definition_too(cpu: str, lanes: int) -> None:
    if llvm.get_process_triple().split("-")[0] != "x86_64":
        pytest.skip("these are names of x86 processors")
    features = {"haswell": "+avx2,+fma,+avx,+sse4.2", "generic": "+sse2"}[cpu]
    code = f"""
import numpy as np
from engine.kernels.cpu.simd.vectors import LANES
from tests import reference
from tests.kernels.kmeans.filtering import LEVELS, run_pass

X = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)
centers = X[:9].copy()
assert LANES == {lanes}, LANES
for level in LEVELS:
    assert run_pass(X, centers, level).labels.tolist() == reference.labels(X.tolist(), centers.tolist())
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@numba.njit
def store_below_limit(values: Any, indices: Any, limit: Any, out: Any, lane_numbers: Any) -> Any:
    vector = simd.load(values, 0)
    selected = simd.less(vector, simd.splat(limit))
    simd.compress_store(out, 1, vector, selected)
    simd.compress_store(lane_numbers, 0, simd.load(indices, 0), selected)
    return simd.count_lanes(selected), simd.reduce_min(vector), simd.reduce_max(vector)


@pytest.mark.parametrize("limit", [-9.0, 0.0, 9.0])
def test_selected_lanes_are_stored_consecutively(limit: float) -> None:
    values, indices = floats(3), np.arange(LANES, dtype=np.int32)
    out, lane_numbers = np.full(LANES + 1, np.nan, np.float32), np.full(LANES, -1, np.int32)
    count, lowest, highest = store_below_limit(values, indices, np.float32(limit), out, lane_numbers)
    expected = np.flatnonzero(values < limit)
    assert count == len(expected)
    np.testing.assert_array_equal(out[1 : 1 + count], values[expected])
    np.testing.assert_array_equal(lane_numbers[:count], expected)
    assert np.isnan(out[0])  # what follows the chosen ones may be anything
    assert (lowest, highest) == (values.min(), values.max())


@numba.njit
def gather_pairs(table: Any, indices: Any, shorts: Any, out: Any) -> None:
    first, second = simd.gather_pairs(table, 4, indices, 1)
    simd.store(out, 0, first)
    simd.store(out, LANES, second)
    simd.store(out, 2 * LANES, simd.reinterpret_as_floats(simd.load_widened(shorts, 1) * simd.splat(np.int32(65536))))


def test_pairs_are_gathered_and_uint16_become_the_high_bits_of_floats() -> None:
    random = np.random.default_rng(0)
    table, shorts = random.normal(size=200).astype(np.float32), random.integers(0, 65536, LANES + 1).astype(np.uint16)
    indices, out = random.integers(0, 98, LANES + 1).astype(np.int32), np.empty(3 * LANES, np.float32)
    gather_pairs(table, indices, shorts, out)
    pairs = table.reshape(100, 2)[indices[1:] + 2]
    np.testing.assert_array_equal(out[: 2 * LANES], pairs.T.ravel())
    np.testing.assert_array_equal(out[2 * LANES :].view(np.uint32), shorts[1:].astype(np.uint32) << 16)


@numba.njit
def add_and_subtract_terms(X: Any, shift: Any, scale: Any, weight: float, count: int, sums: Any) -> None:
    terms = fixed_point.fixed_point_terms(X, 3, shift, scale, 1, weight, count)
    fixed_point.add_terms(sums, 2, terms, count)
    fixed_point.subtract_terms(sums, 40, terms, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 5])
def test_terms_in_fixed_point_are_added_and_subtracted(dtype: Any, count: int) -> None:
    random = np.random.default_rng(count)
    X, shift = random.normal(size=3 + LANES).astype(dtype), random.normal(size=1 + LANES)
    scale, n = 2.0 ** random.integers(20, 40, 1 + LANES), min(count, LANES)
    sums = random.integers(-(2**50), 2**50, 80)
    terms = np.rint((X[3 : 3 + n].astype(np.float64) - shift[1 : 1 + n]) * 0.7 * scale[1 : 1 + n]).astype(np.int64)
    expected = sums.copy()
    expected[2 : 2 + n] += terms
    expected[40 : 40 + n] -= terms
    add_and_subtract_terms(X[: 3 + n], shift[: 1 + n], scale[: 1 + n], 0.7, count, sums)
    np.testing.assert_array_equal(sums, expected)


def test_terms_of_any_size_are_rounded_like_numpys() -> None:
    random = np.random.default_rng(0)
    halves = np.array([0.5, 1.5, -2.5, 2.0**31, -(2.0**31) - 0.5, 2.0**32 + 0.5, 2.0**51 + 0.5, -(2.0**61), 0.0])
    spread = random.choice([-1.0, 1.0], 4000) * 2.0 ** random.uniform(-3.0, 61.99, 4000)
    ties = np.rint(spread[:2000] % 2.0**40) + 0.5
    for X in np.resize(np.concatenate([halves, spread, ties]), (6016 // LANES, LANES)):
        sums = np.zeros(80, np.int64)
        add_and_subtract_terms(
            np.concatenate([np.zeros(3), X]), np.zeros(1 + LANES), np.ones(1 + LANES), 1.0, LANES, sums
        )
        np.testing.assert_array_equal(sums[2 : 2 + LANES], np.rint(X).astype(np.int64))


@numba.njit
def fold_products(a: Any, b: Any, terms: Any, sums: Any, out: Any) -> Any:
    simd.store(out, 0, simd.fma(simd.widen(simd.load(a, 0)), simd.splat(b), simd.load(terms, 0)))
    return simd.fold(a), simd.fold(sums), simd.fma(b, b, terms[0])


def test_lanes_of_float64_are_widened_fused_and_added_in_halves() -> None:
    a = np.random.default_rng(5).normal(size=simd.SUM_LANES).astype(np.float32)
    terms, out, b = np.random.default_rng(6).normal(size=LANES), np.empty(LANES), 1.0 + 2.0**-40
    sums = np.random.default_rng(7).normal(size=simd.SUM_LANES)
    *folded, fused = fold_products(a, b, terms, sums, out)
    for found, halves in zip(folded, (a, sums), strict=True):
        while len(halves) > 1:
            halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
        assert found == halves[0]
    exact = [Fraction(float(x)) * Fraction(b) + Fraction(term) for x, term in zip(a[:LANES], terms, strict=True)]
    assert out.tolist() == [float(x) for x in exact]  # rounded once
    assert fused == float(Fraction(b) ** 2 + Fraction(terms[0]))
