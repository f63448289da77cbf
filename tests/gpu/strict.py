"""A stand-in for CuPy that computes with NumPy and rejects what CuPy rejects.

Its functions and methods are those in signatures.json, and calls must fit their signatures. Its arrays do not mix with
NumPy's: not in an operation, not as an index, not as values to assign; only `asarray`, `get` and `set` convert.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.gpu.contract import make_signature, read_record

RECORD = read_record()
CONVERTING = {"asarray"}


class StrictArray(np.ndarray):
    """A NumPy array in the place of a device array."""

    def get(self) -> Any:
        return np.array(self).view(np.ndarray)

    def set(self, arr: Any, stream: Any = None) -> None:
        if type(arr) is not np.ndarray or arr.shape != self.shape or arr.dtype != self.dtype:
            raise TypeError(f"set wants a NumPy array of {self.shape} {self.dtype}, not {arr.shape} {arr.dtype}")
        if not (arr.flags.c_contiguous and self.flags.c_contiguous):
            raise RuntimeError("set wants contiguous arrays")
        if stream is None:
            np.copyto(to_numpy(self), arr)
        else:
            stream.queue("copies", lambda: np.copyto(to_numpy(self), arr))

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=to_numpy(self).__array_interface__["data"][0])

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in RECORD["array"]:
            raise AttributeError(f"cupy.ndarray has no {name}")
        attribute = super().__getattribute__(name)
        if f"cupy.ndarray.{name}" not in RECORD["signatures"] or name in {"get", "set"}:
            if callable(attribute) and not name.startswith("_") and name not in {"get", "set"}:
                raise AssertionError(f"cupy.ndarray.{name} is not in signatures.json: add it to contract.py")
            return attribute
        return _checked_function(f"cupy.ndarray.{name}", getattr(to_numpy(self), name))

    def __getitem__(self, key: Any) -> Any:
        reject_numpy(key, "an index")
        return to_device(to_numpy(self)[unwrap_arrays(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        reject_numpy(key, "an index")
        reject_numpy(value, "values to assign")
        to_numpy(self)[unwrap_arrays(key)] = unwrap_arrays(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} does not know arrays of CuPy")
        reject_numpy(inputs, "an operand")
        out = kwargs.pop("out", None)
        if out is not None:
            ufunc(*unwrap_arrays(inputs), out=unwrap_arrays(out), **kwargs)
            return out[0]
        return to_device(ufunc(*unwrap_arrays(inputs), **kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"np.{function.__name__} was called with an array of CuPy")


class StrictModule:
    """NumPy under the names and signatures of CuPy."""

    ndarray = StrictArray

    def __getattr__(self, name: str) -> Any:
        if f"cupy.{name}" not in RECORD["signatures"]:
            raise AssertionError(f"cupy.{name} is not in signatures.json: add it to contract.py")
        function = getattr(np, name)
        if name == "add":
            return _Add()
        return _checked_function(f"cupy.{name}", function, converts=name in CONVERTING)


class _Add:
    """cupy.add, whose `at` supports only the types that have atomic additions."""

    @staticmethod
    def at(a: Any, indices: Any, b: Any) -> None:
        reject_numpy((a, indices, b), "an operand of add.at")
        if a.dtype not in (np.uint64, np.int32, np.uint32, np.float32, np.float64) or b.dtype != a.dtype:
            raise TypeError(f"cupy.add.at does not add {b.dtype} to {a.dtype}")
        np.add.at(to_numpy(a), to_numpy(indices), to_numpy(b))


def _checked_function(name: str, function: Any, *, converts: bool = False) -> Any:
    signature = make_signature(RECORD["signatures"][name])

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature}: {error}") from None
        if not converts:
            reject_numpy((args, list(kwargs.values())), f"an argument of {name}")
        return to_device(function(*unwrap_arrays(args), **{key: unwrap_arrays(value) for key, value in kwargs.items()}))

    return call


def reject_numpy(value: Any, what: str) -> None:
    """Raise if `value` is or contains a NumPy array; NumPy scalars are allowed."""
    if type(value) is np.ndarray:
        raise TypeError(f"an array of NumPy is {what}")
    if isinstance(value, list | tuple):
        for part in value:
            reject_numpy(part, what)


def to_numpy(array: Any) -> Any:
    return np.ndarray.view(array, np.ndarray)


def unwrap_arrays(value: Any) -> Any:
    if isinstance(value, StrictArray):
        return to_numpy(value)
    if isinstance(value, list | tuple):
        return type(value)(unwrap_arrays(part) for part in value)
    return value


def to_device(value: Any) -> Any:
    """Return arrays and NumPy scalars as device arrays, in tuples too: reductions of CuPy stay on the device."""
    if isinstance(value, tuple):
        return tuple(map(to_device, value))
    if isinstance(value, np.ndarray | np.generic):
        return np.ndarray.view(np.asarray(value), StrictArray)
    return value
