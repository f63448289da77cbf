"""Columns of every kind for conditions, with the values that databases answer differently, and all conditions on one.

Numbers on a threshold in float32, NaN beside NULL, white space at the ends, moments before 1970, numbers that are no
double.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from engine.explain.binning.binner import Binner
from engine.explain.export import condition_document
from engine.explain.export_sql import SqlConditionWriter
from engine.explain.rules.conditions import Condition
from engine.export.sql_dialect import DUCKDB, SqlDialect
from engine.features.fit import fit_encoder
from engine.tables import Table
from engine.utils.formatting import Vocabulary

TOOLS = 'say "tools", it'
SPACES = "".join(c for c in map(chr, range(0x3001)) if pc.utf8_trim_whitespace(pa.scalar(c)).as_py() == "")
CENTS = st.integers(0, 12).map(lambda cents: cents / 100)
WORDS = ["", "a", "a\n", " a", "a\r\n", "it's", 'say "a"', "a;\n", "a\u2028"]
LABELS = st.lists(st.sampled_from(["a", "b", "it's", "\u00a0c"]), max_size=3)
CELL = st.tuples(st.text(SPACES, max_size=2), LABELS, st.text(" \t\n\f\r", max_size=1), st.text(SPACES, max_size=2))
ESCAPED = st.tuples(
    st.lists(st.sampled_from(["a", "it's", 'say "a"', "\u00e9/b", "b\\n", "x, y"]), max_size=3),
    st.text(SPACES, max_size=2),
    st.booleans(),
)


def array(labels: list[str], has_null: bool) -> str:
    """Write labels as PostgreSQL does."""
    escaped = [label.replace("\\", "\\\\").replace('"', '\\"') for label in labels]
    written = [f'"{text}"' if set(text) & set(' ,"\\') else text for text in escaped]
    return "{" + ",".join([*written[:1], *["NULL"] * has_null, *written[1:]]) + "}"


DAY = 86_400_000_000  # microseconds
MOMENT = st.integers(-3 * DAY, 3 * DAY) | st.builds(
    int.__add__, st.sampled_from([-DAY, 0, DAY]), st.integers(-2000, 2000)
)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[object], str]] = {
    "float64": (pa.float64(), CENTS | st.just(math.nan), "numeric"),
    "float32": (pa.float32(), CENTS | st.just(math.nan), "numeric"),
    "float16": (pa.float16(), CENTS | st.just(math.nan), "numeric"),
    "decimal": (pa.decimal128(20, 2), st.integers(0, 99).map(lambda cents: Decimal(cents) / 100), "numeric"),
    "large": (pa.int64(), st.integers(2**53 - 3, 2**53 + 3), "numeric"),
    "unsigned": (pa.uint64(), st.integers(2**64 - 5000, 2**64 - 1), "numeric"),
    "truth": (pa.bool_(), st.booleans(), "boolean"),
    "vector": (pa.list_(pa.float32(), 2), st.lists(CENTS | st.just(math.nan), min_size=2, max_size=2), "numeric"),
    "half vector": (pa.list_(pa.float16()), st.lists(CENTS, min_size=1, max_size=1), "numeric"),
    "day": (pa.date32(), st.dates(date(1969, 11, 1), date(1970, 3, 1)), "date"),
    "moment": (pa.timestamp("us"), MOMENT, "date"),
    "zoned": (pa.timestamp("us", tz="Asia/Tokyo"), MOMENT, "date"),
    "zoned ns": (pa.timestamp("ns", tz="UTC"), MOMENT.map(lambda us: us * 1000), "date"),
    "word": (pa.string(), st.sampled_from(WORDS), "categorical"),
    "grade": (pa.float32(), CENTS | st.sampled_from([math.nan, math.inf, 1e20, 1e30]), "categorical"),
    "float grade": (pa.float32(), CENTS | st.just(math.nan), "categorical"),
    "half grade": (pa.float16(), CENTS, "categorical"),
    "level": (pa.int64(), st.sampled_from([1, 2, 2**53 + 1, 2**63 - 1]), "categorical"),
    "smoker": (pa.bool_(), st.booleans(), "categorical"),
    "tags": (pa.list_(pa.string()), st.lists(st.sampled_from(["a", "a\n", "it's", None]), max_size=2), "multilabel"),
    "codes": (pa.list_(pa.int64()), st.lists(st.sampled_from([1, 2, 2**62]), max_size=2), "multilabel"),
    TOOLS: (
        pa.string(),
        CELL.map(lambda cell: cell[0] + f"{cell[2]};{cell[2]}".join(cell[1]) + cell[3]),
        "multilabel",
    ),
    "json": (pa.string(), ESCAPED.map(lambda cell: cell[1] + json.dumps(cell[0], ensure_ascii=cell[2])), "multilabel"),
    "php": (pa.string(), ESCAPED.map(lambda cell: json.dumps(cell[0]).replace("/", "\\/") + cell[1]), "multilabel"),
    "python": (pa.string(), ESCAPED.map(lambda cell: repr(cell[0][:1] + [None] * cell[2] + cell[0][1:])), "multilabel"),
    "array": (pa.string(), ESCAPED.map(lambda cell: array(cell[0], cell[2]) + cell[1]), "multilabel"),
    "set": (pa.string(), LABELS.map(lambda labels: "{" + ", ".join(labels) + "}"), "multilabel"),
    "blanks": (pa.string(), LABELS.map(" ".join), "multilabel"),
    "commas": (pa.string(), LABELS.map(",".join), "multilabel"),
}  # fmt: skip
LISTS = {
    "array": ["{a}"],
    "json": ['["a"]'],
    "php": ['["a"]'],
    "python": ["['a']"],
    "set": ["{a}"],
    "blanks": ["a b"],
    "commas": ["a,b"],
}
# Of the separator and of the lengths.
FIRST_CELLS = LISTS | {
    TOOLS: ["a;b"],
    "vector": [[0.0, 0.12]],
    "half vector": [[0.0]],
}
MARKS = {
    "float64": ("0.05", "0.07"), "float32": ("0.05",), "float16": ("0.05",), "decimal": ("0.05",),
    "large": (str(2**53 + 2),), "unsigned": (str(2**64 - 2048),), "truth": ("1",), "grade": ("0.05", "1e20"),
    "day": ("1970-01-01", "1970-01-02"), "moment": ("1970-01-01", "1969-12-31"), "zoned": ("1970-01-01",),
    "zoned ns": ("1970-01-01",), "word": ("a", "it's"), "float grade": ("0.05",), "half grade": ("0.05",),
    "level": (str(2**53 + 1),), "smoker": ("true",),
}  # fmt: skip
ZONES = ("America/New_York", "Asia/Tokyo")


def column_of(name: str) -> st.SearchStrategy[pa.Table]:
    """Return tables of a column of this kind and of the rows' numbers."""
    kind, values, _ = COLUMNS[name]

    def table(cells: list[object]) -> pa.Table:
        cells = [*FIRST_CELLS.get(name, ()), *cells]
        return pa.table({name: pa.array(cells, kind, from_pandas=False), "row": pa.array(range(len(cells)))})

    return st.lists(st.none() | values, min_size=8, max_size=40).map(table)


