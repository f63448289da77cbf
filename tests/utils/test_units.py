"""Amounts of memory such as "2GiB" are parsed."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.utils.units import parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 gib", 3 << 29), ("64k", 64_000), ("4Ki", 4096), (12345, 12345)],
)
def test_sizes_are_parsed_as_people_write_them(text: str | int, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", "2 apples", "GiB", "1e9"])
def test_a_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_bytes(text)
