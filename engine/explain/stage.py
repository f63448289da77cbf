"""The explanation as a stage of a fit: rows and codes kept on the way, then rules and personas in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.config import FitConfig
from engine.execution.array_storage import Storage
from engine.explain.binning.binned_table import Sheet
from engine.explain.export import write_explanation
from engine.explain.personas.effect_sizes import contrasts
from engine.explain.personas.persona import personas
from engine.explain.row_sample import PickedRows, stratified
from engine.explain.rules.explanation import explain
from engine.features.column_weights import metadata_group
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import Plan
from engine.tables import Table
from engine.tables.vector_columns import spread, vector_of
from engine.utils.formatting import Vocabulary


def rows_to_explain(n_rows: int, settings: FitConfig) -> PickedRows:
    """Return the observer that picks a sample of rows for the explanation: none if it is skipped."""
    return PickedRows.drawn(n_rows, 0 if "explain" in settings.skip else settings.explain.sample_rows, settings.seed)


def sheet_of(
    schema: pa.Schema, sampled: PickedRows, encoder: FeatureEncoder, settings: FitConfig, n_rows: int, storage: Storage
) -> Sheet:
    """Return room for the codes of all rows, and what can be asked about them."""
    return Sheet(encoder, sampled.table(), _words(schema, encoder, settings), n_rows, storage)


def explain_run(
    folder: Path,
    table: Table,
    sampled: PickedRows,
    sheet: Sheet,
    labels: NDArray[np.int32],
    n_clusters: int,
    encoder: FeatureEncoder,
    settings: FitConfig,
) -> list[str]:
    """Write rules and personas into `folder`; return the clusters' names."""
    wanted, columns = settings.explain, encoder.columns
    words = _words(table.schema, encoder, settings)
    sample = stratified(
        table, sampled, labels, n_clusters, quota=wanted.rows_per_cluster, columns=columns, seed=settings.seed
    )
    found = explain(sheet.complete(table), sheet.book, labels, sample, wanted, settings.seed)
    told = _told(encoder.plan, table.schema, settings)
    compared = contrasts(sample, told, words, _groups(table, columns, settings))
    described = personas(sample, compared, min_people=wanted.min_people)
    write_explanation(folder, found, described, compared, encoder.plan, table.schema, settings.id, wanted.min_people)
    return [persona.name for persona in described]


def _words(schema: pa.Schema, encoder: FeatureEncoder, settings: FitConfig) -> Vocabulary:
    return Vocabulary.of(schema, encoder.columns, settings.explain.words, settings.explain.values)


def _told(plan: Plan, schema: pa.Schema, settings: FitConfig) -> Plan:
    """Leave out numbers of vectors that nobody has named, unless there is nothing else: they tell people nothing."""

    def speaks(name: str) -> bool:
        field = schema.field(name)
        named = name in settings.explain.words or b"rooms.words" in (field.metadata or {})
        return named or vector_of(field) is None

    told = tuple(column for column in plan.columns if speaks(column.column))
    return plan.model_copy(update={"columns": told}) if told else plan


def _groups(table: Table, columns: list[str], settings: FitConfig) -> Mapping[str, str]:
    groups = {name: metadata_group(table.schema, name) for name in columns}
    for group, config in settings.features.groups.items():
        groups.update(spread(dict.fromkeys(config.columns, group), table.schema))
    return groups
