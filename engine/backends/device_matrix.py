"""Rows in the memory of a device, that the host can treat as rows: scores that never leave it.

    matrix[first:last]  ->  an array of the device, for the verbs of its backend
    matrix[anything else: numbers of rows, steps, one row]  ->  an array of NumPy, copied

What a pass hands to a backend is a run of rows, what the host picks is a sample. So code that works on an array of
NumPy works on this one, and only what is picked crosses over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.backends.chunked import Array, Chunks


class DeviceMatrix:
    """Rows (n_rows, n_columns) on a device, row-major.

    Attributes
    ----------
    array : array of the device's module
    """

    def __init__(self, device: Chunks, array: Array) -> None:
        self._device, self.array = device, array

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        found: np.dtype[Any] = np.dtype(self.array.dtype)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the device's memory."""
        return int(self.array.nbytes)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice) and rows.step is None:
            return self.array[rows]
        picked = self._device.xp.asarray(rows) if isinstance(rows, np.ndarray) else rows
        return self._device.host(self._device.xp.ascontiguousarray(self.array[picked]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy on the host: who asks for all rows has to have room for them."""
        if copy is False:
            raise ValueError("rows on a device cannot be looked at without a copy")
        return self._device.host(self.array).astype(dtype or self.dtype, copy=False)


def array_in(X: Any) -> Array | None:
    """Return the device's array of rows that are there, None of others."""
    return X.array if isinstance(X, DeviceMatrix) else None
