"""Function pickling: closures are pickled with their arrays, mapped arrays as the names of their files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine.execution.function_pickling import pickle_function, unpickle_function


def test_a_mapped_array_is_the_same_file_after_unpickling(tmp_path: Path) -> None:
    whole = np.memmap(tmp_path / "Z", np.float32, "w+", shape=(1000, 5))
    whole[:] = np.arange(5000).reshape(1000, 5)
    view, plain = whole[100:200], np.asarray(whole)[3:50:2, 1:]

    def total() -> float:
        return float(view.sum() + plain.sum())

    def overwrite() -> None:
        view[:] = 7

    assert len(pickle_function(total)) < 2000
    assert unpickle_function(pickle_function(total))() == total()
    unpickle_function(pickle_function(overwrite))()
    assert (whole[100:200] == 7).all()
    assert (whole[99, 4], whole[200, 0]) == (499, 1000)


def test_another_process_maps_the_same_file(tmp_path: Path) -> None:
    labels = np.memmap(tmp_path / "labels", np.int32, "w+", shape=(10,))

    def fill() -> None:
        labels[3:] = os.getpid()

    (tmp_path / "function").write_bytes(pickle_function(fill))
    code = "import pathlib, sys; from engine.execution.function_pickling import unpickle_function;"
    code += "unpickle_function(pathlib.Path(sys.argv[1]).read_bytes())()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "function")], check=True)
    assert (labels[:3] == 0).all()
    assert len(set(labels[3:])) == 1
    assert labels[3] not in (0, os.getpid())


def test_arrays_in_memory_and_empty_ones_are_pickled_whole(tmp_path: Path) -> None:
    values = np.arange(5)
    no_rows = np.memmap(tmp_path / "no-rows", np.float32, "w+", shape=(3, 2))[:0]
    copy, empty = unpickle_function(pickle_function(lambda: (values, no_rows)))()
    assert (copy == values).all()
    assert empty.shape == (0, 2)
