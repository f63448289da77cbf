"""Fit a FeatureEncoder to a table in one streaming pass, and choose the reader of the passes that follow.

table  ->  statistics  ->  roles, weights, plan  ->  FittedFeatures: the encoder, and the table's encoded rows
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engine.backends.protocol import Backend
from engine.blocks import Table
from engine.config import GroupConfig, Role
from engine.errors import NoFeaturesError
from engine.execution.block_cache import BlockCache
from engine.execution.observers import RowObserver
from engine.execution.passes import current_cluster, over_table
from engine.features.category_texts import warn_of_category_texts, warn_of_missing_words
from engine.features.column_roles import (
    ColumnRole,
    columns_read_first,
    infer_read_specs,
    infer_roles,
    roles_in_metadata,
)
from engine.features.column_statistics import TableStatistics, collect_statistics
from engine.features.column_weights import ColumnWeights, compute_weights, find_owners
from engine.features.date_columns import (
    check_date_columns,
    find_date_columns,
    warn_of_day_numbers,
    warn_of_moment_numbers,
)
from engine.features.distributions import TableDistributions
from engine.features.drift import warn_of_drift
from engine.features.encoded_table import EncodedTable
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import make_plan
from engine.features.first_values import read_first_values
from engine.features.key_columns import find_category_columns
from engine.features.missing_marks import report_missing_marks, set_missing_marks
from engine.features.number_columns import check_number_columns, find_number_columns, warn_of_left_texts
from engine.features.outcome_columns import warn_of_outcome_columns
from engine.features.repeated_columns import RepeatedColumns, find_repeated_columns, warn_of_repeated_columns
from engine.features.total_rows import warn_of_empty_rows, warn_of_total_row
from engine.tables.vector_columns import expand_vector_settings, vector_name

if TYPE_CHECKING:
    from engine.features.columnar_block import ReadSpec
    from engine.features.gpu_encoder import GpuEncodedTable
    from engine.features.gpu_reader import GpuTableReader

logger = logging.getLogger(__name__)


class ColumnsDroppedWarning(UserWarning):
    """Warns of columns that are left out because their values carry no information."""


@dataclass(frozen=True)
class FittedFeatures:
    """Result of fit_encoder: encoder, roles, weights, the statistics they follow from, distributions, encoded rows.

    `on_device` says whether the statistics were computed on the device.
    """

    encoder: FeatureEncoder
    roles: list[ColumnRole]
    weights: ColumnWeights
    statistics: TableStatistics
    distributions: TableDistributions
    rows: EncodedTable | GpuEncodedTable
    on_device: bool = False


@runtime_checkable
class BackendWithReader(Protocol):
    """A backend that brings its own table reader."""

    def reader(self, table: Table) -> GpuTableReader | str:
        """Return the backend's reader of a table, or a text that names the reader used instead and the reason."""


def choose_reader(backend: Backend, table: Table) -> GpuTableReader | str:
    """Return the GPU reader of a table for a device, or a text that names the CPU's reader and the reason for it."""
    if isinstance(backend, BackendWithReader):
        return backend.reader(table)
    if "cudf" not in backend.libraries:
        reason = backend.missing_libraries.get("cudf")
        return "pyarrow" if reason is None else f"pyarrow, because {reason}"
    if current_cluster() is not None:
        return "pyarrow, because workers read the table"
    from engine.features.gpu_reader import GpuTableReader
    from engine.tables.cudf_reader import open_cudf_table

    source = open_cudf_table(table)
    if isinstance(source, str):
        return source
    return GpuTableReader("cuDF", table, source.unreadable, source.chunks, backend)  # type: ignore[arg-type]  # an array backend


def reader_name(reader: GpuTableReader | str) -> str:
    """Return what reads a table, with the reason after ", because " if there is one."""
    return reader if isinstance(reader, str) else reader.name