def conditions_of(
    table: Table, name: str, marks: tuple[str, ...] | None = None, dialect: SqlDialect = DUCKDB
) -> Iterator[tuple[Condition, list[bool], str]]:
    """Yield every condition on a column, whether the engine says that it holds for each row, and its SQL."""
    roles = {name: COLUMNS[name][2], "row": "numeric"}
    (block,) = table.blocks()
    encoder = fit_encoder(table, column_roles=roles, missing={} if marks is None else {name: marks}).encoder
    plan, rows = encoder.plan, encoder.read_block(block.rows)
    columns = [column.column for column in plan.columns]
    binner = Binner.from_sample(plan, rows, Vocabulary.from_schema(table.schema, columns, {}, {}))
    bins = binner.unpack(binner.pack(rows))
    writer = SqlConditionWriter(plan, table.schema, dialect)
    for number, predicate in enumerate(binner.predicates):
        top = predicate.n_bins - 1
        for low in range(top + 1):
            for high in {low, top, top // 2} - set(range(low)):
                if predicate.column != "row" and (low, high) != (0, top):
                    condition = Condition(predicate, low, high)
                    yield (
                        condition,
                        ((bins[number] >= low) & (bins[number] <= high)).tolist(),
                        writer.sql(condition_document(condition)),
                    )
