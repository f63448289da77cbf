"""Factorized ids are those of a dict, over any batches, for integers and for strings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.cpu.hashing import factorize as kernel
from engine.ratings.factorize_ids import IdFactorizer


def factorize_by_dict(batches: list[list[Any]]) -> tuple[list[list[int]], list[Any]]:
    known: dict[Any, int] = {}
    return [[known.setdefault(id, len(known)) for id in batch] for batch in batches], list(known)


def check(batches: list[list[Any]], kind: pa.DataType) -> None:
    ids = IdFactorizer()
    found = [ids.factorize(pa.array(batch, kind)).tolist() for batch in batches]
    expected, known = factorize_by_dict(batches)
    assert found == expected
    assert ids.uniques().to_pylist() == known
    assert len(ids) == len(known)


@given(st.lists(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5)))))
def test_integers_are_factorized_in_order_of_appearance(batches: list[list[int]]) -> None:
    check(batches, pa.int64())


@given(st.lists(st.lists(st.one_of(st.text(max_size=40), st.sampled_from(["", "7", "07", "é"])))))
def test_strings_are_factorized_in_order_of_appearance(batches: list[list[str]]) -> None:
    check(batches, pa.string())


@pytest.mark.parametrize("n", [511, 512, 513, 1024, 5000])
def test_the_tables_grow_at_any_row_of_a_batch(n: int) -> None:
    integers = (np.arange(n) * 2**40).tolist()
    check([integers[: n // 3], integers, integers[::-1]], pa.int64())
    strings = [f"user {'x' * (i % 300)}{i}" for i in range(n)]
    check([strings[: n // 3], strings, strings[::-1]], pa.string())


def test_a_string_longer_than_the_first_buffer_is_stored_whole() -> None:
    check([["a" * 100_000, "", "b" * 8192], ["", "a" * 100_000, "a" * 99_999]], pa.string())


def test_ids_of_one_slot_are_told_apart() -> None:
    slots, uniques = np.full(8, kernel.EMPTY, np.int64), np.zeros(4, np.int64)
    codes = np.empty(4, np.int64)
    ids = np.arange(4, dtype=np.int64) << 60
    assert kernel.factorize_integers(ids, 0, uniques, 0, slots, codes) == (4, 4)
    assert codes.tolist() == [0, 1, 2, 3]
    full = kernel.factorize_integers(np.array([3, 9], np.int64), 0, uniques, 4, slots, codes)
    assert full == (0, 4), "a half-full table must ask for room"


def test_a_slice_of_a_string_array_is_read_from_its_own_start() -> None:
    ids = IdFactorizer()
    ids.factorize(pa.array(["a", "b", "c", "d"]).slice(2))
    assert ids.uniques().to_pylist() == ["c", "d"]