def fit_encoder(
    table: Table,
    *,
    id: str | None = None,
    column_roles: Mapping[str, Role] | None = None,
    missing: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, GroupConfig] | None = None,
    reference_day: float | None = None,
    share_weights: bool = True,
    seed: int = 0,
    cache: BlockCache | None = None,
    observers: Sequence[RowObserver] = (),
    progress: Callable[[int], None] | None = None,
    reader: GpuTableReader | str = "pyarrow",
) -> FittedFeatures:
    """Fit an encoder to a table in one streaming pass.

    Parameters
    ----------
    table : Table
    id : str, optional
        Column that identifies a row; it is not a feature.
    column_roles : mapping of column name to role, optional
        Roles set by the user; the others are inferred.
    missing : mapping of column name to sequence of str, optional
        Values of a column that mark missing ones; those of other columns are found. An empty sequence: there are none.
    groups : mapping of group name to GroupConfig, optional
        Columns that share a weight; see engine.features.column_weights.
    reference_day : float, optional
        Days since 1970-01-01 that dates are counted back from; by default the latest date in the table.
    share_weights : bool, default=True
        Whether columns that say one thing share one weight.
    seed : int, default=0
        Key of the row sample that quantiles come from.
    cache : BlockCache, optional
        It stores blocks between passes; those that do not fit are read again in each pass.
    observers : sequence of RowObserver
        They get their rows in the units of the table.
    progress : callable, optional
        Called with the number of rows read after every block.
    reader : GpuTableReader or str, default="pyarrow"
        What reads the table: with a device's reader, the device computes the statistics, to the same bits.

    Raises
    ------
    NoFeaturesError
        If no column is left to cluster on.
    RetypedColumnError
        If texts of a column of numbers or dates are none.

    Warns
    -----
    ColumnsDroppedWarning
        If columns are constant, all missing or id-like; it names them.
    MissingMarksWarning
        If values such as -999 or 9999-12-31 are taken as missing; it names them.
    TotalRowWarning, EmptyRowsWarning
        If a row looks like the totals of the others, or rows have no value in any column.
    RepeatedColumnsWarning
        If columns say one thing and share a weight; it names them.
    NumberTextsWarning
        If text columns are read as numbers, or look like numbers and are not; it names them.
    OutcomeColumnsWarning
        If columns that decide the clusters are named as an outcome, such as `churned`.
    CategoryTextsWarning
        If categories differ in case or blanks only, hold numbers in a notation that is not read, or look like missing
        values.
    DateTextsWarning
        If texts are read as dates although day and month could be the other way round, or some are no dates; if
        numbers such as 20240904 are read as dates, or only look like it.
    """
    cache = BlockCache() if cache is None else cache
    overrides = roles_in_metadata(table.schema) | expand_vector_settings(column_roles or {}, table.schema)
    skip = set() if id is None else {id}
    first = read_first_values(table, columns_read_first(table.schema, overrides, skip))
    dates = find_date_columns(first, overrides, skip)
    found = find_number_columns(table.schema, first, overrides, skip | set(dates))
    warn_of_left_texts(found.notes)
    categories = find_category_columns(table.schema, first, overrides, skip | set(dates))
    read_specs = infer_read_specs(table.schema, first, found.formats, dates, categories, overrides, skip)
    read_specs = set_missing_marks(table.schema, first, read_specs, missing or {})
    if not read_specs:
        raise NoFeaturesError("No column is left to cluster on.", hint="see the roles with `rooms fit --dry-run`.")
    on_device, statistics = _collect(
        table, read_specs, reader, seed=seed, cache=cache, observers=observers, progress=progress
    )
    check_number_columns(statistics, overrides)
    check_date_columns(statistics, overrides)
    warn_of_day_numbers(statistics, overrides)
    warn_of_moment_numbers(statistics, overrides)
    warn_of_total_row(statistics)
    warn_of_empty_rows(statistics)
    report_missing_marks(statistics, missing or {})
    roles = infer_roles(statistics, table.schema, categories, overrides, skip)
    _report_roles(roles, statistics, categories, overrides)
    warn_of_category_texts(statistics, roles, overrides, found.notes)
    warn_of_missing_words(table.schema, statistics, roles, {*overrides, *(missing or {})})
    if all(role.role == "ignore" for role in roles):
        raise NoFeaturesError("No column is left to cluster on.", hint="see the roles with `rooms fit --dry-run`.")
    used = [role.column for role in roles if role.role != "ignore"]
    variances = {
        name: statistics.columns[name].moments.std ** 2
        for name in used
        if vector_name(table.schema.field(name)) is not None
    }
    plan = make_plan(statistics, roles, table.schema, reference_day)
    repeated: list[RepeatedColumns] = []
    if share_weights:
        owners = find_owners(table.schema, [name for name in used if name not in variances], groups or {})
        repeated = find_repeated_columns(plan, statistics, first, owners)
        warn_of_repeated_columns(repeated)
    reasons = {name: found.reason for found in repeated for name in found.columns}
    roles = [replace(r, reason="; ".join(filter(None, [r.reason, reasons.get(r.column)]))) for r in roles]
    weights = compute_weights(table.schema, used, groups or {}, variances, repeated)
    warn_of_outcome_columns(used, weights.by_column, overrides)
    encoder = FeatureEncoder(plan.weighted(weights.by_column))
    rows = EncodedTable(table, encoder, statistics.n_rows, cache)
    distributions = TableDistributions.from_statistics(plan, statistics)
    return FittedFeatures(encoder, roles, weights, statistics, distributions, rows, on_device)


