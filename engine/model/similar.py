"""Find the people nearest to one person by their scores: exactly, in one pass.

    scores of a block, the person's scores  ->  the nearest rows of the block, and their distances
    load_scores: the scores of a whole table in memory, for many questions

Components come in the order of their variances, so a pass in float32 over the first half of them leaves few rows that
may be among the nearest, with a bound on its rounding. The distances of those are computed in float64. Ties go to the
rows that come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import backends
from engine.blocks import storage_array
from engine.errors import PersonNotFoundError
from engine.execution.passes import over_table
from engine.execution.threads import row_blocks
from engine.model.assignments import ROW
from engine.model.model import Model
from engine.tables import Block, Table
from engine.tables.find_row import find_row, parse_id, read_row
from engine.tables.unique_ids import read_ids
from engine.utils.array_types import Float32s, Float64s, Int32s, Int64s

MIN_FIRST = 8  # components that are looked at first, at least; else half of them
LIKELY = 32  # rows per wanted one that are near in the first components, of which a bound on the distance is taken
GROUP_ROWS = 256  # rows of which only the smallest distance is looked at first
EXACT_ROWS = 1 << 16  # rows whose distances are computed in float64 at a time
ROUNDING = 2.0**-21  # of float32 sums of products, for every term of them


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a table: number of the first, ids, scores (n_rows, n_components) and clusters by position (n_rows,)."""

    start: int
    ids: pa.ChunkedArray
    Z: Float32s
    labels: Int32s

    @cached_property
    def _first(self) -> tuple[Float32s, Float32s]:
        """The first components of all rows, (n_first, n_rows), and the squared lengths of the rows in them."""
        first = np.ascontiguousarray(self.Z[:, : max(self.Z.shape[1] // 2, MIN_FIRST)].T)
        return first, np.einsum("ij,ij->j", first, first)

    def prepare(self) -> None:
        """Compute what the first call of `nearest` would."""
        _ = self._first

    def nearest(self, scores: Float32s, n: int, *, label: int | None, excluded: int) -> pa.Table:
        """Return the n nearest rows but one, the nearest first: row, id, label, distance.

        Parameters
        ----------
        scores : float32 array of shape (n_components,)
        n : int
        label : int or None
            Of the cluster that they have to be in.
        excluded : int
            The number of the row that is left out.
        """
        others = np.zeros(len(self.Z), bool) if label is None else self.labels != label
        if 0 <= excluded - self.start < len(others):
            others[excluded - self.start] = True
        rows, distances = nearest_rows(self.Z, self._first, scores, n, others)
        columns = {"row": rows + self.start, "label": self.labels[rows], "distance": distances}
        return pa.table({"id": self.ids.take(pa.array(rows)), **columns})


def nearest_rows(
    Z: Float32s, first: tuple[Float32s, Float32s], scores: Float32s, n: int, left_out: NDArray[np.bool_]
) -> tuple[Int64s, Float64s]:
    """Return the numbers of the n nearest rows that are not left out, the nearest first, and their distances.

    Parameters
    ----------
    Z : float32 array of shape (n_rows, n_components)
    first : (float32 array of shape (n_first, n_rows), float32 array of shape (n_rows,))
        The first components of Z, transposed, and the squared lengths of the rows in them.
    scores : float32 array of shape (n_components,)
    n : int
    left_out : bool array of shape (n_rows,)
    """
    part, squares = first
    wanted = np.ascontiguousarray(scores[: len(part)])
    rough = wanted @ part
    rough *= np.float32(-2)
    rough += squares
    rough[left_out] = np.inf
    length = float(np.square(wanted, dtype=np.float64).sum())
    error = ROUNDING * (len(wanted) + 4) * (float(squares.max(initial=0.0)) + length)
    likely = _kept(rough <= _bound(rough, LIKELY * n), left_out)
    limit = np.inf
    if len(likely) >= n:  # the nearest are no farther than the n-th of these, in the first components either
        limit = float(np.sort(_distances(Z, likely, scores))[n - 1]) ** 2 * (1 + ROUNDING) - length + 2 * error
    rows = _kept(rough <= limit, left_out)
    distances = _distances(Z, rows, scores)
    order = np.lexsort((rows, distances))[:n]
    return rows[order], distances[order]


def _kept(wanted: NDArray[np.bool_], left_out: NDArray[np.bool_]) -> Int64s:
    rows = np.flatnonzero(wanted)
    return rows[~left_out[rows]]


def _distances(Z: Float32s, rows: Int64s, scores: Float32s) -> Float64s:
    """Return the distances of some rows, in float64."""
    distances, wanted = np.empty(len(rows)), scores.astype(np.float64)
    for part in row_blocks(len(rows), EXACT_ROWS):
        distances[part] = np.sqrt(np.square(Z[rows[part]].astype(np.float64) - wanted).sum(axis=1))
    return distances


def _bound(values: Float32s, n: int) -> float:
    """Return a value that at least n of the values do not exceed: the n-th smallest of the minima of groups."""
    n_groups = len(values) // GROUP_ROWS
    if n_groups <= n:
        return float(np.partition(values, n - 1)[n - 1]) if n < len(values) else float("inf")
    minima = values[: n_groups * GROUP_ROWS].reshape(n_groups, GROUP_ROWS).min(axis=1)
    return float(np.partition(minima, n - 1)[n - 1])


def scored_blocks(model: Model, table: Table) -> Iterator[ScoredRows]:
    """Yield the scores and clusters of a table's rows, block by block."""
    columns = list(dict.fromkeys([*([] if model.id is None else [model.id]), *model.encoder.columns]))
    backend = backends.resolve("auto")[0]

    def score(block: Block) -> ScoredRows:
        Z = np.asarray(model.block_scores(model.read_block(block.rows)))
        labels = backend.nearest_two(Z, model.centers).labels
        ids = read_ids(block, model.id)
        return ScoredRows(block.start, pa.chunked_array([ids]) if isinstance(ids, pa.Array) else ids, Z, labels)

    yield from over_table(score, table, columns, dictionary_encoded=True, pass_name="similar")


def load_scores(model: Model, table: Table) -> ScoredRows:
    """Return the scores of all rows of a table in memory: 6 bytes a component and row, and the ids."""
    parts = list(scored_blocks(model, table))
    ids = pa.chunked_array([chunk for part in parts for chunk in part.ids.chunks])
    Z, labels = np.concatenate([part.Z for part in parts]), np.concatenate([part.labels for part in parts])
    people = ScoredRows(0, pa.chunked_array([ids.combine_chunks()]), Z, labels)
    people.prepare()
    return people


def find_similar(model: Model, people: ScoredRows, id: Any, n: int, *, same_cluster: bool) -> pa.Table:
    """Return the n people nearest to one of them: id, cluster, distance."""
    wanted = parse_id(id, people.ids.type)
    row = -1 if wanted is None else pc.index(storage_array(people.ids), wanted).as_py()
    if row < 0:
        raise PersonNotFoundError(f"Nobody in the run has this {model.id or ROW}.")
    label = int(people.labels[row]) if same_cluster else None
    return _merge([people.nearest(people.Z[row], n, label=label, excluded=row)], n, model)


def find_similar_in_table(model: Model, table: Table, id: Any, n: int, *, same_cluster: bool) -> pa.Table:
    """Return the n people of a table nearest to one of them, by one pass over it."""
    row = find_row(table, model.id, id, "The table")
    block = model.encoder.read_block(read_row(table, row, model.encoder.columns))
    scores = model.block_scores(block, device="cpu")
    label = int(backends.resolve("cpu")[0].nearest_two(scores, model.centers).labels[0]) if same_cluster else None
    best: list[pa.Table] = []
    for part in scored_blocks(model, table):
        found = [*best, part.nearest(scores[0], n, label=label, excluded=row)]
        best = [_nearest_of(found, n)]
    return _merge(best, n, model)


def _nearest_of(found: list[pa.Table], n: int) -> pa.Table:
    joined = pa.concat_tables(found)
    order = np.lexsort((joined["row"].to_numpy(), joined["distance"].to_numpy()))[:n]
    return joined.take(pa.array(order))


def _merge(found: list[pa.Table], n: int, model: Model) -> pa.Table:
    """Return the n nearest of rows that `nearest` found, as users see them."""
    best = _nearest_of(found, n)
    clusters = model.cluster_numbers[best["label"].to_numpy()]
    names = [model.id or ROW, "cluster", "distance"]
    return pa.table([best["id"], pa.array(clusters), best["distance"]], names=names)
