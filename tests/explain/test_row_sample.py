"""Rows that are picked from the blocks of a pass: which, in what order, and in how many pieces of memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from engine.explain.row_sample import JOINED_BLOCKS, RowCollector
from engine.tables import Block

N_BLOCKS, BLOCK = 5 * JOINED_BLOCKS + 7, 40


def blocks() -> list[Block]:
    numbers = np.arange(N_BLOCKS * BLOCK)
    words = pa.array([f"w{n % 7}" for n in numbers]).dictionary_encode()
    table = pa.table({"n": numbers, "word": words, "list": [[int(n), 0] for n in numbers]})
    return [Block(start, table.slice(start, BLOCK)) for start in range(0, len(table), BLOCK)]


def collected() -> RowCollector:
    collector = RowCollector.draw(N_BLOCKS * BLOCK, 900, seed=3)
    for block in blocks():
        collector.collect(collector.observe(block))
    return collector


def test_rows_of_many_blocks_are_those_that_were_drawn_in_their_order() -> None:
    collector = collected()
    found = collector.table()
    assert found["n"].to_pylist() == collector.rows.tolist()
    assert found["word"].to_pylist() == [f"w{n % 7}" for n in collector.rows.tolist()]
    assert found["list"].to_pylist() == [[n, 0] for n in collector.rows.tolist()]


def test_rows_of_many_blocks_do_not_stay_apart() -> None:
    collector = collected()
    most = N_BLOCKS // JOINED_BLOCKS + JOINED_BLOCKS
    assert len(collector.table()["n"].chunks) == 1
    assert len(collector._parts) <= most < N_BLOCKS


@pytest.mark.parametrize("n_before", [0, 3, JOINED_BLOCKS, 2 * JOINED_BLOCKS + 1])
def test_a_restored_collector_goes_on(n_before: int) -> None:
    first = RowCollector.draw(N_BLOCKS * BLOCK, 900, seed=3)
    second = RowCollector(first.rows)
    for number, block in enumerate(blocks()):
        if number == n_before and n_before:
            second.restore(first.state())
        (first if number < n_before else second).collect(first.observe(block))
    assert second.table()["n"].to_pylist() == first.rows.tolist()
