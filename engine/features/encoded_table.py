"""All rows of a table, encoded: blocks that there is room for are kept between passes, and the others read again.

    narrow rows of the pass of statistics, or blocks of the table  ->  encoded rows, in every pass

Narrow rows take a tenth of X. Encoded ones take three times as much: they are kept instead where there is room for all
of them, and made again in each pass otherwise, which is quicker than reading. A pass gives the same bits in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine.backends.protocol import Backend, EncodedMoments, EncodedRows, Moments
from engine.blocks import BLOCK_ROWS, Block, Table, reads_parts
from engine.execution.block_cache import Shelf
from engine.execution.observers import BlockObserver, collect_all, functions_of
from engine.execution.passes import over_blocks
from engine.features.columnar_block import PlainRows
from engine.features.compact_block import NarrowRows, keep
from engine.features.encoded_moments import added, moments_of

if TYPE_CHECKING:
    from engine.features.encoder import FeatureEncoder

Result = TypeVar("Result")


class PlainBlock(NamedTuple):
    """A block's rows before they are encoded."""

    start: int
    rows: PlainRows


class _Rows(NamedTuple):
    """A block's rows as they were kept, or as they were read again."""

    start: int
    rows: NarrowRows | EncodedRows | Block


class EncodedTable:
    """The rows of a table as an encoder encodes them.

    Parameters
    ----------
    table : Table
    encoder : FeatureEncoder
    n_rows : int
        Of the table.
    shelf : Shelf
        What is kept of them: NarrowRows or EncodedRows.
    """

    def __init__(self, table: Table, encoder: FeatureEncoder, n_rows: int, shelf: Shelf) -> None:
        self.reader = "pyarrow"  # or that, and why
        self._table, self._encoder, self._n_blocks, self.shelf = table, encoder, -(-n_rows // BLOCK_ROWS), shelf

    def map(
        self,
        function: Callable[[int, EncodedRows], Result],
        what: str = "rows",
        *,
        observers: Sequence[BlockObserver[PlainBlock]] = (),
        last: bool = False,
    ) -> Iterator[Result]:
        """Yield function(first row, rows) of every block, in order; after the `last` pass, no rows are kept.

        Observers look at every block before it is encoded: in the first pass, for later ones may find rows encoded.
        """
        encoder, shelf, observe = self._encoder, self.shelf, functions_of(observers)

        def visit(block: _Rows) -> tuple[Result, list[Any]]:
            rows = block.rows
            if isinstance(rows, EncodedRows):
                return function(block.start, rows), []
            if isinstance(rows, NarrowRows):
                plain = rows.plain()
            else:
                plain = encoder.read(rows.rows)
                if not last:
                    keep(shelf, block.start, plain)
            observed = [look(PlainBlock(block.start, plain)) for look in observe]
            encoded = encoder.encode_plain(plain)
            if not last:
                shelf.replace(block.start // BLOCK_ROWS, encoded, sum(part.nbytes for part in encoded))
            return function(block.start, encoded), observed

        for result, observed in over_blocks(visit, partial(self._blocks, last), self._n_blocks, what=what):
            collect_all(observers, observed)
            yield result
        if last:
            shelf.clear()

    def _blocks(self, last: bool, first: int, stop: int) -> Iterator[_Rows]:
        """Yield blocks `first` to `stop`, those that this process keeps from there, the others from the table."""
        shelf = self.shelf
        kept = shelf.take if last else shelf.get
        if not reads_parts(self._table) and not all(number in shelf for number in range(first, stop)):
            for block in self._table.blocks(self._encoder.columns, coded=True):
                yield _Rows(block.start, kept(block.start // BLOCK_ROWS) or block)
            return
        for here, numbers in groupby(range(first, stop), shelf.__contains__):
            if not here:
                missing = list(numbers)
                yield from self._read(missing[0], missing[-1] + 1)
                continue
            for number in numbers:
                rows = kept(number)
                if rows is None:  # it was here: another thread has taken it, for the same task sent twice
                    yield from self._read(number, number + 1)
                else:
                    yield _Rows(number * BLOCK_ROWS, rows)

    def _read(self, first: int, stop: int) -> Iterator[_Rows]:
        assert reads_parts(self._table)
        for block in self._table.blocks(self._encoder.columns, coded=True, first=first, stop=stop):
            yield _Rows(block.start, block)

    def moments(
        self, backend: Backend, advance: Callable[[int], None], observers: Sequence[BlockObserver[PlainBlock]] = ()
    ) -> Moments:
        """Return count, mean and scatter of X over all rows; `observers` as in `map`."""
        layout = self._encoder.layout
        n_hot = len(layout.hot_columns)
        total: EncodedMoments | None = None
        for part in self.map(lambda _, rows: backend.encoded_moments(rows, n_hot), "moments", observers=observers):
            total = part if total is None else added(total, part)
            advance(part.n_rows)
        assert total is not None  # the pass of statistics has seen rows
        return moments_of(total, layout)
