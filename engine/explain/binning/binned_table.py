"""The codes of all rows of a table, written while an earlier pass has the rows at hand.

    sampled rows  ->  Codebook, room for codes  ->  filled by the pass that encodes rows  ->  read by the explanation

A fit that goes on after that pass reads the table once more instead.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine.execution.array_storage import Storage
from engine.execution.passes import over_table
from engine.explain.binning.binner import Codebook, Codes
from engine.features import FeatureEncoder
from engine.features.columnar_block import PlainRows
from engine.tables import Block, Table
from engine.utils.formatting import Vocabulary


class Sheet:
    """Codes of all rows, and the book that says what they mean.

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
        self._filled = False

    def note(self, start: int, rows: PlainRows) -> None:
        """Write the codes of rows `start` …: in a pass over all rows, on any thread or worker."""
        self.book.code(rows, self.codes[:, start : start + rows.n_rows])

    def filled(self) -> None:
        """Say that the pass over all rows is done."""
        self._filled = True

    def move(self, storage: Storage) -> None:
        """Live where other arrays of all rows do, if that turned out to be in files."""
        if storage.folder is not None and not isinstance(self.codes, np.memmap):
            codes, self.codes = self.codes, storage.array("codes", self.codes.shape, np.uint8)
            self.codes[:] = codes

    def complete(self, table: Table) -> Codes:
        """Return the codes of all rows; reads them unless a pass has done so."""
        if not self._filled:

            def noted(block: Block) -> int:
                self.note(block.start, self._encoder.read(block.rows))
                return len(block)

            for _ in over_table(noted, table, self._encoder.columns, coded=True, what="codes"):
                pass
            self._filled = True
        return self.codes
