"""Choose which library computes each stage of a fit, and keep why: for the log, the manifest and the dry run.

    settings, backend, reader  ->  StageLibraries: stage -> library and reason

cuML computes PCA, K-Means and t-SNE where it can, unless the settings say otherwise: decisions/0026-who-computes.md.
A stage that ends up with another library than was chosen (no memory, a resumed fit) is recorded anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.backends.protocol import Backend
from engine.config import FitConfig
from engine.errors import DeviceNotAvailableError, OutOfResourcesError, UsageError, first_line

FUSED = "fused kernels"
OWN_ALGORITHMS = {"pca": "moments", "kmeans": "lloyd"}
TITLES = {"pca": "PCA", "kmeans": "K-Means"}
NAMED, REPRODUCIBLE = "it was asked for", "the fit is reproducible"
CONTINUED_MAP = "cuML makes no map from the places of the previous run"

logger = logging.getLogger(__name__)


class StageLibrary(NamedTuple):
    """The library that computes a stage, and the reason why it is that one."""

    library: str
    reason: str


class StageLibraries:
    """Which library computes each stage of a fit, and why."""

    def __init__(self, settings: FitConfig, backend: Backend, device_reason: str) -> None:
        """Choose the libraries; `device_reason` says why the device is this one.

        Raises
        ------
        UsageError
            If cuML is named for a stage, and device or workers are too, which it does not run on; or fused kernels,
            and the device is no GPU.
        DeviceNotAvailableError
            If cuML is named for a stage, and there is no GPU, or no cuML; or fused kernels, which the GPU does not run.
        """
        why_not = _why_not_cuml(settings, backend)
        own = StageLibrary(backend.kernels, f"the device is {backend.name}")
        self._own = own
        cuml = StageLibrary("cuML", f"the device is {backend.name}, with cuML")
        named = {"pca": settings.pca.algorithm, "kmeans": settings.kmeans.algorithm}
        self._stages: dict[str, StageLibrary] = {}
        self.record_reader("pyarrow")
        self.record_statistics(False)
        for stage, algorithm in named.items():
            if algorithm == "auto":
                self._stages[stage] = cuml if why_not is None else own._replace(reason=why_not)
            elif algorithm == "cuml":
                _check_named(stage, settings, backend, device_reason)
                self._stages[stage] = StageLibrary("cuML", NAMED)
            elif algorithm == "fused":
                if backend.name == "cpu" and settings.device != "cpu":
                    raise _unavailable(stage, algorithm, f"the device is {device_reason}")
                backend.with_fused_kernels()  # raises if they cannot be used
                self._stages[stage] = StageLibrary(FUSED, NAMED)
            else:
                self._stages[stage] = own._replace(reason=NAMED)
        self._stages["assign"] = own
        if "explain" not in settings.skip:
            self._stages["rules"] = own
        if "map" not in settings.skip:
            if "cuml" not in backend.libraries:
                self._stages["tsne"] = StageLibrary("numba", why_not or own.reason)
            elif settings.previous is not None and (Path(settings.previous) / "map.parquet").exists():
                self._stages["tsne"] = StageLibrary("numba", CONTINUED_MAP)
            else:
                self._stages["tsne"] = cuml
        if settings.reproducible:
            for stage in {"pca", "tsne"} & set(self._stages):
                self.record(stage, "numba", REPRODUCIBLE)

    def __getitem__(self, stage: str) -> StageLibrary:
        return self._stages[stage]

    def uses_cuml(self, stage: str) -> bool:
        """Return whether cuML computes a stage."""
        return self._stages[stage].library == "cuML"

    def replace(self, stage: str, error: Exception) -> None:
        """Keep that a stage is computed by our own algorithm after an error of the library's, and warn of it.

        Raises
        ------
        OutOfResourcesError
            If the library is named: it is never replaced.
        """
        message = error.message if isinstance(error, OutOfResourcesError) else f"{first_line(error)}."
        if self[stage].reason == NAMED:
            raise OutOfResourcesError(
                f"{stage}.algorithm=cuml cannot be used: {message}", hint=f"let {stage}.algorithm be auto."
            ) from error
        logger.warning("Not cuML, but %s computes %s. %s", self._own.library, TITLES[stage], message)
        self.record(stage, self._own.library, message.removesuffix("."))

    def record(self, stage: str, library: str, reason: str) -> None:
        """Keep that a stage was computed by a library."""
        self._stages[stage] = StageLibrary(library, reason)

    def record_reader(self, reader: str) -> None:
        """Keep what reads the table, with the reason after ", because "."""
        library, _, reason = reader.partition(", because ")
        self.record("read", library, reason or self._own.reason)

    def record_statistics(self, on_device: bool) -> None:
        """Keep whether the device computed the statistics, which takes a reader of its own."""
        if on_device:
            self._stages["statistics"] = self._own
        else:
            reason = "pyarrow reads the table" if self._own.library != "numba" else self._own.reason
            self.record("statistics", "numba", reason)

    def record_ids(self, on_device: bool, why_not: str) -> None:
        """Keep whether the device compared the ids, and why not where the device is a GPU."""
        if on_device:
            self._stages["ids"] = self._own
        else:
            self.record("ids", "numba", why_not if self._own.library != "numba" else self._own.reason)

    def record_map(self, facts: Mapping[str, Any] | None) -> None:
        """Keep what embedded the landmarks, from the facts about the map; nothing did if there is no map."""
        if facts is None:
            self._stages.pop("tsne", None)
        elif facts["library"] != self["tsne"].library:
            self.record("tsne", facts["library"], f"{self['tsne'].library} did not make this map: see the log")

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return library and reason of every stage, as plain values."""
        return {stage: computed._asdict() for stage, computed in self._stages.items()}

    def describe(self) -> str:
        """Return the library of every stage in words, with the reasons."""
        parts = [f"{stage} by {computed.library} ({computed.reason})" for stage, computed in self._stages.items()]
        return ", ".join(parts)


def _why_not_cuml(settings: FitConfig, backend: Backend) -> str | None:
    """Return why "auto" does not take cuML; None if it does."""
    if settings.reproducible:
        return REPRODUCIBLE
    if "cuml" not in backend.libraries:
        return backend.missing_libraries.get("cuml", f"the device is {backend.name}")
    return "workers share the rows" if settings.cluster.uses_workers else None


def _check_named(stage: str, settings: FitConfig, backend: Backend, device_reason: str) -> None:
    """Raise unless cuML can compute a stage for which it is named."""
    setting = f"{stage}.algorithm=cuml"
    if stage == "pca" and settings.cluster.uses_workers:
        raise UsageError(f"{setting} runs in one process, without workers.", hint="use moments, or auto.")
    if settings.device == "cpu":
        raise UsageError(f"{setting} runs on device 'cuda' only, and device 'cpu' was asked for.")
    if "cuml" not in backend.libraries:
        reason = backend.missing_libraries.get("cuml", f"the device is {device_reason}")
        raise _unavailable(stage, "cuml", reason)


def _unavailable(stage: str, algorithm: str, reason: str) -> DeviceNotAvailableError:
    return DeviceNotAvailableError(
        f"{stage}.algorithm={algorithm} was asked for, but {reason}.",
        hint=f"use algorithm auto or {OWN_ALGORITHMS[stage]}, or see `rooms doctor`.",
    )
