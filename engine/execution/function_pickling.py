"""Pickle functions, with everything they refer to, for other processes.

    a function or closure  ->  bytes  ->  the same function, unpickled once a process

Arrays in mapped files are pickled as the names of their files, so the rows of a pass never travel. Only for processes
that run one job together: unpickling runs arbitrary code.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cloudpickle
import numpy as np

from engine.execution.block_cache import register_cleanup

CACHED_FUNCTIONS = 4  # per worker: those of two passes, and of the tasks sent beside them


def pickle_function(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes."""
    with io.BytesIO() as stream:
        _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(function)
        return stream.getvalue()


@lru_cache(maxsize=CACHED_FUNCTIONS)
def unpickle_function(pickled: bytes) -> Callable[..., Any]:
    """Return the function of these bytes; the same object for the same bytes."""
    function: Callable[..., Any] = pickle.loads(pickled)
    return function


register_cleanup(unpickle_function.cache_clear)


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        base = _find_memmap(obj) if isinstance(obj, np.ndarray) else None
        if base is None:
            return super().reducer_override(obj)
        offset = obj.ctypes.data - base.ctypes.data + base.offset
        return _open_memmap, (str(base.filename), obj.dtype, obj.shape, obj.strides, offset, base.mode)


def _find_memmap(array: Any) -> np.memmap[Any, Any] | None:
    """Return the mapped file that an array is a view of, None if it is in memory."""
    base = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and not isinstance(base.base, np.memmap):
            if base.filename is None:
                raise TypeError("an array in a file without a name cannot go to another process")
            return base
        base = base.base
    return None


def _open_memmap(
    path: str, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, mode: str
) -> np.ndarray[Any, Any]:
    if 0 in shape:
        return np.empty(shape, dtype)
    extent = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + np.dtype(dtype).itemsize
    whole = np.memmap(path, np.uint8, "r" if mode == "r" else "r+", offset, (extent,))
    return np.ndarray(shape, dtype, whole, 0, strides)
