"""Functions travel with what they refer to, but what lies in a mapped file is left there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from engine.execution.function_pickling import packed, unpacked


def test_a_mapped_array_is_the_same_file_on_the_other_side(tmp_path: Path) -> None:
    whole = np.memmap(tmp_path / "Z", np.float32, "w+", shape=(1000, 5))
    whole[:] = np.arange(5000).reshape(1000, 5)
    view, plain = whole[100:200], np.asarray(whole)[3:50:2, 1:]

    def total() -> float:
        return float(view.sum() + plain.sum())

    def overwrite() -> None:
        view[:] = 7

    assert len(packed(total)) < 2000
    assert unpacked(packed(total))() == total()
    unpacked(packed(overwrite))()
    assert (whole[100:200] == 7).all()
    assert (whole[99, 4], whole[200, 0]) == (499, 1000)


def test_a_file_is_mapped_by_another_process(tmp_path: Path) -> None:
    labels = np.memmap(tmp_path / "labels", np.int32, "w+", shape=(10,))

    def fill() -> None:
        labels[3:] = os.getpid()

    (tmp_path / "parcel").write_bytes(packed(fill))
    code = "import pathlib, sys; from engine.execution.function_pickling import unpacked;"
    code += "unpacked(pathlib.Path(sys.argv[1]).read_bytes())()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "parcel")], check=True)
    assert (labels[:3] == 0).all()
    assert len(set(labels[3:])) == 1
    assert labels[3] not in (0, os.getpid())


def test_arrays_in_memory_and_empty_ones_travel_whole(tmp_path: Path) -> None:
    here = np.arange(5)
    none = np.memmap(tmp_path / "none", np.float32, "w+", shape=(3, 2))[:0]
    found, empty = unpacked(packed(lambda: (here, none)))()
    assert (found == here).all()
    assert empty.shape == (0, 2)
