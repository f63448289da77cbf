"""The binned table: every row's packed bins, filled during the PCA pass so that the table need not be read again.

    sampled rows  ->  Binner, empty array  ->  filled by the pass that encodes rows  ->  read by the explanation

A fit that resumes after that pass reads the table once more instead.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.chunked import ChunkedDevice
from engine.execution.array_storage import Storage
from engine.execution.passes import over_table
from engine.explain.binning.binner import Binner, PackedBins
from engine.explain.binning.gpu_binning import pack_on_device
from engine.features.encoded_table import IndexedBlock
from engine.features.encoder import FeatureEncoder
from engine.tables import Block, Table
from engine.tables.device_columns import DeviceColumns
from engine.utils.formatting import Vocabulary


class BinnedTable:
    """The packed bins of all rows of a table, and their binner: a BlockObserver of the pass that encodes rows.

    Parameters
    ----------
    encoder : FeatureEncoder
    sample : pyarrow.Table
        Rows from which the predicates and their thresholds are taken.
    words : Vocabulary
    n_rows : int
        Number of rows of the table.
    storage : Storage

    Attributes
    ----------
    binner : Binner
    packed : uint8 array of shape (n_lines, n_rows)
    """

    def __init__(
        self, encoder: FeatureEncoder, sample: pa.Table, words: Vocabulary, n_rows: int, storage: Storage
    ) -> None:
        self._encoder = encoder
        self.binner = Binner.from_sample(encoder.plan, encoder.read_block(sample), words)
        self.packed: PackedBins = storage.array("codes", (self.binner.n_lines, n_rows), np.uint8)
        self._n_filled = 0

    def observe(self, block: IndexedBlock) -> int:
        """Write the packed bins of a block's rows, and return the number of rows."""
        start, rows = block
        self.binner.pack_into(rows, self.packed[:, start : start + rows.n_rows])
        return rows.n_rows

    def observe_on_device(self, columns: DeviceColumns, device: ChunkedDevice) -> PackedBins:
        """Return the packed bins of a chunk's rows."""
        return pack_on_device(self.binner, self._encoder.layout.read_specs, device, columns)

    def collect_from_device(self, start: int, packed: PackedBins) -> None:
        """Keep the bins of the rows from `start` on."""
        self.packed[:, start : start + packed.shape[1]] = packed
        self._n_filled += packed.shape[1]

    def collect(self, n_rows: int) -> None:
        """Count the rows whose bins are written."""
        self._n_filled += n_rows

    def state(self) -> dict[str, NDArray[np.uint8]]:
        """Return nothing: a fit that resumes reads the table once more."""
        return {}

    def restore(self, state: dict[str, NDArray[np.uint8]]) -> None:
        """Do nothing: there is no state."""

    def move(self, storage: Storage) -> None:
        """Move the bins to where other arrays of all rows are, if that turned out to be in files."""
        if storage.folder is not None and not isinstance(self.packed, np.memmap):
            packed, self.packed = self.packed, storage.array("codes", self.packed.shape, np.uint8)
            self.packed[:] = packed

    def complete(self, table: Table) -> PackedBins:
        """Return the packed bins of all rows; reads the table unless a pass has filled them."""
        if self._n_filled < self.packed.shape[1]:

            def bin_block(block: Block) -> int:
                return self.observe(IndexedBlock(block.start, self._encoder.read_block(block.rows)))

            self._n_filled = sum(
                over_table(bin_block, table, self._encoder.columns, dictionary_encoded=True, pass_name="codes")
            )
        return self.packed
