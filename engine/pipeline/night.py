"""One night of a history: where the clusters of a fit start from, what numbers they get, and what lineage.json says.

Job, Z  ->  earlier clusters of the rows, initial centers  ->  Contest (continuation.py)
Clustering  ->  the same with clusters in the order of their numbers, NumberedClusters  ->  lineage.json
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.backends.protocol import Backend
from engine.config import FitConfig
from engine.execution.array_storage import Storage
from engine.execution.passes import over_rows, over_table
from engine.execution.threads import row_blocks
from engine.kmeans.lloyd import Clustering
from engine.kmeans.select_k import count_groups
from engine.kmeans.unknown_values import Unknown
from engine.kmeans.valleys import Attributes
from engine.lineage.history import Night, number_clusters
from engine.lineage.matching import Counts
from engine.lineage.people import earlier_clusters
from engine.lineage.previous import PreviousRun
from engine.model.files import model_version
from engine.pipeline.continuation import count_moves, moved_people
from engine.tables import Block, Table, open_table
from engine.utils.array_types import Int32s, Rows
from engine.utils.row_sampling import KEY_ROWS, sample_rows

MIN_SAMPLE = 20  # rows below which halves of the sample say nothing
HALVES, AGREEING = 5, 4  # halves of the sample that are looked at, and how many must agree on another k

logger = logging.getLogger(__name__)


def open_night(source: Any, settings: FitConfig) -> tuple[Table, FitConfig, PreviousRun | None]:
    """Open the table of a fit, and the run that it continues, if there is one; settings come with its names.

    Raises
    ------
    ModelNotReadableError
        If the previous run is no complete run, or a file of it is damaged.
    IdColumnError, UsageError, MissingColumnError, RetypedColumnError
        If the settings or the table do not fit the previous run.
    DataError
        One named subclass per fault of the table.
    """
    if settings.previous is None:
        return open_table(source, id=settings.id), settings, None
    previous = PreviousRun.read(settings.previous)
    previous.check(settings)
    settings = previous.carry_names(settings)
    frozen = not settings.lineage.refit_features
    types, vectors = (previous.model.encoder.csv_types(), previous.model.vectors) if frozen else (None, None)
    table = open_table(source, id=settings.id, types=types, vectors=vectors)
    if frozen:
        previous.check_columns(table.schema, settings.id)
    return table, settings, previous


class EarlierClusters(NamedTuple):
    """The previous run's cluster of each row."""

    labels: Int32s  # (n_rows,): positions, or NEWCOMER
    by_id: bool  # whether people are known by their ids, and not by what the previous model says of their rows
    strangers: bool = False  # whether there are ids, and none of them is in both runs


@dataclass(frozen=True)
class NumberedClusters:
    """The numbers of tonight's clusters.

    Attributes
    ----------
    numbers : int32 array of shape (n_clusters,), ascending
    parents : dict of number to numbers
        Of the clusters born tonight.
    stayed, moved : int
        People who were there the night before, and those of them whose cluster has another number now; 0 if none of the
        ids is in both runs.
    moves : int64 array of shape (n_before, n_clusters)
        Those people by their clusters of both nights.
    earlier : EarlierClusters
    """

    numbers: Int32s
    parents: dict[int, tuple[int, ...]]
    stayed: int
    moved: int
    moves: Counts
    earlier: EarlierClusters

    def words(self, previous: PreviousRun) -> str:
        """Return in a sentence what became of the previous run's clusters."""
        old = previous.model.cluster_numbers
        kept, born = np.isin(self.numbers, old).sum(), sorted(self.parents)
        gone = [number for number in old.tolist() if number not in self.numbers]
        parts = [f"{kept} of {len(old)} clusters go on"]
        parts += [f"born: {', '.join(map(str, born))}"] if born else []
        parts += [f"gone: {', '.join(map(str, gone))}"] if gone else []
        parts += [f"{self.moved / self.stayed:.2%} of {self.stayed:,} rows that stayed moved"] if self.stayed else []
        return "; ".join(parts)


