"""Assignments as a table: id, cluster, distance, runner-up, margin and whether the row is an outlier.

    scores Z + centres  ->  one pyarrow Table a block  ->  Parquet parts, or one table in memory

An outlier is farther from its centre than its cluster's fence: Tukey's far-out fence, the third quartile plus three
interquartile ranges of the distances of a sample of the cluster's members at the time of the fit.

Source: Tukey, "Exploratory Data Analysis", 1977.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.backends.protocol import Nearest
from engine.errors import IdColumnError
from engine.tables.block import Block, Table

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


def ids_of(block: Block, id: str | None) -> pa.Array | pa.ChunkedArray:
    """Return a block's ids as they are, or row numbers from 0 where there is no id column.

    Raises
    ------
    IdColumnError
        If an id is missing.
    """
    if id is None:
        return pa.array(np.arange(block.start, block.start + len(block), dtype=np.int64))
    ids = block.rows.column(id)
    if ids.null_count:
        raise IdColumnError(
            f"Column {id!r} is the id, and it is missing in {ids.null_count} of rows "
            f"{block.start}…{block.start + len(block) - 1}.",
            hint="drop those rows, or choose another id column.",
        )
    return ids


def check_ids(table: Table, id: str | None) -> None:
    """Raise IdColumnError if an id is missing, or comes twice: an events table is not a profile table.

    Ids are compared by 64-bit keys, 8 bytes a row; equal keys of different texts are told apart by a second look.
    """
    if id is None:
        return
    keys = np.sort(np.concatenate([id_keys(ids_of(block, id)) for block in table.blocks([id])]))
    repeated = keys[1:][keys[1:] == keys[:-1]]
    if len(repeated) == 0:
        return
    suspects = pa.concat_arrays([_with_keys(ids_of(block, id), repeated) for block in table.blocks([id])])
    n_extra = len(suspects) - len(suspects.unique())
    if n_extra:
        raise IdColumnError(
            f"Column {id!r} is the id, but {n_extra:,} of {len(keys):,} rows repeat the id of another row.",
            hint="the engine needs one row per profile; `rooms profiles` makes them from ratings.",
        )


def id_keys(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return a 64-bit key of every id: equal ids have equal keys, and different integers different ones."""
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy()).astype(np.int64).view(np.uint64)
    from engine.kernels.cpu.text_keys import text_keys

    texts = ids.cast(pa.string())
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    keys = np.empty(len(texts), np.uint64)
    _, offsets, data = texts.buffers()
    text_keys(
        np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1],
        np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8),
        keys,
    )
    return keys


def _with_keys(ids: Any, keys: NDArray[np.uint64]) -> pa.Array:
    plain = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return plain.filter(pa.array(np.isin(id_keys(plain), keys)))


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
