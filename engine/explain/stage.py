"""The explanation as a stage of a fit: collect rows and bins in earlier passes, then write rules and personas.

table, binned table, labels  ->  rules.json, rules.sql, features.json, personas.json and personas.md in the run's folder
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import Backend
from engine.config import FitConfig, GivenName
from engine.execution.array_storage import Storage
from engine.explain.binning.binned_table import BinnedTable
from engine.explain.export import write_explanation
from engine.explain.personas.effect_sizes import compute_effect_sizes
from engine.explain.personas.own_names import Namer, ask_for_names, describe_for_namer
from engine.explain.personas.persona import Persona, build_personas
from engine.explain.personas.related_columns import find_related_columns
from engine.explain.row_sample import RowCollector, stratified_sample
from engine.explain.rules.explanation import explain
from engine.features.column_weights import metadata_group
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import EncodingPlan
from engine.kmeans.stability import Sureness
from engine.progress import Advance
from engine.tables import Table
from engine.tables.vector_columns import expand_vector_settings, vector_name
from engine.utils.domain_words import DomainWords
from engine.utils.formatting import Vocabulary, printable_text

if TYPE_CHECKING:
    from engine.features.gpu_reader import GpuTableReader

EXPLAIN_STEPS = 5  # rows sampled, rules counted, clusters compared, named and described, files written
logger = logging.getLogger(__name__)


class ExplainedRun(NamedTuple):
    """What the explanation says of names: the clusters' names, those that are given, and what a namer was asked."""

    names: list[str]
    renamed: dict[int, GivenName]
    naming: dict[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as JSON values."""
        given = {str(number): name.model_dump() for number, name in self.renamed.items()}
        return {"names": self.names, "renamed": given, "naming": self.naming}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ExplainedRun:
        """Return what `facts` returned."""
        given = {int(number): GivenName(**name) for number, name in facts["renamed"].items()}
        return cls(list(facts["names"]), given, facts["naming"])


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
    namer: Namer | None = None,
    advance: Advance = lambda _: None,
) -> ExplainedRun:
    """Write rules and personas into `folder`; return the clusters' names.

    `stability` says how sure each cluster is; `numbers` has the clusters' numbers.
    `earlier_names` has the names of the previous run by number: they stay while they fit. `earlier_descriptions` has
    what the engine called those that people named. `reader` reads further rows of small clusters, and `backend` counts
    the rows that rules match. `namer` is asked for names of clusters that have none yet, or are not any more what they
    were when it named them. `advance` is called with 1 after each of EXPLAIN_STEPS.
    """
    explain_settings, columns = settings.explain, encoder.columns
    words, domain = _vocabulary(table.schema, encoder, settings), DomainWords.of(explain_settings.domain)
    quota, min_people = explain_settings.rows_per_cluster, explain_settings.min_people
    sample = stratified_sample(
        table, sampled, labels, n_clusters, quota=quota, columns=columns, seed=settings.seed, reader=reader
    )
    advance(1)
    packed, binner = binned_table.complete(table), binned_table.binner
    explanation = explain(packed, binner, labels, sample, explain_settings, settings.seed, backend)
    advance(1)
    readable_plan = _leave_out_unnamed(encoder.plan, table.schema, settings)
    effect_sizes = compute_effect_sizes(sample, readable_plan, words, _column_groups(table, columns, settings))
    advance(1)
    renamed = {number: given.name for number, given in settings.renamed.items()} | settings.names
    descriptions = {**earlier_descriptions, **{number: given.instead_of for number, given in settings.renamed.items()}}
    earlier, given, described = (
        [names.get(number) for number in numbers.tolist()] for names in (earlier_names, renamed, descriptions)
    )
    personas = build_personas(
        sample, effect_sizes, stability, min_people=min_people, related=find_related_columns(sample, readable_plan),
        names=words.names, earlier_names=earlier, given_names=given, descriptions=described, words=domain,
    )  # fmt: skip
    renamed_now, naming = dict(settings.renamed), None
    if namer is not None:
        personas, renamed_now, naming = _name_by(namer, personas, numbers, settings)
    _warn_of_names(personas, described, numbers, renamed_now)
    advance(1)
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
    advance(1)
    return ExplainedRun([persona.name for persona in personas], renamed_now, naming)


def _name_by(
    namer: Namer, personas: Sequence[Persona], numbers: NDArray[np.int32], settings: FitConfig
) -> tuple[list[Persona], dict[int, GivenName], dict[str, Any]]:
    """Return the personas with the names of a function, all given names by number, and what the manifest says of it.

    It is asked about clusters that can be described, unless people named them, or it did and they are as they were.
    """
    given = dict(settings.renamed)
    by_number = {int(numbers[persona.cluster]): persona for persona in personas}
    clusters = []
    for number, persona in by_number.items():
        known, own = given.get(number), persona.automatic_name or persona.name
        named = number in settings.names or (known is not None and (known.by == "rename" or known.instead_of == own))
        if persona.is_described and not named:
            earlier = None if known is None else known.name
            described = replace(persona, cluster=number)
            clusters.append(describe_for_namer(described, settings.explain.domain, earlier))
    names = {number: persona.name for number, persona in by_number.items()}
    asked = ask_for_names(namer, clusters, names, settings.explain.namer_seconds)
    for reason in asked.refused:
        logger.warning("%s did not name all clusters, and others keep theirs: %s.", asked.function, reason)
    for number, name in asked.names.items():
        persona = by_number[number]
        own = persona.automatic_name or persona.name
        given[number] = GivenName(name=name, instead_of=own, by="namer")
        by_number[number] = replace(persona, name=name, automatic_name=own)
    return list(by_number.values()), given, asked.facts()


def _warn_of_names(
    personas: Sequence[Persona],
    described: Sequence[str | None],
    numbers: NDArray[np.int32],
    given: Mapping[int, GivenName],
) -> None:
    """Warn of given names of clusters which are not like that any more, unless they were given anew."""
    for persona, number, before in zip(personas, numbers.tolist(), described, strict=True):
        renewed = number in given and given[number].instead_of == persona.automatic_name
        if not renewed and before is not None and persona.automatic_name not in (None, before):
            logger.warning(
                "Cluster %d is named “%s”, given when it was “%s”; now it is “%s”: the name may not fit any more.",
                number, printable_text(persona.name), printable_text(before), printable_text(persona.automatic_name),
            )  # fmt: skip


def _vocabulary(schema: pa.Schema, encoder: FeatureEncoder, settings: FitConfig) -> Vocabulary:
    explain = settings.explain
    return Vocabulary.from_schema(schema, encoder.columns, explain.words, explain.values, encoder.plan.measured)


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
    for group, config in settings.features.column_groups.items():
        groups.update(expand_vector_settings(dict.fromkeys(config.columns, group), table.schema))
    return groups
