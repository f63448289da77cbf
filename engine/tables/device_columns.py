"""DeviceColumns: interface of a chunk of a table whose columns are arrays on a device.

    a library's data frame, or rows of pyarrow  ->  numbers, times, dictionary-encoded values, lists; some rows

Dictionary codes refer to the distinct values of the same chunk, which are on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = Any  # of the device's array module


class DictionaryColumn(NamedTuple):
    """Values as codes into the distinct values of the chunk, which are on the host."""

    codes: Array  # (n_values,) int64; -1 is missing
    dictionary: pa.Array


class ListColumn(NamedTuple):
    """Lists of values; the elements of all lists are stored one after another."""

    lengths: Array  # (n_rows,) int64; 0 where the list is missing
    missing: Array  # (n_rows,) bool
    elements: DictionaryColumn


class IntegerColumn(NamedTuple):
    """Whole numbers."""

    values: Array  # (n_rows,) int64; 0 where missing
    missing: Array  # (n_rows,) bool


class TimeColumn(NamedTuple):
    """Times as ticks since 1970-01-01."""

    counts: Array  # (n_rows,) int64
    missing: Array  # (n_rows,) bool
    unit: str  # D, s, ms, us or ns


class DeviceColumns(Protocol):
    """The columns of a chunk, read by name."""

    def __len__(self) -> int: ...

    def kind(self, name: str) -> pa.DataType:
        """Return the type that the table's schema gives a column."""

    def slice(self, first: int, last: int) -> DeviceColumns:
        """Return the rows first … last - 1."""

    def take(self, names: Sequence[str], positions: NDArray[np.int64]) -> list[pa.Array]:
        """Return columns of the rows at these positions, on the host."""

    def numbers(self, name: str) -> Array:
        """Return numbers and booleans as float64, missing ones as NaN; the array is the caller's."""

    def integers(self, name: str) -> IntegerColumn:
        """Return a column of whole numbers that int64 holds."""

    def times(self, name: str) -> TimeColumn:
        """Return a column of dates or times."""

    def dictionary(self, name: str) -> DictionaryColumn:
        """Return a column of any kind, dictionary-encoded."""

    def lists(self, name: str) -> ListColumn:
        """Return a column of lists."""
