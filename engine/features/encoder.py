"""The fitted encoder: rows of a table to rows of X, and X back to the units people know.

    fit_encoder(table)  ->  FeatureEncoder
    encode(rows)        ->  X (n_rows, n_features) float32
    decode(X)           ->  one column a feature: years, hours, shares of rows

An encoder is a Plan and nothing else, so it is as reproducible as its statistics and stored as JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import EncodedRows
from engine.blocks import Block, Table, require_columns
from engine.config import GroupConfig, Role
from engine.errors import NoFeaturesError, RetypedColumnError
from engine.execution.block_cache import Shelf
from engine.execution.passes import over_table
from engine.features import column_roles as roles
from engine.features.column_statistics import TableStatistics, collect
from engine.features.column_weights import Weights, column_weights
from engine.features.columnar_block import PlainRows, arrow_rows, kind_of, read
from engine.features.encoded_table import EncodedTable
from engine.features.encoding_plan import (
    DAYS_PER_YEAR,
    MISSING,
    OTHER,
    CategoryPlan,
    LabelPlan,
    NumberPlan,
    Plan,
    make_plan,
)
from engine.tables.vector_columns import spread, vector_of

if TYPE_CHECKING:
    from engine.features.gpu_encoder import DeviceTable
    from engine.features.layout import Layout


class ColumnsDroppedWarning(UserWarning):
    """Columns were left out because of what they hold."""


@dataclass(frozen=True)
class Feature:
    """One column of X: its name in words, the source column, and what its values mean."""

    name: str
    column: str
    kind: str  # "number", "date", "share" (of rows that have the category or label) or "missing"
    unit: str | None


@dataclass(frozen=True)
class FittedFeatures:
    """What fit_encoder found: the encoder, roles and weights, the statistics they rest on, and the encoded rows."""

    encoder: FeatureEncoder
    roles: list[roles.RoleOf]
    weights: Weights
    statistics: TableStatistics
    rows: EncodedTable | DeviceTable


class FeatureEncoder:
    """Encode rows by a plan. Stateless beyond it: blocks may be encoded on any thread, in any order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def features(self) -> list[Feature]:
        """The columns of X, in order."""
        found: list[Feature] = []
        for column in self.plan.columns:
            name = column.column
            if isinstance(column, NumberPlan):
                found.append(Feature(name, name, "date" if column.role == "date" else "number", column.unit))
            else:
                values = column.categories if isinstance(column, CategoryPlan) else column.labels
                found += [Feature(f"{name}: {value}", name, "share", "share of members") for value in (*values, OTHER)]
            if column.indicator:
                found.append(Feature(f"{name}: {MISSING}", name, "missing", "share of members"))
        return found

    @property
    def n_features(self) -> int:
        """The number of columns of X."""
        return self.layout.n_features

    @property
    def columns(self) -> list[str]:
        """The columns a table must have to be encoded."""
        return [column.column for column in self.plan.columns]

    def check(self, schema: pa.Schema) -> None:
        """Raise MissingColumnError or RetypedColumnError, naming all columns at fault, unless the schema fits."""
        require_columns(schema, self.columns, "The table")
        wrong = []
        for column in self.plan.columns:
            kind, there = kind_of(schema.field(column.column).type), schema.field(column.column).type
            if not pa.types.is_null(there) and kind not in _readable(column):
                wrong.append(f"{column.column!r} holds {there}, but was {_words(column)} when the model was fitted")
        if wrong:
            raise RetypedColumnError(f"Column {'; column '.join(wrong)}.", hint="convert the columns, or fit again.")

    def csv_types(self) -> dict[str, pa.DataType]:
        """Return the types columns of a CSV file must be read as, where inference could go another way."""
        return {
            column.column: pa.string()
            for column in self.plan.columns
            if isinstance(column, CategoryPlan) or (isinstance(column, LabelPlan) and column.separator is not None)
        }

    def encode(self, rows: Any) -> NDArray[np.float32]:
        """Encode rows.

        Parameters
        ----------
        rows : pyarrow.Table or pandas.DataFrame of shape (n_rows, any)
            Holds at least `columns`.

        Returns
        -------
        X : float32 array of shape (n_rows, n_features), C order
        """
        return self.layout.fill(self.encode_rows(rows))

    def encode_rows(self, rows: Any) -> EncodedRows:
        """Encode rows, as `encode` does, without the zeros of X."""
        return self.encode_plain(self.read(rows))

    def read(self, rows: Any) -> PlainRows:
        """Read what `encode_plain` encodes."""
        return read(arrow_rows(rows), self.layout.readings)

    def encode_plain(self, plain: PlainRows) -> EncodedRows:
        """Encode rows that were read already."""
        return self.layout.encode(plain)

    def decode(self, X: NDArray[np.floating[Any]]) -> pa.Table:
        """Map rows of X, such as cluster centres, back to the units people know.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)

        Returns
        -------
        pyarrow.Table with one column a feature, named by it: numbers in their units (the typical value, where
        log1p was taken), dates as days, categories, labels and missing values as shares in [0, 1]. Null where a
        column weighs nothing: X does not know its values.
        """
        arrays: list[Any] = []
        j = 0
        for column in self.plan.columns:
            factor = float(np.sqrt(column.weight))
            if isinstance(column, NumberPlan):
                x = np.asarray(X[:, j], np.float64) / (factor or 1.0)
                arrays.append(_decoded_number(column, x, self.plan.reference_day))
                width, scale = 1, column.indicator_scale
            else:
                values = column.categories if isinstance(column, CategoryPlan) else column.labels
                width, scale = len(values) + 1, column.scale
                arrays += [_share(X[:, j + i], scale * factor) for i in range(width)]
            if column.indicator:
                arrays.append(_share(X[:, j + width], scale * factor))
                width += 1
            if factor == 0.0:
                arrays[-width:] = [pa.nulls(len(X), pa.float64())] * width
            j += width
        return pa.table(dict(zip([feature.name for feature in self.features], arrays, strict=True)))

    @cached_property
    def layout(self) -> Layout:
        """Where each column's values go."""
        from engine.features.layout import Layout

        return Layout(self.plan)


