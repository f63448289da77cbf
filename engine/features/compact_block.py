"""Compress a columnar block without loss, to keep it in memory between passes.

    ColumnarBlock  ->  CompactBlock  ->  the same ColumnarBlock, to the bit

A number takes 1, 2, 4 or 8 bytes, the fewest that hold every value of the block's column exactly; the code of a text
1, 2 or 4, by the number of names; label columns store lengths instead of offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.blocks import BLOCK_ROWS
from engine.execution.block_cache import BlockCache
from engine.features.columnar_block import ColumnarBlock, RaggedLabels
from engine.kernels.cpu.features import compact_numbers as kernels

Array = NDArray[Any]
_INTEGERS = {kernels.INT8: np.int8, kernels.INT16: np.int16, kernels.INT32: np.int32}


class _CompactNumbers(NamedTuple):
    values: Array
    scale: float


class _CompactLabels(NamedTuple):
    lengths: Array
    codes: Array
    names: list[str] | None
    missing: Array  # one bit a row


@dataclass(frozen=True)
class CompactBlock:
    """A compressed columnar block; fields as in ColumnarBlock."""

    n_rows: int
    number_columns: tuple[str, ...]
    numbers: tuple[_CompactNumbers, ...]
    text_columns: tuple[str, ...]
    codes: tuple[Array, ...]
    names: tuple[list[str] | None, ...]
    labels: dict[str, _CompactLabels]
    name_bytes: int

    @classmethod
    def from_columnar(cls, block: ColumnarBlock) -> CompactBlock:
        """Compress a columnar block."""
        labels = {name: _compress_labels(part) for name, part in block.labels.items()}
        codes = tuple(map(_compress_codes, block.codes))
        numbers = tuple(map(_compress_numbers, block.numbers))
        return cls(
            block.n_rows,
            block.number_columns,
            numbers,
            block.text_columns,
            codes,
            block.names,
            labels,
            block.name_bytes,
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of memory that the arrays and the names take."""
        lists = (array for part in self.labels.values() for array in (part.lengths, part.codes, part.missing))
        numbers = (column.values for column in self.numbers)
        return sum(array.nbytes for array in (*numbers, *self.codes, *lists)) + self.name_bytes

    def to_columnar(self) -> ColumnarBlock:
        """Return the block as it was before compression."""
        numbers = np.empty((len(self.numbers), self.n_rows))
        for row, (values, scale) in zip(numbers, self.numbers, strict=True):
            if values.dtype.kind == "i":
                kernels.from_integers(values, scale, np.iinfo(values.dtype).min, row)
            else:
                row[:] = values
        codes = np.empty((len(self.codes), self.n_rows), np.int32)
        for text_codes, compact_codes in zip(codes, self.codes, strict=True):
            text_codes[:] = compact_codes
        labels = {name: _expand_labels(part, self.n_rows) for name, part in self.labels.items()}
        return ColumnarBlock(self.n_rows, self.number_columns, numbers, self.text_columns, codes, self.names, labels)


def _compress_numbers(values: Array) -> _CompactNumbers:
    width, scale = kernels.find_narrowest_type(values)
    if width not in _INTEGERS:
        return _CompactNumbers(values.astype(np.float32 if width == kernels.FLOAT32 else np.float64), scale)
    integers = np.empty(len(values), _INTEGERS[width])
    kernels.to_integers(values, scale, np.iinfo(integers.dtype).min, integers)
    return _CompactNumbers(integers, scale)


def _compress_codes(codes: Array) -> Array:
    largest = int(codes.max(initial=0))
    return codes.astype(np.int8 if largest < 128 else np.int16 if largest < 32768 else np.int32)


def _compress_labels(part: RaggedLabels) -> _CompactLabels:
    lengths = np.diff(part.offsets)
    longest = int(lengths.max(initial=0))
    lengths = lengths.astype(np.uint8 if longest < 256 else np.uint16 if longest < 65536 else np.int32)
    return _CompactLabels(lengths, _compress_codes(part.codes), part.names, np.packbits(part.missing))


def _expand_labels(part: _CompactLabels, n_rows: int) -> RaggedLabels:
    offsets = np.zeros(n_rows + 1, np.int32)
    np.cumsum(part.lengths, out=offsets[1:])
    missing = np.unpackbits(part.missing, count=n_rows).view(np.bool_)
    return RaggedLabels(offsets, part.codes.astype(np.int32), part.names, missing)


def cache_block(cache: BlockCache, start: int, block: ColumnarBlock) -> None:
    """Compress the block whose first row is `start` and put it into the cache, unless the cache is full."""
    if not cache.full:
        compact = CompactBlock.from_columnar(block)
        cache.put(start // BLOCK_ROWS, compact, compact.n_bytes)