def rows_by_previous(
    previous: PreviousRun,
    table: Table,
    id: str | None,
    Z: Rows,
    backend: Backend,
    storage: Storage,
    *,
    same_scores: bool,
) -> EarlierClusters:
    """Return the cluster of the previous run that each row belongs to.

    It is the cluster that the row's person had. If no person of the previous run is known, it is the one that the
    previous model assigns the row to. `same_scores` says that Z are scores of that model.
    """
    earlier = earlier_clusters(previous.run, table, id, len(Z), storage)
    if (earlier >= 0).any():
        return EarlierClusters(earlier, by_id=True)
    if id is not None:
        logger.warning("No %r is in both runs: the earlier model says which cluster a row belongs to.", id)
    strangers = id is not None
    centers = previous.model.centers
    if same_scores:

        def label(part: slice) -> None:
            backend.label(Z[part], centers, earlier[part])

        for _ in over_rows(label, len(Z), backend.rows_per_block(len(Z)), pass_name="earlier clusters"):
            pass
        return EarlierClusters(earlier, by_id=False, strangers=strangers)
    model = previous.model

    def assign(block: Block) -> tuple[int, Int32s]:
        return block.start, backend.nearest_two(model.scores(block.rows, device=backend), centers).labels

    for start, labels in over_table(assign, table, model.encoder.columns, pass_name="earlier clusters"):
        earlier[start : start + len(labels)] = labels
    return EarlierClusters(earlier, by_id=False, strangers=strangers)


def means_of(Z: Rows, labels: Int32s, n_clusters: int) -> Rows:
    """Return the mean of the rows of each label, and the mean of all rows for labels without rows."""
    sums, counts = np.zeros((n_clusters, Z.shape[1])), np.zeros(n_clusters, np.int64)
    total = np.zeros(Z.shape[1])
    for rows in row_blocks(len(Z), KEY_ROWS):
        known, part = labels[rows] >= 0, np.asarray(Z[rows])
        for column in range(Z.shape[1]):
            values = part[:, column].astype(np.float64)
            total[column] += values.sum()
            sums[:, column] += np.bincount(labels[rows][known], values[known], n_clusters)
        counts += np.bincount(labels[rows][known], minlength=n_clusters)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], total / len(Z))
    centers: Rows = means.astype(Z.dtype)
    return centers


def confirm_k(X: Rows, hidden: Unknown, attributes: Attributes, k: int, k_before: int) -> str | None:
    """Return why the number of clusters stays what it was, in words; None if the evidence for k is clear.

    k is found on all rows of the sample X, whose hidden cells are filled. It is taken if most halves of it agree.
    """
    if len(X) < MIN_SAMPLE:
        return f"k = {k_before} as in the previous run: {len(X)} rows are too few to say more"
    largest = 2 * max(k, k_before)
    halves = [sample_rows(len(X), len(X) // 2, seed) for seed in range(1, HALVES + 1)]
    found = [count_groups(np.ascontiguousarray(X[rows]), hidden[rows], attributes, largest) for rows in halves]
    agree = found.count(k)
    if agree >= AGREEING:
        return None
    return f"k = {k_before} as in the previous run: {k} groups are found in {agree} of {HALVES} halves of a sample only"


def number(
    previous: PreviousRun | None, clustering: Clustering, earlier: EarlierClusters | None
) -> tuple[Clustering, NumberedClusters | None]:
    """Number clusters, and put them into the order of their numbers."""
    if previous is None or earlier is None:
        return clustering, None
    moves = count_moves(earlier.labels, clustering.labels, previous.model.n_clusters, len(clustering.centers))
    numbers, parents = number_clusters(moves, previous.model.cluster_numbers, previous.history.next_number)
    order = np.argsort(numbers)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    labels = clustering.labels
    for rows in row_blocks(len(labels), KEY_ROWS):
        labels[rows] = rank[labels[rows]]
    if (
        earlier.strangers
    ):  # what the previous model says of their rows numbers the clusters, and tells of nobody's moves
        moves = np.zeros_like(moves)
    numbered = NumberedClusters(
        numbers[order], parents, int(moves.sum()), moved_people(moves), moves[:, order], earlier
    )
    logger.info("%s.", numbered.words(previous))
    return replace(clustering, centers=np.ascontiguousarray(clustering.centers[order])), numbered


def write_lineage(
    folder: Path,
    previous: PreviousRun,
    numbered: NumberedClusters,
    sizes: Any,
    names: list[str] | None,
    choice: dict[str, Any],
) -> None:
    """Write lineage.json into the folder of a run whose model is written."""
    by_number = dict(zip(numbered.numbers.tolist(), sizes.tolist(), strict=True))
    night = Night(
        previous.history.night + 1, model_version(folder / "model"), int(sizes.sum()), by_number, numbered.stayed,
        numbered.moved, choice,
    )  # fmt: skip
    previous.history.next_night(numbered.numbers, numbered.parents, names, night).write(folder)
