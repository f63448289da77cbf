"""The symmetric product of SciPy's BLAS: it adds to one triangle in place, where NumPy's makes a matrix to be added.

Called by its address, because SciPy's Python function keeps the GIL. Import this before a pass, not inside it: a pass
holds to one thread the BLAS libraries that are loaded when it begins.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_void_p

import scipy.linalg  # noqa: F401  (loads the library)
from numba.extending import get_cython_function_address

from engine.backends.protocol import Float64s

_NUMBER, _FACTOR = POINTER(c_int), POINTER(c_double)
_dsyrk = ctypes.CFUNCTYPE(
    None, c_char_p, c_char_p, _NUMBER, _NUMBER, _FACTOR, c_void_p, _NUMBER, _FACTOR, c_void_p, _NUMBER
)(get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))


def add_products(rows: Float64s, lower: Float64s) -> None:
    """Add rows^T rows to the lower triangle of a matrix (n_features, n_features); both are C-contiguous."""
    n_rows, n_features = rows.shape
    n, one = c_int(n_features), c_double(1.0)
    # Fortran reads rows as columns: what is upper to it is lower here.
    _dsyrk(
        b"U", b"N", byref(n), byref(c_int(n_rows)), byref(one), rows.ctypes.data, byref(n), byref(one),
        lower.ctypes.data, byref(n),
    )  # fmt: skip
