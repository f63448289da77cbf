"""The codes of all rows of a table, written while an earlier pass has the rows at hand.

    sampled rows  ->  Codebook, room for codes  ->  filled by the pass that encodes rows  ->  read by the explanation

A fit that goes on after that pass reads the table once more instead.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.execution.array_storage import Storage
from engine.execution.passes import over_table
from engine.explain.binning.binner import Codebook, Codes
from engine.features.encoded_table import PlainBlock
from engine.features.encoder import FeatureEncoder
from engine.tables import Block, Table
from engine.utils.formatting import Vocabulary


class Sheet:
    """Codes of all rows, and the book that says what they mean: a BlockObserver of the pass that encodes rows.

    Parameters
    ----------
    encoder : FeatureEncoder
    sample : pyarrow.Table
        Rows that say what can be asked.
    words : Vocabulary
    n_rows : int
        Of the table.
    storage : Storage

    Attributes
    ----------
    book : Codebook
    codes : uint8 array of shape (n_lines, n_rows)
    """

    def __init__(
        self, encoder: FeatureEncoder, sample: pa.Table, words: Vocabulary, n_rows: int, storage: Storage
    ) -> None:
        self._encoder = encoder
        self.book = Codebook.of(encoder.plan, encoder.read(sample), words)
        self.codes: Codes = storage.array("codes", (self.book.n_lines, n_rows), np.uint8)
        self._n_filled = 0

    def observe(self, block: PlainBlock) -> int:
        """Write the codes of a block's rows, and return how many there are."""
        start, rows = block
        self.book.code(rows, self.codes[:, start : start + rows.n_rows])
        return rows.n_rows

    def collect(self, n_rows: int) -> None:
        """Count the rows whose codes are written."""
        self._n_filled += n_rows

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return nothing: a fit that goes on reads the table once more."""
        return {}

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Take nothing."""

    def move(self, storage: Storage) -> None:
        """Live where other arrays of all rows do, if that turned out to be in files."""
        if storage.folder is not None and not isinstance(self.codes, np.memmap):
            codes, self.codes = self.codes, storage.array("codes", self.codes.shape, np.uint8)
            self.codes[:] = codes

    def complete(self, table: Table) -> Codes:
        """Return the codes of all rows; reads them unless a pass has done so."""
        if self._n_filled < self.codes.shape[1]:

            def bin_block(block: Block) -> int:
                return self.observe(PlainBlock(block.start, self._encoder.read(block.rows)))

            self._n_filled = sum(over_table(bin_block, table, self._encoder.columns, coded=True, what="codes"))
        return self.codes
