"""Plain rows in as little memory as holds them exactly, for a block that is kept between passes.

    PlainRows  ->  NarrowRows  ->  the same PlainRows

Numbers take 1, 2, 4 or 8 bytes, as the values of the block and column want; codes of texts 1, 2 or 4, as there are
names; lists their lengths instead of their offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.blocks import BLOCK_ROWS
from engine.execution.block_cache import Shelf
from engine.features.columnar_block import Labels, PlainRows
from engine.kernels.cpu.features import compact_numbers as kernels

Array = NDArray[Any]
_INTEGERS = {kernels.BYTE: np.int8, kernels.SHORT: np.int16, kernels.LONG: np.int32}


class _NarrowNumbers(NamedTuple):
    values: Array
    scale: float


class _NarrowLabels(NamedTuple):
    lengths: Array
    codes: Array
    names: list[str] | None
    missing: Array  # a bit a row


@dataclass(frozen=True)
class NarrowRows:
    """A block of plain rows; fields as in PlainRows."""

    n_rows: int
    number_columns: tuple[str, ...]
    numbers: tuple[_NarrowNumbers, ...]
    text_columns: tuple[str, ...]
    codes: tuple[Array, ...]
    names: tuple[list[str] | None, ...]
    labels: dict[str, _NarrowLabels]
    name_bytes: int

    @classmethod
    def of(cls, plain: PlainRows) -> NarrowRows:
        """Return the rows in few bytes."""
        labels = {name: _narrow_labels(part) for name, part in plain.labels.items()}
        codes = tuple(map(_narrow_codes, plain.codes))
        numbers = tuple(map(_narrow_numbers, plain.numbers))
        return cls(
            plain.n_rows,
            plain.number_columns,
            numbers,
            plain.text_columns,
            codes,
            plain.names,
            labels,
            plain.name_bytes,
        )

    @property
    def n_bytes(self) -> int:
        """Memory the arrays and names take."""
        lists = (array for part in self.labels.values() for array in (part.lengths, part.codes, part.missing))
        numbers = (column.values for column in self.numbers)
        return sum(array.nbytes for array in (*numbers, *self.codes, *lists)) + self.name_bytes

    def plain(self) -> PlainRows:
        """Return the rows as they were."""
        numbers = np.empty((len(self.numbers), self.n_rows))
        for row, (values, scale) in zip(numbers, self.numbers, strict=True):
            if values.dtype.kind == "i":
                kernels.from_integers(values, scale, np.iinfo(values.dtype).min, row)
            else:
                row[:] = values
        codes = np.empty((len(self.codes), self.n_rows), np.int32)
        for texts, narrow in zip(codes, self.codes, strict=True):
            texts[:] = narrow
        labels = {name: _plain_labels(part, self.n_rows) for name, part in self.labels.items()}
        return PlainRows(self.n_rows, self.number_columns, numbers, self.text_columns, codes, self.names, labels)


def _narrow_numbers(values: Array) -> _NarrowNumbers:
    width, scale = kernels.width(values)
    if width not in _INTEGERS:
        return _NarrowNumbers(values.astype(np.float32 if width == kernels.SINGLE else np.float64), scale)
    integers = np.empty(len(values), _INTEGERS[width])
    kernels.to_integers(values, scale, np.iinfo(integers.dtype).min, integers)
    return _NarrowNumbers(integers, scale)


def _narrow_codes(codes: Array) -> Array:
    largest = int(codes.max(initial=0))
    return codes.astype(np.int8 if largest < 128 else np.int16 if largest < 32768 else np.int32)


def _narrow_labels(part: Labels) -> _NarrowLabels:
    lengths = np.diff(part.offsets)
    longest = int(lengths.max(initial=0))
    lengths = lengths.astype(np.uint8 if longest < 256 else np.uint16 if longest < 65536 else np.int32)
    return _NarrowLabels(lengths, _narrow_codes(part.codes), part.names, np.packbits(part.missing))


def _plain_labels(part: _NarrowLabels, n_rows: int) -> Labels:
    offsets = np.zeros(n_rows + 1, np.int32)
    np.cumsum(part.lengths, out=offsets[1:])
    missing = np.unpackbits(part.missing, count=n_rows).view(np.bool_)
    return Labels(offsets, part.codes.astype(np.int32), part.names, missing)


def keep(shelf: Shelf, start: int, plain: PlainRows) -> None:
    """Keep the block that begins at row `start`, if there is room for it."""
    if not shelf.full:
        rows = NarrowRows.of(plain)
        shelf.put(start // BLOCK_ROWS, rows, rows.n_bytes)
