"""Results of stages as plain values and arrays, which checkpoints save, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from engine.blocks import Table
from engine.execution.block_cache import BlockCache
from engine.execution.observers import BlockObserver
from engine.features.column_roles import ColumnRole
from engine.features.column_statistics import TableStatistics
from engine.features.column_weights import ColumnWeights
from engine.features.distributions import TableDistributions
from engine.features.encoded_table import EncodedTable
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.features.fit import FittedFeatures
from engine.kmeans.lloyd import Clustering, Iteration, PassCounts
from engine.kmeans.restarts import KMeansCheckpoint
from engine.pipeline.checkpoints import Arrays, Facts


def pack_observers(observers: Sequence[BlockObserver[Any]]) -> Arrays:
    """Return the states of observers as arrays."""
    return {f"observer {i}: {name}": array for i, each in enumerate(observers) for name, array in each.state().items()}


def restore_observers(observers: Sequence[BlockObserver[Any]], arrays: Arrays) -> None:
    """Set observers to the states that pack_observers returned."""
    for i, observer in enumerate(observers):
        prefix = f"observer {i}: "
        observer.restore({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})


def pack_features(features: FittedFeatures) -> Facts:
    """Return fitted features, without their rows, as plain values."""
    return {
        "plan": features.encoder.plan.model_dump(mode="json"),
        "roles": [asdict(role) for role in features.roles],
        "groups": {name: asdict(group) for name, group in features.weights.groups.items()},
        "weights": features.weights.by_column,
        "repeated": [asdict(found) for found in features.weights.repeated],
        "distributions": features.distributions.facts(),
    }


def unpack_features(facts: Facts, arrays: Arrays, table: Table, n_rows: int, cache: BlockCache) -> FittedFeatures:
    """Return the features that pack_features was given, with the rows of the table, which `cache` keeps.

    `arrays` has those of the distributions.
    """
    encoder = FeatureEncoder(EncodingPlan.model_validate(facts["plan"]))
    roles = [ColumnRole(**role) for role in facts["roles"]]
    weights = ColumnWeights.from_facts(facts["weights"], facts["groups"], facts["repeated"])
    rows = EncodedTable(table, encoder, n_rows, cache)
    distributions = TableDistributions.from_parts(facts["distributions"], arrays)
    return FittedFeatures(encoder, roles, weights, TableStatistics(n_rows, {}, {}), distributions, rows)


def pack_checkpoint(checkpoint: KMeansCheckpoint) -> tuple[Facts, Arrays]:
    """Return a checkpoint of K-Means as plain values and arrays."""
    kind, key, position, *rest = checkpoint.generator_state
    facts: Facts = {"run": checkpoint.run, "iteration": checkpoint.iteration.number, "random": [kind, position, *rest]}
    arrays = {"key": key, "previous": checkpoint.iteration.previous_centers, "centres": checkpoint.iteration.centers}
    if checkpoint.best is not None:
        facts["best"] = {"inertia": checkpoint.best.inertia, "n_iter": checkpoint.best.n_iter}
        arrays["best"] = checkpoint.best.centers
    return facts, arrays


def unpack_checkpoint(facts: Facts, arrays: Arrays) -> KMeansCheckpoint:
    """Return the checkpoint of K-Means that pack_checkpoint was given."""
    kind, position, *rest = facts["random"]
    best = None
    if "best" in facts:
        best = Clustering(arrays["best"], np.empty(0, np.int32), **facts["best"], pass_counts=PassCounts())
    iteration = Iteration(facts["iteration"], arrays["previous"], arrays["centres"])
    return KMeansCheckpoint(facts["run"], (kind, arrays["key"], position, *rest), iteration, best)
