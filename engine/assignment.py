"""Assignments as a table: id, cluster, distance, runner-up, margin and whether the row is an outlier.

    scores Z + centres  ->  one pyarrow Table a block  ->  Parquet parts, or one table in memory

An outlier is farther from its centre than its cluster's fence: Tukey's far-out fence, the third quartile plus three
interquartile ranges of the distances of a sample of the cluster's members at the time of the fit.

Source: Tukey, "Exploratory Data Analysis", 1977.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.protocol import Nearest

ROW = "row"  # name of the id column of a table that has none
ROWS_PER_PART = 1 << 20
FENCE_SAMPLE = 100_000  # rows whose distances set the fences
FENCE_MEMBERS = 20  # sampled members below which a cluster has no fence: quartiles of fewer say nothing
FENCE_RANGES = 3.0


def fences(labels: NDArray[np.int32], distances: NDArray[np.float32], n_clusters: int) -> NDArray[np.float32]:
    """Return each cluster's largest ordinary distance, infinite for clusters with too few sampled members.

    Parameters
    ----------
    labels : int32 array of shape (n_sampled,)
    distances : float32 array of shape (n_sampled,)
        Euclidean distance of each sampled row to its centre.
    n_clusters : int
    """
    limits = np.full(n_clusters, np.inf, np.float32)
    order = np.argsort(labels, kind="stable")
    edges = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    for cluster in range(n_clusters):
        members = distances[order[edges[cluster] : edges[cluster + 1]]]
        if len(members) >= FENCE_MEMBERS:
            q1, q3 = np.quantile(members.astype(np.float64), [0.25, 0.75])
            limits[cluster] = q3 + FENCE_RANGES * (q3 - q1)
    return limits


def assignment_table(
    ids: pa.Array | pa.ChunkedArray, id_name: str, found: Nearest, limits: NDArray[np.float32]
) -> pa.Table:
    """Return the assignments of one block of rows as a table."""
    return pa.table(
        {
            id_name: ids,
            "cluster": found.labels,
            "distance": found.distance,
            "runner_up": found.runner_up,
            "margin": found.margin(),
            "outlier": found.distance > limits[found.labels],
        }
    )


def write_parts(tables: Iterable[pa.Table], folder: Path) -> int:
    """Write tables as part-00000.parquet … of ROWS_PER_PART rows; return the number of rows."""
    folder.mkdir(exist_ok=True)
    writer: pq.ParquetWriter | None = None
    n_rows = 0
    try:
        for table in tables:
            if n_rows % ROWS_PER_PART == 0:
                if writer is not None:
                    writer.close()
                path = folder / f"part-{n_rows // ROWS_PER_PART:05d}.parquet"
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            assert writer is not None
            writer.write_table(table)
            n_rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n_rows
