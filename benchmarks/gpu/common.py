"""What the sections share: the report on disk, guarded cases, rows, and the device or what stands in for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import backends
from engine.backends.array_kmeans import ArrayBackend
from engine.execution.threads import map_blocks, row_blocks

FILL_ROWS = 1 << 18  # rows drawn at a time, by a generator of their own


@dataclass(frozen=True)
class Setting:
    """What is to be measured on, and a folder that goes away."""

    device: str
    tiny: bool
    folder: Path

    def pick(self, whole: Any, tiny: Any) -> Any:
        """Return a size, or what stands for it in a trial of the script."""
        return tiny if self.tiny else whole


class Report:
    """A JSON document of sections of cases, whole on disk after every case."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.path.read_text())
        return document

    def start(self, settings: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write({"settings": settings | {"started": time.strftime("%Y-%m-%d %H:%M:%S")}})

    def add(self, section: str, case: str, facts: Any) -> None:
        document = self.read()
        document.setdefault(section, {})[case] = facts
        self._write(document)

    def _write(self, document: dict[str, Any]) -> None:
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(beside, self.path)


class Section:
    """Cases of a section: each is run if there is time left, and what goes wrong is written down."""

    def __init__(self, report: Report, name: str, seconds: float) -> None:
        self.report, self.name, self.seconds = report, name, seconds

    def begin(self) -> None:
        self.ends = time.perf_counter() + self.seconds

    def case(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Run a case and write what it returns."""
        if time.perf_counter() > self.ends:
            self.report.add(self.name, name, {"skipped": f"the section's {self.seconds:.0f} s were spent"})
            return
        self.guard(name, lambda: self.report.add(self.name, name, measure()))

    def guard(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, the next case is to run
            self.report.add(self.name, name, {"error": f"{type(error).__name__}: {error}"[:2000]})


class NumpyDevice(ArrayBackend):
    """The backend of array modules on NumPy: what stands in for a GPU in a trial."""

    name = "numpy"


def stand_in() -> None:
    """Let the engine take NumPy where it asks for a GPU, in this process."""
    on_cpu = backends.resolve("cpu")

    def resolve(device: str = "auto") -> Any:
        return (NumpyDevice(np), "NumPy, in the place of a GPU") if device == "cuda" else on_cpu

    backends.resolve = resolve


def gpu() -> Any:
    """Return the backend of the device."""
    return backends.resolve("cuda")[0]


def synchronize(xp: Any) -> None:
    if hasattr(xp, "cuda"):
        xp.cuda.Device().synchronize()


def timed(xp: Any, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds until the device is done, and what was returned."""
    synchronize(xp)
    start = time.perf_counter()
    found = work()
    synchronize(xp)
    return time.perf_counter() - start, found


class Mixture:
    """Float32 rows of a mixture whose components overlap; a shorter table is the beginning of a longer one."""

    def __init__(self, most: int, n_features: int = 64, n_components: int = 100) -> None:
        self._means = np.random.default_rng(0).normal(size=(n_components, n_features)).astype(np.float32)
        self._X = np.empty((most, n_features), np.float32)  # pages come when they are written
        self._filled = 0

    def upto(self, n_rows: int) -> Any:
        """Return the first rows, drawn on all threads."""
        blocks = [part for part in row_blocks(len(self._X), FILL_ROWS) if self._filled <= part.start < n_rows]
        list(map_blocks(self._draw, blocks))
        self._filled = max([self._filled, *(part.stop for part in blocks)])
        return self._X[:n_rows]

    def _draw(self, part: slice) -> None:
        random, rows = np.random.default_rng(1 + part.start // FILL_ROWS), self._X[part]
        random.standard_normal(out=rows, dtype=np.float32)
        rows += self._means[random.integers(0, len(self._means), len(rows))]


def start_of(X: Any, k: int) -> Any:
    """Return k of the first rows, the same for everybody."""
    return X[np.random.default_rng(1).choice(min(len(X), 1_000_000), k, replace=False)].copy()
