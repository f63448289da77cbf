"""Encode all rows of a table in every pass; blocks that fit in the cache are not read again.

    compact blocks from the cache, or blocks of the table  ->  encoded rows

Compact blocks take a tenth of the memory of X, encoded rows three times as much as compact blocks. The cache holds
encoded rows if all of them fit; otherwise each pass encodes the compact blocks again, which is faster than reading.
A pass gives the same bits in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from engine.backends.protocol import Backend, EncodedMoments, EncodedRows, Moments
from engine.blocks import BLOCK_ROWS, Block, Table, has_random_access
from engine.execution.block_cache import BlockCache
from engine.execution.glibc_malloc import return_freed_pages
from engine.execution.observers import BlockObserver, collect_all, observe_functions
from engine.execution.passes import over_blocks
from engine.features.columnar_block import ColumnarBlock
from engine.features.compact_block import CompactBlock, cache_block
from engine.features.encoded_moments import feature_moments
from engine.utils.array_types import Float32s

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder

Result = TypeVar("Result")


class IndexedBlock(NamedTuple):
    """A columnar block, and the global number of its first row: what observers of a pass receive."""

    start: int
    rows: ColumnarBlock


class _StoredBlock(NamedTuple):
    """A block as the cache stores it, or as the table was read again."""

    start: int
    rows: CompactBlock | EncodedRows | Block


class EncodedTable:
    """The encoded rows of a table, as a sequence of blocks that is iterated once a pass.

    Parameters
    ----------
    table : Table
    encoder : FeatureEncoder
    n_rows : int
        The number of rows of the table.
    cache : BlockCache
        It stores blocks between passes, as CompactBlock or EncodedRows.
    """

    def __init__(self, table: Table, encoder: FeatureEncoder, n_rows: int, cache: BlockCache) -> None:
        self._table, self._encoder, self._n_blocks, self.cache = table, encoder, -(-n_rows // BLOCK_ROWS), cache

    def map(
        self,
        function: Callable[[int, EncodedRows], Result],
        pass_name: str = "rows",
        *,
        observers: Sequence[BlockObserver[IndexedBlock]] = (),
        last: bool = False,
    ) -> Iterator[Result]:
        """Yield function(first row, encoded rows) of every block, in order; the `last` pass empties the cache.

        Observers are called with every block before it is encoded. That holds in the first pass only: the cache may
        hold encoded rows in later ones.
        """
        encoder, cache, observe = self._encoder, self.cache, observe_functions(observers)

        def apply(block: _StoredBlock) -> tuple[Result, list[Any]]:
            rows = block.rows
            if isinstance(rows, EncodedRows):
                return function(block.start, rows), []
            if isinstance(rows, CompactBlock):
                columnar = rows.to_columnar()
            else:
                columnar = encoder.read_block(rows.rows)
                if not last:
                    cache_block(cache, block.start, columnar)
            observed = [call(IndexedBlock(block.start, columnar)) for call in observe]
            encoded = encoder.encode_block(columnar)
            if not last:
                cache.replace(block.start // BLOCK_ROWS, encoded, sum(part.nbytes for part in encoded))
            return function(block.start, encoded), observed

        for result, observed in over_blocks(apply, partial(self._blocks, last), self._n_blocks, pass_name=pass_name):
            collect_all(observers, observed)
            yield result
            if last and cache.n_bytes:  # results grow as the blocks go: 120 MiB less at a million rows, 1 ms a block
                return_freed_pages()
        if last:
            cache.clear()

    def _blocks(self, last: bool, first: int, stop: int) -> Iterator[_StoredBlock]:
        """Yield blocks `first` … `stop` - 1 from this process's cache, and those that it lacks from the table."""
        cache = self.cache
        fetch = cache.pop if last else cache.get
        if not has_random_access(self._table) and not all(number in cache for number in range(first, stop)):
            for block in self._table.blocks(self._encoder.columns, dictionary_encoded=True):
                yield _StoredBlock(block.start, fetch(block.start // BLOCK_ROWS) or block)
            return
        for cached, numbers in groupby(range(first, stop), cache.__contains__):
            if not cached:
                missing = list(numbers)
                yield from self._read_blocks(missing[0], missing[-1] + 1)
                continue
            for number in numbers:
                rows = fetch(number)
                if rows is None:  # another thread has taken it since, for the same task sent twice
                    yield from self._read_blocks(number, number + 1)
                else:
                    yield _StoredBlock(number * BLOCK_ROWS, rows)

    def _read_blocks(self, first: int, stop: int) -> Iterator[_StoredBlock]:
        assert has_random_access(self._table)
        for block in self._table.blocks(self._encoder.columns, dictionary_encoded=True, first=first, stop=stop):
            yield _StoredBlock(block.start, block)

    def compute_moments(
        self, backend: Backend, advance: Callable[[int], None], observers: Sequence[BlockObserver[IndexedBlock]] = ()
    ) -> Moments:
        """Compute count, mean and scatter of X over all rows in one pass; `observers` as in `map`."""
        layout = self._encoder.layout
        n_hot = len(layout.hot_columns)
        total: EncodedMoments | None = None
        for part in self.map(lambda _, rows: backend.encoded_moments(rows, n_hot), "moments", observers=observers):
            total = part if total is None else total.plus(part)
            advance(part.n_rows)
        assert total is not None  # the statistics pass raises EmptyTableError where there are no rows
        return feature_moments(total, layout)

    def collect_matrix(
        self, advance: Callable[[int], None], observers: Sequence[BlockObserver[IndexedBlock]] = ()
    ) -> Float32s:
        """Return X of all rows (n_rows, n_features), read in one pass; `observers` as in `map`."""
        parts = []
        for rows in self.map(lambda _, rows: rows, "rows", observers=observers):
            parts.append(self._encoder.layout.to_matrix(rows))
            advance(len(rows.dense))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
