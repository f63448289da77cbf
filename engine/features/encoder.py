"""The fitted encoder: rows of a table to rows of X, and X back to the units people know.

    fit_encoder(table)  ->  FeatureEncoder
    encode(rows)        ->  X (n_rows, n_features) float32
    decode(X)           ->  one column a feature: years, hours, shares of rows

An encoder is a Plan and nothing else, so it is as reproducible as its statistics and stored as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.backends.protocol import EncodedRows
from engine.blocks import require_columns
from engine.errors import RetypedColumnError
from engine.features.columnar_block import PlainRows, arrow_rows, kind_of, read
from engine.features.encoding_plan import (
    DAYS_PER_YEAR,
    MISSING,
    OTHER,
    CategoryPlan,
    LabelPlan,
    NumberPlan,
    Plan,
)

if TYPE_CHECKING:
    from engine.features.layout import Layout


@dataclass(frozen=True)
class Feature:
    """One column of X: its name in words, the source column, and what its values mean."""

    name: str
    column: str
    kind: str  # "number", "date", "share" (of rows that have the category or label) or "missing"
    unit: str | None


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
