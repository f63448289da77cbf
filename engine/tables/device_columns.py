"""A chunk of a table whose columns are arrays of a device: what a library that reads there has to offer.

    a library's data frame  ->  numbers, ticks of time, codes of anything

Codes stand for the different values of this very chunk, which are on the host: what they mean is not known here.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import pyarrow as pa

Array = Any  # of the device's array module


class Coded(NamedTuple):
    """Values as their places among the different ones, -1 for missing ones."""

    codes: Array  # (n_values,) int64
    distinct: pa.Array


class Lists(NamedTuple):
    """Lists of values, one after another."""

    lengths: Array  # (n_rows,) int64; 0 where there is none
    missing: Array  # (n_rows,) bool
    elements: Coded


class Ticks(NamedTuple):
    """Times since 1970."""

    counts: Array  # (n_rows,) int64
    missing: Array  # (n_rows,) bool
    unit: str  # D, s, ms, us or ns


class Columns(Protocol):
    """A chunk's columns."""

    def __len__(self) -> int: ...

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN; the array is the caller's."""

    def ticks(self, name: str) -> Ticks:
        """Return dates and times."""

    def coded(self, name: str) -> Coded:
        """Return values of any kind as codes."""

    def lists(self, name: str) -> Lists:
        """Return lists."""