def reuse_encoder(
    table: Table,
    encoder: FeatureEncoder,
    roles: list[ColumnRole],
    weights: ColumnWeights,
    *,
    seed: int = 0,
    cache: BlockCache | None = None,
    observers: Sequence[RowObserver] = (),
    progress: Callable[[int], None] | None = None,
    reader: GpuTableReader | str = "pyarrow",
) -> FittedFeatures:
    """Return the features of a table by an encoder that was fitted before, in one streaming pass.

    Parameters are those of fit_encoder; `roles` and `weights` are those of the encoder's fit.

    Raises
    ------
    MissingColumnError, RetypedColumnError
        If the table lacks columns of the encoder, or holds something else in them.

    Warns
    -----
    DriftWarning
        If many values of a column lie outside of what the encoder was fitted on, so that it clips them.
    """
    encoder.check_schema(table.schema)
    cache = BlockCache() if cache is None else cache
    on_device, statistics = _collect(
        table, encoder.layout.read_specs, reader, seed=seed, cache=cache, observers=observers, progress=progress
    )
    check_number_columns(statistics, {}, is_known=True)
    check_date_columns(statistics, {}, is_known=True)
    warn_of_drift(encoder.plan, statistics)
    distributions = TableDistributions.from_statistics(encoder.plan, statistics)
    rows = EncodedTable(table, encoder, statistics.n_rows, cache)
    return FittedFeatures(encoder, roles, weights, statistics, distributions, rows, on_device)


def _collect(
    table: Table,
    read_specs: Mapping[str, ReadSpec],
    reader: GpuTableReader | str,
    *,
    seed: int,
    cache: BlockCache,
    observers: Sequence[RowObserver],
    progress: Callable[[int], None] | None,
) -> tuple[bool, TableStatistics]:
    """Compute the statistics of a table's columns, on the device if its library reads any of them; return whether."""
    columns = list(read_specs)
    if not isinstance(reader, str) and reader.reads(columns):
        from engine.features.gpu_statistics import collect_on_device

        return True, collect_on_device(reader, read_specs, seed=seed, observers=observers, progress=progress)
    return False, collect_statistics(
        partial(over_table, table=table, columns=columns, dictionary_encoded=True, pass_name="statistics"),
        read_specs,
        seed=seed,
        n_rows=table.n_rows,
        cache=cache,
        observers=observers,
        progress=progress,
    )


def _report_roles(
    roles: Sequence[ColumnRole],
    statistics: TableStatistics,
    categories: Mapping[str, str],
    overrides: Mapping[str, Role],
) -> None:
    """Warn of columns that are left out; log the numbers taken as categories, and the texts split into answers."""
    dropped = [role for role in roles if role.dropped]
    if dropped:
        named = "; ".join(f"{role.column!r} ({role.reason})" for role in dropped)
        warnings.warn(f"Columns left out: {named}.", ColumnsDroppedWarning, stacklevel=3)
    keys = [role.column for role in roles if role.role == "categorical" and role.column in categories]
    if keys:
        named = ", ".join(map(repr, keys))
        logger.info("Numbers taken as categories, because they name things: %s. --role COLUMN=numeric measures.", named)
    split = [role for role in roles if role.role == "multilabel" and role.column not in overrides]
    split = [role for role in split if statistics.columns[role.column].read_spec.separator is not None]
    if split:
        named = "; ".join(f"{role.column!r} ({role.reason})" for role in split)
        logger.info("Texts split into several answers: %s. --role COLUMN=categorical keeps them whole.", named)