def fit_encoder(
    table: Table,
    *,
    id: str | None = None,
    column_roles: Mapping[str, Role] | None = None,
    groups: Mapping[str, GroupConfig] | None = None,
    reference_day: float | None = None,
    seed: int = 0,
    shelf: Shelf | None = None,
    see: Callable[[Block], Any] | None = None,
    seen: Callable[[Any], None] | None = None,
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
    see : callable, optional
        A pure function called with every block as it is read, on any thread or machine: for whoever needs rows as
        they are.
    seen : callable, optional
        Called here with what `see` returned for each block, in order.
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
        see=see,
        seen=seen,
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


def _readable(column: NumberPlan | CategoryPlan | LabelPlan) -> tuple[str, ...]:
    if isinstance(column, NumberPlan):
        return ("time",) if column.role == "date" else ("number", "boolean")
    if isinstance(column, CategoryPlan):
        return ("text", "number", "boolean")
    return ("list",) if column.separator is None else ("text",)


def _words(column: NumberPlan | CategoryPlan | LabelPlan) -> str:
    if isinstance(column, NumberPlan):
        return "a date" if column.role == "date" else "a number"
    if isinstance(column, CategoryPlan):
        return "a category"
    return "a list of labels" if column.separator is None else f"labels joined by {column.separator!r}"


def _decoded_number(column: NumberPlan, x: NDArray[np.float64], day: float) -> Any:
    value = x / column.scale + column.centre if column.scale > 0 else np.full(len(x), column.centre)
    value = np.clip(value, column.low, column.high)
    if column.logarithm:
        value = np.expm1(value)
    if column.role == "date":
        return pa.array(np.rint(day - value * DAYS_PER_YEAR).astype(np.int32)).cast(pa.date32())
    return value


def _share(x: NDArray[np.floating[Any]], scale: float) -> NDArray[np.float64]:
    return np.clip(np.asarray(x, np.float64) / scale if scale > 0 else np.zeros(len(x)), 0.0, 1.0)
