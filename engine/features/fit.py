"""Fit an encoder to a table in one streaming pass, and choose what reads the table in the passes that follow.

table  ->  statistics  ->  roles, weights, plan  ->  FittedFeatures: the encoder, and the rows it encodes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from engine.backends.protocol import Backend
from engine.blocks import Block, Table
from engine.config import GroupConfig, Role
from engine.errors import NoFeaturesError
from engine.execution.block_cache import Shelf
from engine.execution.observers import BlockObserver
from engine.execution.passes import current, over_table
from engine.features import column_roles as roles
from engine.features.column_statistics import TableStatistics, collect
from engine.features.column_weights import Weights, column_weights
from engine.features.encoded_table import EncodedTable
from engine.features.encoder import FeatureEncoder
from engine.features.encoding_plan import make_plan
from engine.tables.vector_columns import spread, vector_of

if TYPE_CHECKING:
    from engine.features.gpu_encoder import DeviceReader, DeviceTable


class ColumnsDroppedWarning(UserWarning):
    """Columns were left out because of what they hold."""


@dataclass(frozen=True)
class FittedFeatures:
    """What fit_encoder found: the encoder, roles and weights, the statistics they rest on, and the encoded rows."""

    encoder: FeatureEncoder
    roles: list[roles.RoleOf]
    weights: Weights
    statistics: TableStatistics
    rows: EncodedTable | DeviceTable


@runtime_checkable
class ReadsTables(Protocol):
    """A backend that reads tables in its own way."""

    def reader(self, table: Table) -> DeviceReader | str:
        """Return what reads and encodes a table; or, in words, what does instead, and why."""


def reader_for(backend: Backend, table: Table) -> DeviceReader | str:
    """Return what reads and encodes a table for a device; or, in words, what does instead, and why."""
    if isinstance(backend, ReadsTables):
        return backend.reader(table)
    if "cudf" not in backend.libraries:
        return "pyarrow"
    if current() is not None:
        return "pyarrow, because workers read the table"
    from engine.features.gpu_encoder import DeviceReader
    from engine.tables.cudf_reader import cudf_table

    found, device = cudf_table(table), backend
    if isinstance(found, str):
        return found
    return DeviceReader("cuDF", table, found.unreadable, found.chunks, device)  # type: ignore[arg-type]  # it has arrays


def fit_encoder(
    table: Table,
    *,
    id: str | None = None,
    column_roles: Mapping[str, Role] | None = None,
    groups: Mapping[str, GroupConfig] | None = None,
    reference_day: float | None = None,
    seed: int = 0,
    shelf: Shelf | None = None,
    observers: Sequence[BlockObserver[Block]] = (),
    progress: Callable[[int], None] | None = None,
) -> FittedFeatures:
    """Fit an encoder to a table in one streaming pass.

    Parameters
    ----------
    table : Table
    id : str, optional
        Column that identifies a row; it is no feature.
    column_roles : mapping of column name to role, optional
        Roles set by the user; the others are inferred.
    groups : mapping of group name to GroupConfig, optional
        Columns that share a weight; see engine.features.column_weights.
    reference_day : float, optional
        Days since 1970-01-01 that dates are counted back from; by default the latest date in the table.
    seed : int, default=0
        Key of the row sample that quantiles come from.
    shelf : Shelf, optional
        Where rows are kept between passes; those that it has no room for are read again for each.
    observers : sequence of BlockObserver
        They look at every block as it is read: rows in the units of the table.
    progress : callable, optional
        Called with the number of rows read after every block.

    Raises
    ------
    NoFeaturesError
        If no column is left to cluster on.

    Warns
    -----
    ColumnsDroppedWarning
        Naming the columns that are constant, all missing or id-like.
    """
    shelf = Shelf() if shelf is None else shelf
    chosen = roles.roles_in_metadata(table.schema) | spread(column_roles or {}, table.schema)
    skip = set() if id is None else {id}
    texts = roles.texts_to_look_at(table.schema, chosen, skip)
    first = next(table.blocks(texts, coded=True)) if texts else None
    readings = roles.readings(table.schema, first, chosen, skip)
    if not readings:
        raise NoFeaturesError("No column is left to cluster on.", hint="see the roles with `rooms fit --dry-run`.")
    statistics = collect(
        partial(over_table, table=table, columns=list(readings), coded=True, what="statistics"),
        readings,
        seed=seed,
        n_rows=table.n_rows,
        shelf=shelf,
        observers=observers,
        progress=progress,
    )
    found = roles.infer(statistics, table.schema, chosen, skip)
    dropped = [role for role in found if role.dropped]
    if dropped:
        named = "; ".join(f"{role.column!r} ({role.reason})" for role in dropped)
        warnings.warn(f"Columns left out: {named}.", ColumnsDroppedWarning, stacklevel=2)
    if all(role.role == "ignore" for role in found):
        raise NoFeaturesError("No column is left to cluster on.", hint="see the roles with `rooms fit --dry-run`.")
    used = [role.column for role in found if role.role != "ignore"]
    variances = {
        name: statistics.columns[name].moments.std ** 2
        for name in used
        if vector_of(table.schema.field(name)) is not None
    }
    weights = column_weights(table.schema, used, groups or {}, variances)
    encoder = FeatureEncoder(make_plan(statistics, found, table.schema, weights.of_columns, reference_day))
    rows = EncodedTable(table, encoder, statistics.n_rows, shelf)
    return FittedFeatures(encoder, found, weights, statistics, rows)
