"""FeatureEncoder: encode rows of a table as rows of X, and decode X to the units of the table.

    fit_encoder(table)  ->  FeatureEncoder
    encode(rows)        ->  X (n_rows, n_features) float32
    decode(X)           ->  one column a feature: years, hours, shares of rows

An encoder is its EncodingPlan and nothing else: it is as reproducible as its statistics, and stored as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import EncodedRows
from engine.blocks import require_columns
from engine.errors import RetypedColumnError
from engine.features.columnar_block import (
    ColumnarBlock,
    is_list_of_nulls,
    physical_kind,
    read_block,
    to_arrow_table,
)
from engine.features.encoding_plan import (
    DAYS_PER_YEAR,
    MISSING,
    OTHER,
    CategoryPlan,
    EncodingPlan,
    LabelPlan,
    NumberPlan,
)
from engine.features.record_columns import RecordColumns
from engine.tables.list_texts import describe_separator
from engine.tables.vector_columns import vector_name

if TYPE_CHECKING:
    from engine.features.layout import Layout


@dataclass(frozen=True)
class Feature:
    """One column of X: its display name, its source column, and what its values mean."""

    name: str
    column: str
    kind: str  # "number", "date", "share" (of rows that have the category or label) or "missing"
    unit: str | None


class FeatureEncoder:
    """Encode rows by an EncodingPlan. It has no other state: blocks may be encoded on any thread, in any order."""

    def __init__(self, plan: EncodingPlan) -> None:
        self.plan = plan

    @cached_property
    def features(self) -> list[Feature]:
        """The columns of X, in order."""
        features: list[Feature] = []
        for column in self.plan.columns:
            name = column.column
            if isinstance(column, NumberPlan):
                features.append(Feature(name, name, "date" if column.role == "date" else "number", column.unit))
                values: tuple[str, ...] = ()
            else:
                values = column.categories if isinstance(column, CategoryPlan) else column.labels
                values = *values, _distinct_name(OTHER, values)
                features += [Feature(f"{name}: {value}", name, "share", "share of members") for value in values]
            if column.indicator:
                missing = f"{name}: {_distinct_name(MISSING, values)}"
                features.append(Feature(missing, name, "missing", "share of members"))
        return features

    @property
    def n_features(self) -> int:
        """The number of columns of X."""
        return self.layout.n_features

    @property
    def attributes(self) -> list[NDArray[np.int64]]:
        """The columns of X of each attribute that is yes or no, or one category of several."""
        attributes: list[NDArray[np.int64]] = []
        j = 0
        for column in self.plan.columns:
            width = 1
            if isinstance(column, CategoryPlan):
                width = len(column.categories) + 1 + column.indicator
                attributes.append(np.arange(j, j + width))
            elif isinstance(column, LabelPlan):
                width = len(column.labels) + 1 + column.indicator
                attributes += [np.array([j + label]) for label in range(width)]
            elif column.indicator:
                width = 2
                attributes.append(np.array([j + 1]))
            j += width
        return attributes

    @property
    def columns(self) -> list[str]:
        """The columns that a table must have to be encoded."""
        return [column.column for column in self.plan.columns]

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise MissingColumnError or RetypedColumnError, which name all columns at fault, unless the schema fits."""
        self._check_types(schema)
        require_columns(schema, self.columns, "The table")

    def _check_types(self, schema: pa.Schema) -> None:
        """Raise RetypedColumnError, which names all columns at fault, unless the columns that are there fit."""
        retyped = []
        vectors = {vector_name(field) for field in schema}
        for column in self.plan.columns:
            if column.column in vectors:
                retyped.append(
                    f"{column.column!r} holds vectors, but was {_describe(column)} when the model was fitted"
                )
            if column.column not in schema.names:
                continue
            column_type, allowed = schema.field(column.column).type, _allowed_kinds(column)
            is_empty = pa.types.is_null(column_type) or ("list" in allowed and is_list_of_nulls(column_type))
            if not is_empty and physical_kind(column_type) not in allowed:
                expected = _describe(column)
                retyped.append(f"{column.column!r} holds {column_type}, but was {expected} when the model was fitted")
        if retyped:
            raise RetypedColumnError(f"Column {'; column '.join(retyped)}.", hint="convert the columns, or fit again.")

    def csv_types(self) -> dict[str, pa.DataType]:
        """Return the types that columns of a CSV file must be read as, where type inference could differ."""
        return {
            column.column: pa.string()
            for column in self.plan.columns
            if (isinstance(column, CategoryPlan) and column.kind == "text")
            or (isinstance(column, LabelPlan) and column.separator is not None)
            or (isinstance(column, NumberPlan) and (column.number_format or column.date_format) is not None)
        }

    def encode(self, rows: Any) -> NDArray[np.float32]:
        """Encode rows.

        Parameters
        ----------
        rows : pyarrow.Table or pandas.DataFrame of shape (n_rows, any)
            They have at least the columns in `columns`.

        Returns
        -------
        X : float32 array of shape (n_rows, n_features), C order
        """
        return self.layout.to_matrix(self.encode_rows(rows))

    def encode_sample(self, rows: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Encode rows as `encode` does, and tell which cells of X are not known.

        Returns
        -------
        X : float32 array of shape (n_rows, n_features), C order
        unknown : bool array of shape (n_rows, n_features)
            The cells of missing values, which X has filled; and, in all rows, the columns that tell that another value
            is missing. Categories and lists that are missing in too few rows for such a column count as known.
        """
        block = self.read_block(rows)
        X = self.layout.to_matrix(self.encode_block(block))
        unknown = np.zeros(X.shape, np.bool_)
        j = 0
        for column in self.plan.columns:
            width = 1
            if isinstance(column, NumberPlan):
                missing = np.isnan(block.numbers[block.number_rows[column.column]])
            else:
                width = len(column.categories if isinstance(column, CategoryPlan) else column.labels) + 1
                missing = X[:, j + width] > 0 if column.indicator else np.zeros(len(X), np.bool_)
            unknown[missing, j : j + width] = True
            unknown[:, j + width : j + width + column.indicator] = True
            j += width + column.indicator
        return X, unknown

    def encode_rows(self, rows: Any) -> EncodedRows:
        """Encode rows as `encode` does, but without the zeros of X."""
        return self.encode_block(self.read_block(rows))

    def read_block(self, rows: Any) -> ColumnarBlock:
        """Read rows of a data frame into a ColumnarBlock, which `encode_block` encodes."""
        return read_block(to_arrow_table(rows), self.layout.read_specs)

    def read_records(self, records: Sequence[Mapping[str, Any]]) -> ColumnarBlock:
        """Read rows that are dicts as `read_block` reads those of a table; quickly, if they are few.

        Raises
        ------
        MissingColumnError
            If no row has a column.
        RetypedColumnError, SourceFormatError
            If a column has values of another type, or of several.
        """
        return read_block(self.record_columns(records), self.layout.read_specs)

    def record_columns(self, records: Sequence[Mapping[str, Any]]) -> RecordColumns:
        """Return the columns of rows that are dicts, checked as `check_schema` checks those of a table."""
        return RecordColumns(records, self.columns, self.layout.plain_numbers, self._check_types)

    def encode_block(self, block: ColumnarBlock) -> EncodedRows:
        """Encode a block that `read_block` has read."""
        return self.layout.encode(block)

    def decode(self, X: NDArray[np.floating[Any]]) -> pa.Table:
        """Decode rows of X, such as cluster centres, to the units of the table.

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
                arrays.append(_decode_number(column, x, self.plan.reference_day))
                width, scale = 1, column.indicator_scale
            else:
                values = column.categories if isinstance(column, CategoryPlan) else column.labels
                width, scale = len(values) + 1, column.scale
                arrays += [_decode_share(X[:, j + i], scale * factor) for i in range(width)]
            if column.indicator:
                arrays.append(_decode_share(X[:, j + width], scale * factor))
                width += 1
            if factor == 0.0:
                arrays[-width:] = [pa.nulls(len(X), pa.float64())] * width
            j += width
        return pa.table(dict(zip([feature.name for feature in self.features], arrays, strict=True)))

    @cached_property
    def layout(self) -> Layout:
        """The plan as arrays: which columns of X each source column fills, and how."""
        from engine.features.layout import Layout

        return Layout(self.plan)


def _distinct_name(name: str, values: tuple[str, ...]) -> str:
    """Return the name, in parentheses if it is a value of the column itself."""
    while name in values:
        name = f"({name})"
    return name


def _allowed_kinds(column: NumberPlan | CategoryPlan | LabelPlan) -> tuple[str, ...]:
    if isinstance(column, NumberPlan):
        if column.role == "date":
            in_digits = column.date_format is not None and column.date_format.in_digits
            return ("time", "text", "number") if in_digits else ("time", "text")
        form = column.number_format
        texts = () if form is None else ("text",)
        seconds = ("seconds",) if column.in_seconds or (form is not None and form.unit == "s") else ()
        return ("number", "boolean", *texts, *seconds)
    if isinstance(column, CategoryPlan):
        return ("text", "number", "boolean")
    return ("list",) if column.separator is None else ("text",)


def _describe(column: NumberPlan | CategoryPlan | LabelPlan) -> str:
    if isinstance(column, NumberPlan):
        return "a date" if column.role == "date" else "a number"
    if isinstance(column, CategoryPlan):
        return "a category"
    return "a list of labels" if column.separator is None else describe_separator(column.separator)


def _decode_number(column: NumberPlan, x: NDArray[np.float64], day: float) -> Any:
    value = x / column.scale + column.centre if column.scale > 0 else np.full(len(x), column.centre)
    value = np.clip(value, column.low, column.high)
    if column.logarithm:
        value = np.expm1(value)
    if column.role == "date":
        return pa.array(np.rint(day - value * DAYS_PER_YEAR).astype(np.int32)).cast(pa.date32())
    return value


def _decode_share(x: NDArray[np.floating[Any]], scale: float) -> NDArray[np.float64]:
    return np.clip(np.asarray(x, np.float64) / scale if scale > 0 else np.zeros(len(x)), 0.0, 1.0)
