"""Vectors do lane by lane what numpy does element by element."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest

from engine.kernels.cpu.simd import fixed_point as simd_fixed
from engine.kernels.cpu.simd import quantized as simd_codes
from engine.kernels.cpu.simd import vectors as simd
from engine.kernels.cpu.simd.vectors import LANES


def floats(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=LANES).astype(np.float32)


@numba.njit
def _arithmetic(a: Any, b: Any, out: Any) -> None:
    x, y = simd.load(a, 0), simd.load(b, 0)
    simd.store(out, 0, x + y)
    simd.store(out, LANES, x - y)
    simd.store(out, 2 * LANES, x * y)
    simd.store(out, 3 * LANES, x / y)
    simd.store(out, 4 * LANES, simd.least(x, y))
    simd.store(out, 5 * LANES, simd.greatest(x, y))
    simd.store(out, 6 * LANES, simd.select(simd.less(x, y), x, simd.splat(np.float32(7))))
    simd.store(out, 7 * LANES, simd.root(x * x))


@numba.njit
def _fused(a: Any, b: Any, c: Any, out: Any) -> None:
    simd.store(out, 0, simd.fma(simd.load(a, 0), simd.load(b, 0), simd.load(c, 0)))


@numba.njit
def _accumulated(kind: Any, total: Any, x: Any, c: Any, out: Any) -> None:
    simd.store(out, 0, simd.accumulate(kind, simd.load(total, 0), simd.load(x, 0), simd.broadcast(c, 1)))


@numba.njit
def _gathered(table: Any, numbers: Any, out: Any) -> None:
    simd.store(out, 0, simd.gather(table, numbers, 1))


@numba.njit
def _tagged(scores: Any, keep: Any, tag: Any, out: Any, names: Any) -> None:
    score = simd.tagged(simd.load(scores, 0), keep, tag)
    simd.store(out, 0, score)
    simd.store(names, 0, simd.tagged(simd.bits(score), ~keep, np.int32(0)))


@numba.njit
def _transposed(words: Any, rows: Any, start: int, stride: int, offset: int, apart: int, out: Any, at: int) -> None:
    simd.gather_quads(words, rows, start, stride, offset, apart, out, at)


def test_arithmetic_is_lane_by_lane() -> None:
    a, b, out = floats(1), floats(2), np.empty(8 * LANES, np.float32)
    _arithmetic(a, b, out)
    chosen = np.where(a < b, a, np.float32(7))
    expected = [a + b, a - b, a * b, a / b, np.minimum(a, b), np.maximum(a, b), chosen, np.sqrt(a * a)]
    np.testing.assert_array_equal(out.reshape(8, LANES), expected)


def test_the_least_and_greatest_of_integers_are_signed() -> None:
    a = np.resize(np.array([-5, 3, 2**31 - 1, -(2**31)], np.int32), LANES)
    b = np.resize(np.array([4, -3, -1, 0], np.int32), LANES)
    out = np.empty((2, LANES), np.int32)

    @numba.njit
    def both(a: Any, b: Any, out: Any) -> None:
        simd.store(out, 0, simd.least(simd.load(a, 0), simd.load(b, 0)))
        simd.store(out, LANES, simd.greatest(simd.load(a, 0), simd.load(b, 0)))

    both(a, b, out)
    np.testing.assert_array_equal(out, [np.minimum(a, b), np.maximum(a, b)])


def test_a_fused_product_is_rounded_once() -> None:
    a = np.full(LANES, 1 + 2.0**-12, np.float32)
    c = np.full(LANES, -(1 + 2.0**-11), np.float32)
    out = np.empty(LANES, np.float32)
    _fused(a, a, c, out)
    assert (out == np.float32(2.0**-24)).all()  # rounded twice it would be 0


@pytest.mark.skipif(not simd.HAS_BYTE_DOTS, reason="this CPU has no products of bytes")
def test_four_bytes_a_word_are_multiplied_and_added() -> None:
    random = np.random.default_rng(0)
    total, out = np.arange(LANES, dtype=np.int32), np.empty(LANES, np.int32)
    x, c = random.integers(0, 256, (LANES, 4)).astype(np.uint8), random.integers(-128, 128, (2, 4)).astype(np.int8)
    _accumulated(np.uint8(0), total, x.view(np.int32).ravel(), c.view(np.int32).ravel(), out)
    np.testing.assert_array_equal(out, total + x.astype(np.int64) @ c[1].astype(np.int64))


@pytest.mark.skipif(not simd.HAS_SHORT_DOTS, reason="this CPU has no products of int16")
def test_two_shorts_a_word_are_multiplied_and_added() -> None:
    random = np.random.default_rng(0)
    total, out = np.arange(LANES, dtype=np.int32), np.empty(LANES, np.int32)
    x, c = (random.integers(-(2**13), 2**13, (n, 2)).astype(np.int16) for n in (LANES, 2))
    _accumulated(np.int16(0), total, x.view(np.int32).ravel(), c.view(np.int32).ravel(), out)
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
    features, names, registers = INSTRUCTIONS[cpu]
    code = f"""
