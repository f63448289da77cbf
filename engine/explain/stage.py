"""The explanation as a stage of a fit: collect rows and bins in earlier passes, then write rules and personas.

table, binned table, labels  ->  rules.json, rules.sql, features.json, personas.json and personas.md in the run's folder
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import Backend
from engine.config import FitConfig
from engine.execution.array_storage import Storage
from engine.explain.binning.binned_table import BinnedTable
from engine.explain.export import write_explanation
from engine.explain.personas.effect_sizes import compute_effect_sizes
from engine.explain.personas.persona import Persona, build_personas
from engine.explain.personas.related_columns import find_related_columns
from engine.explain.row_sample import RowCollector, stratified_sample
from engine.explain.rules.explanation import explain
from engine.features.column_weights import metadata_group
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.kmeans.stability import Sureness
from engine.tables import Table
from engine.tables.vector_columns import expand_vector_settings, vector_name
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import Vocabulary, printable_text

if TYPE_CHECKING:
    from engine.features.gpu_reader import GpuTableReader

logger = logging.getLogger(__name__)


def draw_row_sample(n_rows: int, settings: FitConfig) -> RowCollector:
    """Return the observer that collects a uniform sample of rows for the explanation; no rows if it is skipped."""
    size = 0 if "explain" in settings.skip else settings.explain.sample_rows
    return RowCollector.draw(n_rows, size, settings.seed)


def create_binned_table(
    schema: pa.Schema,
    sampled: RowCollector,
    encoder: FeatureEncoder,
    settings: FitConfig,
    n_rows: int,
    storage: Storage,
) -> BinnedTable:
    """Return an empty binned table of all rows, with the predicates that the sampled rows give."""
    return BinnedTable(encoder, sampled.table(), _vocabulary(schema, encoder, settings), n_rows, storage)


def explain_run(
    folder: Path,
    table: Table,
    sampled: RowCollector,
    binned_table: BinnedTable,
    labels: NDArray[np.int32],
    n_clusters: int,
    encoder: FeatureEncoder,
    settings: FitConfig,
    stability: Sequence[Sureness],
    numbers: NDArray[np.int32],
    earlier_names: Mapping[int, str],
    earlier_descriptions: Mapping[int, str],
    reader: GpuTableReader | str = "pyarrow",
    backend: Backend | None = None,
) -> list[str]:
    """Write rules and personas into `folder`; return the clusters' names.

    `stability` says how sure each cluster is; `numbers` has the clusters' numbers.
    `earlier_names` has the names of the previous run by number: they stay while they fit. `earlier_descriptions` has
    what the engine called those that people named. `reader` reads further rows of small clusters, and `backend` counts
    the rows that rules match.
    """
    explain_settings, columns = settings.explain, encoder.columns
    words, domain = _vocabulary(table.schema, encoder, settings), DomainWords.of(explain_settings.domain)
    quota, min_people = explain_settings.rows_per_cluster, explain_settings.min_people
    sample = stratified_sample(
        table, sampled, labels, n_clusters, quota=quota, columns=columns, seed=settings.seed, reader=reader
    )
    packed, binner = binned_table.complete(table), binned_table.binner
    explanation = explain(packed, binner, labels, sample, explain_settings, settings.seed, backend)
    readable_plan = _leave_out_unnamed(encoder.plan, table.schema, settings)
    effect_sizes = compute_effect_sizes(sample, readable_plan, words, _column_groups(table, columns, settings))
    renamed = {number: given.name for number, given in settings.renamed.items()} | settings.names
    descriptions = {**earlier_descriptions, **{number: given.instead_of for number, given in settings.renamed.items()}}
    earlier, given, described = (
        [names.get(number) for number in numbers.tolist()] for names in (earlier_names, renamed, descriptions)
    )
    personas = build_personas(
        sample, effect_sizes, stability, min_people=min_people, related=find_related_columns(sample, readable_plan),
        names=words.names, earlier_names=earlier, given_names=given, descriptions=described, words=domain,
    )  # fmt: skip
    _warn_of_names(personas, described, numbers)
    write_explanation(
        folder,
        explanation,
        personas,
        effect_sizes,
        encoder.plan,
        table.schema,
        settings.id,
        min_people,
        numbers,
        domain,
    )
    return [persona.name for persona in personas]


def _warn_of_names(personas: Sequence[Persona], described: Sequence[str | None], numbers: NDArray[np.int32]) -> None:
    """Warn of names that people gave clusters which are not like that any more."""
    for persona, number, before in zip(personas, numbers.tolist(), described, strict=True):
        if persona.automatic_name is not None and before is not None and persona.automatic_name != before:
            logger.warning(
                "Cluster %d is named “%s”, given when it was “%s”; now it is “%s”: the name may not fit any more.",
                number, printable_text(persona.name), printable_text(before), printable_text(persona.automatic_name),
            )  # fmt: skip


def _vocabulary(schema: pa.Schema, encoder: FeatureEncoder, settings: FitConfig) -> Vocabulary:
    return Vocabulary.from_schema(schema, encoder.columns, settings.explain.words, settings.explain.values)


def _leave_out_unnamed(plan: EncodingPlan, schema: pa.Schema, settings: FitConfig) -> EncodingPlan:
    """Return the plan without the numbers of vectors that have no words, unless there is nothing else.

    Without words, "embedding 17" tells readers nothing.
    """

    def is_readable(name: str) -> bool:
        field = schema.field(name)
        named = name in settings.explain.words or b"rooms.words" in (field.metadata or {})
        return named or vector_name(field) is None

    readable = tuple(column for column in plan.columns if is_readable(column.column))
    return plan.model_copy(update={"columns": readable}) if readable else plan


def _column_groups(table: Table, columns: list[str], settings: FitConfig) -> Mapping[str, str]:
    groups = {name: metadata_group(table.schema, name) for name in columns}
    for group, config in settings.features.groups.items():
        groups.update(expand_vector_settings(dict.fromkeys(config.columns, group), table.schema))
    return groups
