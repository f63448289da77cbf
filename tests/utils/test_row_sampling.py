"""Row sampling depends on (seed, row number) and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from engine.utils import row_sampling as sampling
from engine.utils.row_sampling import row_keys, sample_rows
from tests import reference


def test_keys_equal_those_of_the_plain_loops() -> None:
    rows = np.array([0, 1, 2, 10**6, 2**40], np.int64)
    for seed in (0, 1, 2**63, -1):
        assert row_keys(seed, rows).tolist() == [reference.row_key(seed % 2**64, int(row)) for row in rows]


@pytest.mark.parametrize("n_rows", [1, 6, 7, 8, 100])
@pytest.mark.parametrize("size", [1, 5, 99])
def test_the_sample_holds_the_rows_with_the_smallest_keys(
    n_rows: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "KEY_ROWS", 7)
    by_key = sorted(range(n_rows), key=lambda row: reference.row_key(3, row))
    assert sample_rows(n_rows, size, 3).tolist() == sorted(by_key[:size])


def test_a_threshold_below_which_there_are_too_few_rows_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sample_rows(1000, 50, 0)
    rows_below = sampling._rows_below
    shares = []

    def rows_below_a_lower_threshold(n_rows: int, share: float, seed: int) -> object:
        shares.append(share)
        return rows_below(n_rows, share / 16, seed)

    monkeypatch.setattr(sampling, "_rows_below", rows_below_a_lower_threshold)
    np.testing.assert_array_equal(sample_rows(1000, 50, 0), expected)
    assert len(shares) > 1


def test_a_sample_as_large_as_the_table_is_the_table() -> None:
    assert sample_rows(4, 4, 0).tolist() == sample_rows(4, 9, 1).tolist() == [0, 1, 2, 3]


def test_every_row_is_as_likely_as_the_next() -> None:
    counts = np.zeros(50)
    for seed in range(2000):
        counts[sample_rows(50, 10, seed)] += 1
    # Each count is binomial (2000, 0.2): mean 400, standard deviation 18.
    assert counts.sum() == 20_000
    assert np.abs(counts - 400).max() < 5 * 18