import numba
from engine.kernels.cpu import simd

@numba.njit
def dots(kind, words, out):
    total = simd.accumulate(kind, simd.load(out, 0), simd.load(words, 0), simd.load(words, simd.LANES))
    simd.store(out, 0, total)

assert (simd.HAS_BYTE_DOTS, simd.HAS_SHORT_DOTS) == {("uint8" in names, "int16" in names)}
for kind, name in {names}.items():
    words = numba.types.Array(numba.types.int32, 1, "C")
    signature = (getattr(numba.types, kind), words, words)
    dots.compile(signature)
    lines = dots.inspect_asm(signature).splitlines()
    assert any(name in line and "{registers}" in line for line in lines), (kind, name)
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_words_can_be_floats() -> None:
    total, x, c, out = floats(1), floats(2), floats(3), np.empty(LANES, np.float32)
    _accumulated(np.float32(0), total, x.view(np.int32), c.view(np.int32), out)
    expected = (x.astype(np.float64) * np.float64(c[1]) + total).astype(np.float32)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_items_are_gathered_by_number() -> None:
    table = np.arange(100, dtype=np.float32) * 3
    for kind in (np.int32, np.int64):
        numbers = np.random.default_rng(0).integers(0, 100, LANES + 1).astype(kind)
        out = np.empty(LANES, np.float32)
        _gathered(table, numbers, out)
        np.testing.assert_array_equal(out, table[numbers[1:]])


@pytest.mark.parametrize("scores", [np.arange(-LANES, 0, dtype=np.int32) * 1000, floats(4)])
def test_a_tag_rides_in_the_low_bits_and_hardly_changes_the_order(scores: Any) -> None:
    keep, out, names = np.int32(-128), np.empty_like(scores), np.empty(LANES, np.int32)
    _tagged(scores, keep, np.int32(93), out, names)
    assert (names == 93).all()
    assert ((scores.view(np.int32) & keep) == (out.view(np.int32) & keep)).all()


@pytest.mark.parametrize("offset", [0, 4])
def test_quads_of_words_are_transposed(offset: int) -> None:
    words = np.arange(40 * 8, dtype=np.int32)
    rows = np.random.default_rng(0).integers(0, 40, LANES + 2)
    out = np.full((4, 2 * LANES), -1, np.int32)
    _transposed(words, rows, 2, 8, offset, 2 * LANES, out.reshape(-1), LANES)
    np.testing.assert_array_equal(out[:, LANES:], words.reshape(40, 8)[rows[2:], offset : offset + 4].T)
    assert (out[:, :LANES] == -1).all()


@numba.njit
def _apart(a: Any, b: Any, count: int, factor: Any, out: Any) -> None:
    simd.prefetch(a, 3)
    simd.store(out, 0, simd_codes.differences(a, 3, b, 1, count, factor))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, 3 * LANES])
def test_differences_are_rounded_once_and_stop_where_rows_end(dtype: Any, count: int) -> None:
    random = np.random.default_rng(0)
    there = min(count, LANES)
    a, b = random.normal(size=3 + there).astype(dtype), random.normal(size=1 + there).astype(dtype)
    out = np.empty(LANES, np.float32)
    _apart(a, b, count, dtype(0.5), out)
    np.testing.assert_array_equal(out[:there], ((a[3:] - b[1:]) * dtype(0.5)).astype(np.float32))
    assert (out[there:] == 0).all()


@numba.njit
def _bits_of(values: Any, out: Any) -> Any:
    below = simd.less(simd.load(values, 0), simd.splat(np.float32(0.0)))
    simd.store_chosen(out, 0, simd.lane_numbers(), simd.negated(below))
    return simd.lowest_bit(simd.lane_bits(below))


def test_the_lowest_bit_is_the_first_lane_and_other_lanes_are_the_rest() -> None:
    values, out = np.ones(LANES, np.float32), np.full(LANES, -1, np.int32)
    values[[2, 3]] = -1
    assert _bits_of(values, out) == 2
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
from tests.kernels.kmeans.filtering import LEVELS, passed

X = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)
centres = X[:9].copy()
assert LANES == {lanes}, LANES
for level in LEVELS:
    assert passed(X, centres, level).labels.tolist() == reference.labels(X.tolist(), centres.tolist())
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@numba.njit
def _picked(values: Any, numbers: Any, limit: Any, out: Any, names: Any) -> Any:
    vector = simd.load(values, 0)
    chosen = simd.less(vector, simd.splat(limit))
    simd.store_chosen(out, 1, vector, chosen)
    simd.store_chosen(names, 0, simd.load(numbers, 0), chosen)
    return simd.lane_count(chosen), simd.lowest(vector), simd.highest(vector)


@pytest.mark.parametrize("limit", [-9.0, 0.0, 9.0])
def test_chosen_lanes_are_stored_one_after_the_other(limit: float) -> None:
    values, numbers = floats(3), np.arange(LANES, dtype=np.int32)
    out, names = np.full(LANES + 1, np.nan, np.float32), np.full(LANES, -1, np.int32)
    count, lowest, highest = _picked(values, numbers, np.float32(limit), out, names)
    expected = np.flatnonzero(values < limit)
    assert count == len(expected)
    np.testing.assert_array_equal(out[1 : 1 + count], values[expected])
    np.testing.assert_array_equal(names[:count], expected)
    assert np.isnan(out[0])  # what follows the chosen ones may be anything
    assert (lowest, highest) == (values.min(), values.max())


@numba.njit
def _pairs(table: Any, numbers: Any, shorts: Any, out: Any) -> None:
    first, second = simd.gather_pairs(table, 4, numbers, 1)
    simd.store(out, 0, first)
    simd.store(out, LANES, second)
    simd.store(out, 2 * LANES, simd.with_bits(simd.load_narrow(shorts, 1) * simd.splat(np.int32(65536))))


def test_pairs_are_gathered_and_short_words_become_bits_of_floats() -> None:
    random = np.random.default_rng(0)
    table, shorts = random.normal(size=200).astype(np.float32), random.integers(0, 65536, LANES + 1).astype(np.uint16)
    numbers, out = random.integers(0, 98, LANES + 1).astype(np.int32), np.empty(3 * LANES, np.float32)
    _pairs(table, numbers, shorts, out)
    pairs = table.reshape(100, 2)[numbers[1:] + 2]
    np.testing.assert_array_equal(out[: 2 * LANES], pairs.T.ravel())
    np.testing.assert_array_equal(out[2 * LANES :].view(np.uint32), shorts[1:].astype(np.uint32) << 16)


@numba.njit
def _moved(X: Any, shift: Any, scale: Any, weight: float, count: int, sums: Any) -> None:
    terms = simd_fixed.fixed_terms(X, 3, shift, scale, 1, weight, count)
    simd_fixed.add_terms(sums, 2, terms, count)
    simd_fixed.take_terms(sums, 40, terms, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, LANES - 1, LANES, LANES + 5])
def test_terms_in_fixed_point_are_added_and_taken(dtype: Any, count: int) -> None:
    random = np.random.default_rng(count)
    X, shift = random.normal(size=3 + LANES).astype(dtype), random.normal(size=1 + LANES)
    scale, n = 2.0 ** random.integers(20, 40, 1 + LANES), min(count, LANES)
    sums = random.integers(-(2**50), 2**50, 80)
    terms = np.rint((X[3 : 3 + n].astype(np.float64) - shift[1 : 1 + n]) * 0.7 * scale[1 : 1 + n]).astype(np.int64)
    expected = sums.copy()
    expected[2 : 2 + n] += terms
    expected[40 : 40 + n] -= terms
    _moved(X[: 3 + n], shift[: 1 + n], scale[: 1 + n], 0.7, count, sums)
    np.testing.assert_array_equal(sums, expected)


def test_terms_of_any_size_are_rounded_like_numpys() -> None:
    random = np.random.default_rng(0)
    halves = np.array([0.5, 1.5, -2.5, 2.0**31, -(2.0**31) - 0.5, 2.0**32 + 0.5, 2.0**51 + 0.5, -(2.0**61), 0.0])
    spread = random.choice([-1.0, 1.0], 4000) * 2.0 ** random.uniform(-3.0, 61.99, 4000)
    ties = np.rint(spread[:2000] % 2.0**40) + 0.5
    for X in np.resize(np.concatenate([halves, spread, ties]), (6016 // LANES, LANES)):
        sums = np.zeros(80, np.int64)
        _moved(np.concatenate([np.zeros(3), X]), np.zeros(1 + LANES), np.ones(1 + LANES), 1.0, LANES, sums)
        np.testing.assert_array_equal(sums[2 : 2 + LANES], np.rint(X).astype(np.int64))
