"""Principal axes by the PCA of a device's library, which wants all of X in the memory of the device.

encoded rows, block by block, on the host or the device  ->  X (n_rows, n_features) float32, column after column
X  ->  PrincipalAxes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.backends.protocol import EncodedRows, PrincipalAxes
from engine.execution.observers import BlockObserver
from engine.features.encoded_table import EncodedTable
from engine.features.encoder import FeatureEncoder
from engine.kernels.arrays.features import encode

if TYPE_CHECKING:
    from engine.features.gpu_encoder import GpuEncodedTable


def find_library_axes(
    table: EncodedTable | GpuEncodedTable,
    encoder: FeatureEncoder,
    n_rows: int,
    device: Any,
    advance: Callable[[int], None],
    observers: Sequence[BlockObserver[Any]] = (),
) -> PrincipalAxes:
    """Return all principal axes of the rows of a table, read in one pass; `observers` as in EncodedTable.map.

    Raises
    ------
    OutOfResourcesError
        If X, or what the library needs beside it, does not fit on the device.
    """
    put, layout = device.xp.asarray, encoder.layout
    columns = tuple(map(put, (layout.dense_columns, layout.hot_columns, layout.hot_values)))
    X = device.allocate_columns((n_rows, layout.n_features))

    def fill(start: int, rows: EncodedRows) -> int:
        encoded = (put(rows.dense), put(rows.starts), put(rows.hot))
        encode.fill_matrix(device.xp, encoded, columns, X[start : start + len(rows.dense)])
        return len(rows.dense)

    for n_done in table.map(fill, "moments", observers=observers):
        advance(n_done)
    axes: PrincipalAxes = device.library_axes(X)
    return axes
