"""`rooms fit --dry-run`: roles, features, memory and time of a fit, from the table's first blocks.

The head of the table goes through the same code as all of it would; rows and rates are scaled up. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from engine import backends
from engine.backends.protocol import Backend
from engine.components import Components
from engine.config import FitConfig
from engine.execution.local import thread_count
from engine.execution.memory import available_memory, memory_budget
from engine.features import FeatureEncoder, fit_encoder
from engine.features.encoder import FittedFeatures
from engine.features.moments import projection
from engine.tables import BLOCK_ROWS, Block, Table, open_table

Result = TypeVar("Result")

HEAD_BLOCKS = 2
LISTED = 2  # codes of 4 bytes that a text or a list of labels takes, on average
ITERATIONS = 50  # Lloyd iterations taken for granted: half of what overlapping profiles need at worst
BASELINE = 420 << 20  # bytes of the interpreter, its libraries, compiled kernels and what allocators keep; measured


class Head:
    """The first blocks of a table, as a table."""

    def __init__(self, table: Table, n_blocks: int) -> None:
        self._table, self._n_blocks = table, n_blocks

    @property
    def schema(self) -> pa.Schema:
        """The whole table's columns."""
        return self._table.schema

    @property
    def n_rows(self) -> int | None:
        """Rows of the head, if the table knows its own."""
        rows = self._table.n_rows
        return None if rows is None else min(rows, self._n_blocks * BLOCK_ROWS)

    def blocks(self, columns: Sequence[str] | None = None, *, coded: bool = False) -> Iterator[Block]:
        """Yield the first blocks."""
        return islice(self._table.blocks(columns, coded=coded), self._n_blocks)

    def fingerprint(self) -> dict[str, Any]:
        """Return the whole table's."""
        return self._table.fingerprint()


@dataclass(frozen=True)
class Forecast:
    """What a fit would do, and take."""

    rows: int
    head_rows: int
    features: FittedFeatures
    components: int
    clusters: int | str
    memory_bytes: int
    seconds: float
    device: str

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rows": self.rows,
            "estimated_from_rows": self.head_rows,
            "columns": [{"column": r.column, "role": r.role, "reason": r.reason} for r in self.features.roles],
            "features": [feature.name for feature in self.features.encoder.features],
            "groups": {name: group.weight for name, group in self.features.weights.groups.items()},
            "components": self.components,
            "clusters": self.clusters,
            "memory_bytes": self.memory_bytes,
            "memory_available_bytes": available_memory(),
            "seconds": round(self.seconds, 1),
            "device": self.device,
        }

    def describe(self) -> str:
        """Return the same for people."""
        width = max((len(role.column) for role in self.features.roles), default=0)
        lines = [f"{r.column:<{width}}  {r.role:<11}  {r.reason}" for r in self.features.roles]
        notice = self.features.weights.notice()
        lines += [
            "",
            *([] if notice is None else [notice]),
            f"{self.rows:,} rows; roles and rates from the first {self.head_rows:,}",
            f"{self.features.encoder.n_features} features, {self.components} components, "
            f"k = {self.clusters}, device {self.device}",
            f"memory: about {self.memory_bytes / 2**30:.2f} GiB ({available_memory() / 2**30:.1f} GiB are free)",
            f"time: about {self.seconds:.0f} s",
        ]
        return "\n".join(lines)


def forecast(source: Any, settings: FitConfig) -> Forecast:
    """Look at the first blocks of a table and say what engine.fit would do with all of it.

    Parameters
    ----------
    source : as in engine.fit
    settings : FitConfig

    Raises
    ------
    DataError, DeviceNotAvailableError
        What engine.fit would raise for the head of the table.
    """
    backend, _ = backends.resolve(settings.device)
    table = open_table(source, id=settings.id)
    (features, pca, Z), reduce_seconds = _timed(lambda: _reduce(Head(table, HEAD_BLOCKS), settings, backend))
    head_rows = len(Z)
    k = settings.kmeans.n_clusters
    largest_k = settings.kmeans.k_max if k == "auto" else int(k)
    centres = Z[:: max(1, head_rows // largest_k)][:largest_k]
    labels = np.zeros(head_rows, np.int32)
    _, label_seconds = _timed(lambda: backend.label(Z, centres, labels))
    rows = table.n_rows or head_rows
    seconds = reduce_seconds * min(HEAD_BLOCKS, thread_count()) + label_seconds * ITERATIONS
    return Forecast(
        rows, head_rows, features, int(pca.n_components_), k, _memory(rows, features.encoder, pca),
        seconds / thread_count() * rows / head_rows, backend.name,
    )  # fmt: skip


def _reduce(head: Head, settings: FitConfig, backend: Backend) -> tuple[FittedFeatures, Components, Any]:
    """Do all passes of a fit up to the scores."""
    features = fit_encoder(
        head,
        id=settings.id,
        column_roles=settings.features.roles,
        groups=settings.features.groups,
        reference_day=settings.features.reference_day_number,
        seed=settings.seed,
        keep=memory_budget(settings.memory),
    )
    pca = Components.of(features.rows.moments(backend, lambda _: None), settings.pca.n_components)
    axes = projection(features.encoder.layout, pca.mean_, pca.components_.T)
    return features, pca, np.concatenate(list(features.rows.map(lambda _, rows: backend.encoded_scores(rows, axes))))


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what `work` returns, and the seconds of its second run: the first one loads code and wakes threads."""
    work()
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _memory(rows: int, encoder: FeatureEncoder, pca: Components) -> int:
    """Return the larger of two peaks: plain rows after the first pass, or the scores and what K-Means takes."""
    n_numbers, n_others = len(encoder.layout.numbers), len(encoder.columns) - len(encoder.layout.numbers)
    plain = min(rows * (8 * n_numbers + 4 * LISTED * n_others), memory_budget(None))
    scores = rows * (pca.n_components_ * 4 * 3 // 2 + 16)  # K-Means may take half of Z and 16 bytes a row on top
    return int(BASELINE + max(plain, scores))
