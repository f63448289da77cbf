"""A matrix in device memory that host code can slice and sample like a NumPy array.

    matrix[first:last]  ->  an array of the device, for the methods of its backend
    matrix[any other index: row numbers, a step, one row]  ->  a copy as a NumPy array

A pass hands consecutive rows to a backend, while host code picks samples of rows. So code written for a NumPy array
works on this one, and only the samples are copied to the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.utils.array_types import Array

if TYPE_CHECKING:
    from engine.backends.chunked import ChunkedDevice


class DeviceMatrix:
    """A row-major matrix (n_rows, n_columns) on a device.

    Attributes
    ----------
    array : array of the device's module
    """

    def __init__(self, device: ChunkedDevice, array: Array) -> None:
        self._device, self.array = device, array

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows and columns."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes, in device memory."""
        return int(self.array.nbytes)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice) and rows.step is None:
            return self.array[rows]
        index = self._device.xp.asarray(rows) if isinstance(rows, np.ndarray) else rows
        return self._device.to_host(self._device.xp.ascontiguousarray(self.array[index]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all rows on the host, which must have the memory for them."""
        if copy is False:
            raise ValueError("rows on a device cannot be looked at without a copy")
        return self._device.to_host(self.array).astype(dtype or self.dtype, copy=False)


def device_array(X: Any) -> Array | None:
    """Return the device array behind X, None if X is not a DeviceMatrix."""
    return X.array if isinstance(X, DeviceMatrix) else None
