"""A stand-in for CuPy that computes with NumPy and refuses what CuPy refuses.

Its functions and methods are those in signatures.json, called as their signatures allow. Its arrays do not mix with
NumPy's: not in an operation, not as an index, not as values to assign; only `asarray`, `get` and `set` cross over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.gpu.contract import recorded, signature_of

RECORD = recorded()
CROSSING = {"asarray"}


class StrictArray(np.ndarray):
    """An array on the device that is not there."""

    def get(self) -> Any:
        return np.array(self).view(np.ndarray)

    def set(self, arr: Any, stream: Any = None) -> None:
        if type(arr) is not np.ndarray or arr.shape != self.shape or arr.dtype != self.dtype:
            raise TypeError(f"set wants a NumPy array of {self.shape} {self.dtype}, not {arr.shape} {arr.dtype}")
        if not (arr.flags.c_contiguous and self.flags.c_contiguous):
            raise RuntimeError("set wants contiguous arrays")
        if stream is None:
            np.copyto(bare(self), arr)
        else:
            stream.queue("copies", lambda: np.copyto(bare(self), arr))

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in RECORD["array"]:
            raise AttributeError(f"cupy.ndarray has no {name}")
        found = super().__getattribute__(name)
        if f"cupy.ndarray.{name}" not in RECORD["signatures"] or name in {"get", "set"}:
            if callable(found) and not name.startswith("_") and name not in {"get", "set"}:
                raise AssertionError(f"cupy.ndarray.{name} is not in signatures.json: add it to contract.py")
            return found
        return _bound(f"cupy.ndarray.{name}", getattr(bare(self), name))

    def __getitem__(self, key: Any) -> Any:
        refuse(key, "an index")
        return wrapped(bare(self)[unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        refuse(key, "an index")
        refuse(value, "values to assign")
        bare(self)[unwrapped(key)] = unwrapped(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} does not know arrays of CuPy")
        refuse(inputs, "an operand")
        out = kwargs.pop("out", None)
        if out is not None:
            ufunc(*unwrapped(inputs), out=unwrapped(out), **kwargs)
            return out[0]
        return wrapped(ufunc(*unwrapped(inputs), **kwargs))

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
        return _bound(f"cupy.{name}", function, crossing=name in CROSSING)


class _Add:
    """cupy.add, whose `at` adds the few types that have atomic operations."""

    @staticmethod
    def at(a: Any, indices: Any, b: Any) -> None:
        refuse((a, indices, b), "an operand of add.at")
        if a.dtype not in (np.uint64, np.int32, np.uint32, np.float32, np.float64) or b.dtype != a.dtype:
            raise TypeError(f"cupy.add.at does not add {b.dtype} to {a.dtype}")
        np.add.at(bare(a), bare(indices), bare(b))


def _bound(name: str, function: Any, *, crossing: bool = False) -> Any:
    signature = signature_of(RECORD["signatures"][name])

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature}: {error}") from None
        if not crossing:
            refuse((args, list(kwargs.values())), f"an argument of {name}")
        return wrapped(function(*unwrapped(args), **{key: unwrapped(value) for key, value in kwargs.items()}))

    return call


def refuse(value: Any, what: str) -> None:
    """Raise if an array of NumPy is anywhere in `value`; numbers of NumPy are numbers."""
    if type(value) is np.ndarray:
        raise TypeError(f"an array of NumPy is {what}")
    if isinstance(value, list | tuple):
        for part in value:
            refuse(part, what)


def bare(array: Any) -> Any:
    return np.ndarray.view(array, np.ndarray)


def unwrapped(value: Any) -> Any:
    if isinstance(value, StrictArray):
        return bare(value)
    if isinstance(value, list | tuple):
        return type(value)(unwrapped(part) for part in value)
    return value


def wrapped(value: Any) -> Any:
    """Return an array as one on the device, and each of several; a number too, as reductions of CuPy stay there."""
    if isinstance(value, tuple):
        return tuple(map(wrapped, value))
    if isinstance(value, np.ndarray | np.generic):
        return np.ndarray.view(np.asarray(value), StrictArray)
    return value
