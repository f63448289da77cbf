"""Aliases for the types of NumPy arrays that function signatures name; `Array` is one of CuPy or NumPy."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.floating[Any]]  # (n_rows, n_features) float32 or float64, C-contiguous
Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

Array: TypeAlias = Any  # of an array module `xp`: CuPy on a GPU, NumPy in tests
