"""NumPy in the place of CuPy that counts array operations, and the bytes that they read of some array.

Every operation of CuPy is at least one kernel launch. Views (slices, reshape, view) and empty arrays are none. Where
Python needs a value, a copy to the host, or a length that the device computes, the host waits: these are counted too.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

NO_LAUNCH = {"empty", "asarray", "ascontiguousarray"}
WAITING = {"flatnonzero", "nonzero", "unique"}  # the length of the result is computed on the device
METHODS = ("all", "any", "argmin", "astype", "copy", "max", "mean", "min", "sum")


class Counter:
    """Operations by name, the bytes they read of `watched`, and the sizes of what they reduce and return."""

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.waits = 0  # of the host for the device
        self.bytes_read, self.longest_column, self.largest = 0, 0, 0
        self.watched: Any = np.empty(0)

    def add(self, name: str, inputs: Any) -> None:
        self.operations.append(name)
        for array in inputs:
            if isinstance(array, np.ndarray) and np.may_share_memory(to_plain(array), self.watched):
                self.bytes_read += array.nbytes


COUNTER = Counter()


class CountingArray(np.ndarray):
    """An array whose operations are counted."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=to_plain(self).__array_interface__["data"][0])

    def get(self) -> Any:
        COUNTER.waits += 1
        return np.array(to_plain(self))

    def __int__(self) -> int:
        COUNTER.waits += 1
        return int(to_plain(self))

    def __bool__(self) -> bool:
        COUNTER.waits += 1
        return bool(to_plain(self))

    def __float__(self) -> float:
        COUNTER.waits += 1
        return float(to_plain(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        COUNTER.add(f"{ufunc.__name__}.{method}", inputs)
        plain = [to_plain(value) for value in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(to_plain(value) for value in kwargs["out"])
        return to_counting(getattr(ufunc, method)(*plain, **kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"np.{function.__name__} was called besides the module")

    def __getitem__(self, key: Any) -> Any:
        values = to_plain(self)[to_plain(key)]
        if not np.may_share_memory(values, to_plain(self)):
            COUNTER.add("gather", [])
            if np.may_share_memory(to_plain(self), COUNTER.watched):
                COUNTER.bytes_read += np.asarray(values).nbytes
        return to_counting(values)

    def __setitem__(self, key: Any, value: Any) -> None:
        COUNTER.add("assign", [value])
        to_plain(self)[to_plain(key)] = to_plain(value)


def _counted_method(name: str) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not (name == "astype" and kwargs.get("copy") is False and self.dtype == args[0]):
            COUNTER.add(name, [self])
        if kwargs.get("axis") == 0:
            COUNTER.longest_column = max(COUNTER.longest_column, len(self))
        return to_counting(getattr(to_plain(self), name)(*args, **{key: to_plain(v) for key, v in kwargs.items()}))

    return call


for _name in METHODS:
    setattr(CountingArray, _name, _counted_method(_name))


class CountingModule:
    """NumPy's functions, which return arrays that count."""

    ndarray = CountingArray

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if name == "add":
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            if name not in NO_LAUNCH:
                COUNTER.add(name, args)
            COUNTER.waits += name in WAITING
            plain = [to_plain(value) for value in args]
            return to_counting(function(*plain, **{key: to_plain(value) for key, value in kwargs.items()}))

        return call


def to_plain(value: Any) -> Any:
    if isinstance(value, CountingArray):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        return type(value)(to_plain(part) for part in value)
    return value


def to_counting(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(to_counting, value))
    if isinstance(value, np.ndarray | np.generic):
        COUNTER.largest = max(COUNTER.largest, value.size)
        return np.asarray(value).view(CountingArray)
    return value


def start_counting(watched: Any) -> Counter:
    """Reset the counter, and watch an array."""
    COUNTER.operations, COUNTER.waits = [], 0
    COUNTER.bytes_read, COUNTER.longest_column, COUNTER.largest = 0, 0, 0
    COUNTER.watched = to_plain(watched)
    return COUNTER
