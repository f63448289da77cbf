"""The gate of a fit that continues a run: compare tonight's run with the earlier one before it takes its place.

PreviousRun, tonight's model, sizes and files  ->  Verdict, gate.json  ->  published at `out`, or beside it
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from engine.config import FitConfig, GateConfig
from engine.errors import GateStoppedError, ModelNotReadableError
from engine.features.distributions import TableDistributions
from engine.gate.clusters import ClusterFacts
from engine.gate.verdict import FILE, Verdict, judge
from engine.kmeans.metrics import adjusted_rand_index
from engine.lineage.people import id_column
from engine.lineage.previous import PreviousRun
from engine.lineage.summary import ComparisonSummary, RunClusters
from engine.lineage.transitions import find_transitions
from engine.model.model import Model
from engine.pipeline.night import NumberedClusters
from engine.pipeline.staging import StagingFolder
from engine.run import Run
from engine.tables.output_paths import check_apart, local_path
from engine.utils.array_types import Int64s
from engine.utils.atomic_directory import check_target
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import printable_text

SHOWN_FINDINGS = 5

logger = logging.getLogger(__name__)


def stopped_path(out: Path) -> Path:
    """Return where a run lies that the gate stopped."""
    return out.with_name(f"{out.name}.stopped")


def check_output(source: Any, out: str | os.PathLike[str], settings: FitConfig, *, overwrite: bool) -> Path:
    """Check before any work that the run directory can be written, and loses no input; return its path.

    Raises
    ------
    UsageError, OutputExistsError, OutputOverlapError
    """
    target = local_path(out)
    check_apart(target, source, settings.previous, *settings.gate.also)
    check_target(target, overwrite=overwrite)
    read_others(settings.gate)
    if settings.gate.stop:
        check_apart(stopped_path(target), source, settings.previous)
        check_target(stopped_path(target), overwrite=True)
    if settings.previous is not None:
        warn_of_unknown_columns(settings.gate, settings.previous)
    return target


def warn_of_unknown_columns(gate: GateConfig, earlier: str | os.PathLike[str]) -> None:
    """Warn of columns that limits name, and that the earlier run's table does not have: there is nothing to compare.

    Raises
    ------
    ModelNotReadableError
        If there are such names, and it is no complete run.
    """
    named = dict.fromkeys([*gate.columns, *gate.ignore])
    if not named:
        return
    run = Run(earlier)
    known = {role["column"] for role in run.manifest["columns"]} | {id_column(run)}
    unknown = [printable_text(name) for name in named if name not in known]
    if unknown:
        logger.warning(
            "The limits of the gate name columns that %s does not have: %s. Is it a mistake in writing?",
            earlier, ", ".join(map(repr, unknown)),
        )  # fmt: skip


def check_run(
    folder: Path, previous: PreviousRun, model: Model, numbered: NumberedClusters, sizes: Int64s, settings: FitConfig
) -> Verdict:
    """Compare a run in the making with the one that it continues, and write gate.json into its folder."""
    before = previous.run.clusters
    sizes_before = dict(zip(before["cluster"].to_pylist(), before["size"].to_pylist(), strict=True))
    sizes_now = dict(zip(numbered.numbers.tolist(), np.asarray(sizes).tolist(), strict=True))
    facts = ClusterFacts(
        sizes_before,
        sizes_now,
        previous.run.manifest["rows"],
        int(sizes.sum()),
        numbered.stayed,
        numbered.moved,
        count_outliers(previous.run.path),
        count_outliers(folder),
        tuple(sorted(sizes_before.keys() - sizes_now.keys())),
        words := DomainWords.of(settings.explain.domain),
    )
    verdict = judge(
        str(settings.previous), previous.model.distributions, model.distributions, facts, settings.gate,
        read_others(settings.gate),
    )  # fmt: skip
    verdict.write(folder, {"changes": _changes(folder, previous, numbered, words)})
    if verdict.columns is None:
        logger.warning("%s. The next run is checked against this one.", verdict.unchecked)
    if verdict.findings and not verdict.stopped:
        shown = [finding.words for finding in verdict.findings[:SHOWN_FINDINGS]]
        more = len(verdict.findings) - len(shown)
        logger.info("%s: %s", verdict.headline, " ".join(shown) + (f" {more} more are in {FILE}." if more else ""))
    return verdict


def read_others(gate: GateConfig) -> list[TableDistributions]:
    """Return the distributions of the other runs that columns may be like.

    Raises
    ------
    ModelNotReadableError
        If one of them is no complete run, or kept no statistics of its table.
    """
    found = []
    for path in gate.also:
        distributions = Run(path).model.distributions
        if distributions is None:
            raise ModelNotReadableError(f"{path} kept no statistics of its table.", hint="leave it out of gate.also.")
        found.append(distributions)
    return found


def _changes(folder: Path, previous: PreviousRun, numbered: NumberedClusters, words: DomainWords) -> dict[str, Any]:
    """Return what became of the clusters of the previous run, as `rooms compare` says it."""
    before, now, moves = RunClusters.read(previous.run.path), RunClusters.read(folder), numbered.moves
    transitions = find_transitions(moves, np.array(before.shares), np.array(now.shares))
    agreement = adjusted_rand_index(moves)
    return ComparisonSummary(before, now, moves, transitions, numbered.moved, agreement, words).facts()


def count_outliers(folder: Path) -> int:
    """Return the number of outliers in the assignments of a run."""
    assignments: Any = ds.dataset((folder / "assignments").absolute(), format="parquet")
    return int(assignments.count_rows(filter=ds.field("outlier")))


def divert(staging: StagingFolder, verdict: Verdict | None) -> None:
    """Let a run that the gate stopped be published beside its target."""
    if verdict is not None and verdict.stopped:
        staging.publish_at = stopped_path(staging.target)


def raise_if_stopped(out: Path, verdict: Verdict | None) -> None:
    """Raise GateStoppedError if the gate stopped the run."""
    if verdict is None or not verdict.stopped:
        return
    stopped = stopped_path(out)
    kept = f"; {out} is what it was" if out.exists() else ""
    raise GateStoppedError(
        f"The gate stopped the run. It lies in {stopped}{kept}.",
        [finding.words for finding in verdict.findings],
        hint=f"see {stopped / 'gate.md'}; if it is right, rename it to {out}, or fit with wider limits: --gate-file.",
    )
