"""How kernels that only kernels call are compiled.

numba compiles every kernel by itself and once more within each of its callers: without a way in from Python there is
less of it. `inline="always"` beside it is for long ones that are called once or twice: they are then compiled with
their caller only. But they are typed anew at every call, so short ones that are called often have `forceinline`
instead. Measured: the first fit of 200,000 x 16 normal rows, k = 20, at two levels of precision, 29.6 -> 24.0 s.
"""

from __future__ import annotations

from typing import Any

INNER: dict[str, Any] = {"nogil": True, "cache": True, "no_cpython_wrapper": True}
