"""The report on disk, cases that may fail, generated rows, and the device: shared by all sections."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from engine import backends
from engine.backends.array_kmeans import ArrayBackend
from engine.execution.threads import map_blocks, row_blocks

FILL_ROWS = 1 << 18  # rows drawn at a time, by a generator of their own
LIBRARIES = (
    "rooms-engine", "numpy", "numba", "cupy-cuda13x", "cupy-cuda12x", "torch", "triton", "flash-kmeans", "cuml-cu13",
    "cudf-cu13", "cuml-cu12", "cudf-cu12",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """The device to measure, the size of the measurement, and a temporary folder."""

    device: str
    tiny: bool
    folder: Path

    def pick(self, whole: Any, tiny: Any) -> Any:
        """Return the size of a measurement, or that of a trial of the script."""
        return tiny if self.tiny else whole


class Report:
    """A JSON document of sections of cases, complete on disk after every case."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.path.read_text())
        return document

    def open(self, settings: dict[str, Any]) -> None:
        """Create the file, or keep one of the same settings; raise ValueError if its settings are others."""
        if self.path.exists():
            earlier = self.read()["settings"]
            if earlier != settings:
                raise ValueError(f"{self.path} holds measurements with {earlier}, not with {settings}")
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write({"settings": settings})

    def is_measured(self, section: str) -> bool:
        """Return whether a section has run to its end, or to an error that ended it."""
        return "seconds" in self.read().get(section, {}).get("section", {})

    def clear(self, section: str) -> None:
        """Remove what an earlier run of a section has written."""
        document = self.read()
        document.pop(section, None)
        self._write(document)

    def add(self, section: str, case: str, facts: Any) -> None:
        document = self.read()
        document.setdefault(section, {})[case] = facts
        self._write(document)

    def _write(self, document: dict[str, Any]) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(unfinished, self.path)


class Section:
    """A section of the report: runs cases while there is time left, and records their errors."""

    def __init__(self, report: Report, name: str, seconds: float) -> None:
        self.report, self.name, self.seconds = report, name, seconds

    def begin(self) -> None:
        self.deadline = time.perf_counter() + self.seconds

    def case(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Run a case and write what it returns."""
        if time.perf_counter() > self.deadline:
            self.report.add(self.name, name, {"skipped": f"the section's {self.seconds:.0f} s were spent"})
            return
        self.guard(name, lambda: self.report.add(self.name, name, measure()))

    def guard(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, the next case has to run
            self.report.add(self.name, name, {"error": f"{type(error).__name__}: {error}"[:2000]})


def all_passed(cases: dict[str, Any]) -> bool:
    """Return whether every comparison of a section was made and passed."""
    verdicts = [facts.get("passed", False) for name, facts in cases.items() if name != "section"]
    return bool(verdicts) and all(verdicts) and "error" not in cases.get("section", {})


def describe_environment(commit: str | None) -> dict[str, Any]:
    """Return the time, the commit, the GPU with its driver, and the versions of libraries; no GPU is touched."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": commit or _first_output_line("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "gpu": _first_output_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "versions": versions,
    }


def _first_output_line(*command: str) -> str | None:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.split("\n", 1)[0].strip() or None


class NumpyDevice(ArrayBackend):
    """The array backend on NumPy, in the place of a GPU in a trial."""

    name = "numpy"


def use_numpy_device() -> None:
    """Make this process compute with NumPy where it asks for a GPU."""
    on_cpu = backends.resolve("cpu")

    def resolve(device: str = "auto") -> Any:
        return (NumpyDevice(np), "NumPy, in the place of a GPU") if device == "cuda" else on_cpu

    backends.resolve = resolve


def gpu() -> Any:
    """Return the backend of the GPU."""
    return backends.resolve("cuda")[0]


def synchronize(xp: Any) -> None:
    if hasattr(xp, "cuda"):
        xp.cuda.Device().synchronize()


def time_call(xp: Any, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds until the device is done, and the result."""
    synchronize(xp)
    start = time.perf_counter()
    result = work()
    synchronize(xp)
    return time.perf_counter() - start, result


def measure_bandwidth(xp: Any, n_bytes: int) -> float:
    """Return the bytes a second, read and written, of a copy from the device's memory to itself."""
    source, target = xp.zeros(n_bytes // 4, np.float32), xp.zeros(n_bytes // 4, np.float32)

    def copy() -> None:
        target[...] = source

    return float(2 * n_bytes / min(time_call(xp, copy)[0] for _ in range(10)))


class Mixture:
    """Float32 rows of a mixture of overlapping components; a shorter table is the beginning of a longer one."""

    def __init__(self, largest: int, n_features: int = 64, n_components: int = 100) -> None:
        self._means = np.random.default_rng(0).normal(size=(n_components, n_features)).astype(np.float32)
        self._X = np.empty((largest, n_features), np.float32)  # pages are allocated when they are written
        self._filled = 0

    def first_rows(self, n_rows: int) -> Any:
        """Return the first rows, drawn on all threads."""
        blocks = [part for part in row_blocks(len(self._X), FILL_ROWS) if self._filled <= part.start < n_rows]
        list(map_blocks(self._draw, blocks))
        self._filled = max([self._filled, *(part.stop for part in blocks)])
        return self._X[:n_rows]

    def _draw(self, part: slice) -> None:
        random, rows = np.random.default_rng(1 + part.start // FILL_ROWS), self._X[part]
        random.standard_normal(out=rows, dtype=np.float32)
        rows += self._means[random.integers(0, len(self._means), len(rows))]


def initial_centers(X: Any, k: int) -> Any:
    """Return k of the first rows, the same for all contenders."""
    return X[np.random.default_rng(1).choice(min(len(X), 1_000_000), k, replace=False)].copy()
