"""Compare two runs: which people moved where, and which clusters were born, died, split or merged.

    assignments/ of two runs  ->  people matched by id, part by part  ->  Comparison [, movers in Parquet]

Ids are matched exactly (lineage/people.py). What the moves mean for clusters is found in transitions.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from engine.config import GateConfig
from engine.errors import NothingInCommonError, UsageError
from engine.features.distributions import TableDistributions
from engine.gate.clusters import ClusterFacts
from engine.gate.verdict import Verdict, judge
from engine.kmeans.metrics import adjusted_rand_index
from engine.lineage.matching import UNMATCHED, Counts
from engine.lineage.people import id_column, match_people
from engine.lineage.summary import ComparisonSummary, RunClusters
from engine.lineage.transitions import ClusterTransitions, find_transitions
from engine.model.model import check_table_target, write_table
from engine.pipeline.gating import count_outliers, read_others, warn_of_unknown_columns
from engine.report.contents import read_domain_words
from engine.run import Run
from engine.tables.output_paths import check_apart, parquet_path
from engine.utils.domain_words import DomainWords

MOVE_COLUMNS = ("old", "new", "matched")  # beside the id
GONE = ("died", "merged")  # what became of a cluster that no longer exists


@dataclass(frozen=True)
class Comparison:
    """The comparison of two runs.

    Attributes
    ----------
    old, new : Run
    moves : int64 array of shape (n_old_clusters, n_new_clusters)
        People who are in both runs, by their old and new cluster, in the order of clusters.parquet: a contingency
        table.
    gate : GateConfig
        The limits of the gate.
    """

    old: Run
    new: Run
    moves: Counts
    gate: GateConfig

    @cached_property
    def changes(self) -> ClusterTransitions:
        """The transition of every cluster, and which new cluster each old one is matched to."""
        old, new = (run.clusters["share"].to_numpy() for run in (self.old, self.new))
        return find_transitions(self.moves, old, new)

    @property
    def n_common(self) -> int:
        """Number of people who are in both runs."""
        return int(self.moves.sum())

    @property
    def n_moved(self) -> int:
        """Number of people in both runs whose new cluster is not the one that their old one is matched to."""
        matched = self.changes.matched
        matched_clusters = np.flatnonzero(matched != UNMATCHED)
        return self.n_common - int(self.moves[matched_clusters, matched[matched_clusters]].sum())

    @property
    def adjusted_rand_index(self) -> float:
        """Agreement of both clusterings beyond chance: 1 is the same, 0 is chance."""
        return adjusted_rand_index(self.moves)

    def movers(self) -> Iterator[pa.Table]:
        """Yield the people who moved, part by part: id, old and new cluster, and the match of the old cluster."""
        matched = self.changes.matched
        for ids, old, new in match_people(self.old, self.new):
            expected = matched[old]
            moved = expected != new
            unmatched = expected[moved] == UNMATCHED
            old_numbers, new_numbers = (run.clusters["cluster"].to_numpy() for run in (self.old, self.new))
            expected_numbers = pa.array(new_numbers[expected[moved]], mask=unmatched)
            clusters = pa.array(old_numbers[old[moved]]), pa.array(new_numbers[new[moved]]), expected_numbers
            names = [id_column(self.new), *MOVE_COLUMNS]
            yield pa.table([ids.filter(pa.array(moved)), *clusters], names=names)

    def facts(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values.

        Counts, a verdict and words for every cluster, the moves, and how the columns differ, with the gate's findings.
        """
        runs = {"old": str(self.old.path), "new": str(self.new.path)}
        gate = self.verdict.facts()
        return runs | self._summary.facts() | {name: gate[name] for name in ("columns", "unchecked", "findings")}

    def describe(self) -> str:
        """Return the comparison as text: a headline, a line for every cluster, and what the gate found."""
        return "\n".join([self._summary.text(), *self.verdict.lines()])

    @cached_property
    def verdict(self) -> Verdict:
        """What the gate says of the new run, by the limits of `gate`."""
        before, now, matched = self._clusters[0], self._clusters[1], self.changes.matched.tolist()
        pairs = [(c, new) for c, new in enumerate(matched) if new != UNMATCHED]
        gone = (transition.cluster for transition in self.changes.old if transition.verdict in GONE)
        clusters = ClusterFacts(
            {before.numbers[c]: before.sizes[c] for c, _ in pairs},
            {before.numbers[c]: now.sizes[new] for c, new in pairs},
            sum(before.sizes),
            sum(now.sizes),
            self.n_common,
            self.n_moved,
            count_outliers(self.old.path),
            count_outliers(self.new.path),
            tuple(before.numbers[c] for c in gone),
            self._words,
        )
        others = read_others(self.gate)
        return judge(
            str(self.old.path), _distributions(self.old), _distributions(self.new), clusters, self.gate, others
        )

    @cached_property
    def _clusters(self) -> tuple[RunClusters, RunClusters]:
        return RunClusters.read(self.old.path), RunClusters.read(self.new.path)

    @cached_property
    def _summary(self) -> ComparisonSummary:
        return ComparisonSummary(
            *self._clusters, self.moves, self.changes, self.n_moved, self.adjusted_rand_index, self._words
        )

    @cached_property
    def _words(self) -> DomainWords:
        return read_domain_words(self.new.path)


def _distributions(run: Run) -> TableDistributions | None:
    return run.model.distributions if (run.path / "model").is_dir() else None


def compare(
    old: Run | str | os.PathLike[str],
    new: Run | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    gate: GateConfig | None = None,
) -> Comparison:
    """Compare two runs that have people in common.

    Parameters
    ----------
    old, new : Run or path of a run directory
    out : path, optional
        Where to write the people who moved: one Parquet file if it ends in `.parquet`, else a folder of parts.
    overwrite : bool, default=False
        Whether `out` may be there already.
    gate : GateConfig, optional
        Limits other than the defaults. `Comparison.verdict` says what is beyond them.

    Returns
    -------
    Comparison

    Raises
    ------
    ModelNotReadableError
        If one of them is not a complete run.
    IdColumnError
        If the runs do not identify people by the same column, or by ids of one type.
    NothingInCommonError
        If nobody is in both.
    OutputExistsError, OutputOverlapError
        If `out` exists already, or overlaps one of the runs.
    UsageError
        If `out` is named as something else than Parquet, or the id column like a column that is written beside it.
    """
    path = None if out is None else parquet_path(out)
    before, after = (run if isinstance(run, Run) else Run(run) for run in (old, new))
    if path is not None:
        check_apart(path, before.path, after.path)
        check_table_target(path, overwrite=overwrite)
    if path is not None and id_column(after) in MOVE_COLUMNS:
        raise UsageError(
            f"The id column is named {id_column(after)!r}, as a column that is written beside the ids of movers.",
            hint="rename it in the tables and fit again, or compare without --out.",
        )
    if gate is not None:
        warn_of_unknown_columns(gate, before.path)
    moves = np.zeros((before.manifest["clusters"], after.manifest["clusters"]), np.int64)
    for _, from_cluster, to_cluster in match_people(before, after):
        cells = from_cluster.astype(np.int64) * moves.shape[1] + to_cluster
        moves += np.bincount(cells, minlength=moves.size).reshape(moves.shape)
    if not moves.any():
        raise NothingInCommonError(
            f"{before.path} and {after.path} have no {id_column(after)!r} in common.",
            hint="compare runs on the same people.",
        )
    comparison = Comparison(before, after, moves, gate or GateConfig())
    if path is not None:
        write_table(comparison.movers(), path, overwrite=overwrite)
    return comparison
