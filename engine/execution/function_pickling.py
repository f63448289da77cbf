"""Functions, with all they refer to, as bytes that another process turns into the same function.

    a function or closure  ->  bytes  ->  the function again, made once a process

Arrays in mapped files travel as the names of their files, so what a pass works on never does. Only for processes that
run one job together: who can send bytes here can run anything.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cloudpickle
import numpy as np

from engine.execution.block_cache import to_forget

KEPT = 4  # functions that a worker keeps: those of two passes, and what goes on beside them


def packed(function: Callable[..., Any]) -> bytes:
    """Return a function as bytes."""
    with io.BytesIO() as stream:
        _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(function)
        return stream.getvalue()


@lru_cache(maxsize=KEPT)
def unpacked(parcel: bytes) -> Callable[..., Any]:
    """Return the function; the same one for the same bytes."""
    function: Callable[..., Any] = pickle.loads(parcel)
    return function


to_forget(unpacked.cache_clear)


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        base = _mapped(obj) if isinstance(obj, np.ndarray) else None
        if base is None:
            return super().reducer_override(obj)
        offset = obj.ctypes.data - base.ctypes.data + base.offset
        return _map, (str(base.filename), obj.dtype, obj.shape, obj.strides, offset, base.mode)


def _mapped(array: Any) -> np.memmap[Any, Any] | None:
    """Return the mapped file that an array is a view of, if it is one."""
    base = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and not isinstance(base.base, np.memmap):
            if base.filename is None:
                raise TypeError("an array in a file without a name cannot go to another process")
            return base
        base = base.base
    return None


def _map(
    path: str, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, mode: str
) -> np.ndarray[Any, Any]:
    if 0 in shape:
        return np.empty(shape, dtype)
    extent = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + np.dtype(dtype).itemsize
    whole = np.memmap(path, np.uint8, "r" if mode == "r" else "r+", offset, (extent,))
    return np.ndarray(shape, dtype, whole, 0, strides)
