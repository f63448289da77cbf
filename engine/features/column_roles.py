"""Infer the role of each column from its type and its statistics, and say the reason.

    schema, first block  ->  one ReadSpec a column: how the statistics pass reads it
    column statistics    ->  one ColumnRole a column: its role, or why the column is left out

Roles: numeric, count (heavy-tailed), boolean, categorical, multilabel, date, ignore. A role set by the user is
taken as given. How a role becomes columns of X is not here: see encoding_plan.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import RECOGNISED, Block, is_binary, require_columns
from engine.config import Role
from engine.errors import RetypedColumnError, UsageError
from engine.execution.threads import map_blocks
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import PhysicalKind, ReadSpec, column_array, is_list_of_nulls, physical_kind
from engine.features.date_columns import describe_date_texts
from engine.features.key_columns import counts_rows, number_rows, row_label_reason
from engine.features.missing_marks import describe_missing_marks
from engine.features.moment_marks import find_moment_unit
from engine.features.number_columns import NUMBER_ROLES, describe_number_texts
from engine.tables.date_texts import DateFormat
from engine.tables.list_texts import SEPARATORS, WEAK_SEPARATORS, describe_separator, find_separator
from engine.tables.number_texts import NumberFormat
from engine.tables.vector_columns import vector_name
from engine.utils.formatting import format_percent

MIN_DIFFERENT = 10  # rows from which on different texts, or numbers that count the rows, are labels of rows
HASH_SPAN = 2.0**62  # between the smallest and the largest whole number: no amount reaches as far
MAX_SMALL = 50  # rows of a table in which integers may all be different by chance
ROLES: tuple[str, ...] = get_args(Role)

MAX_DISTINCT_FORCED = 1_000_000  # distinct texts counted in a column whose role the user has set
# Largest relative difference of numbers that are taken for one number with errors of rounding: 450 and 8 times the
# spacing of float64 and float32. Whole numbers, such as ids and times, may be as near to each other.
ROUNDING_FLOAT64, ROUNDING_FLOAT32 = 1e-13, 1e-6
MAX_NEGATIVE = 0.1  # share of a heavy tail's values that may be below 0, such as overdrafts: beside the tail they are 0
_ALLOWED_KINDS: dict[str, tuple[str, ...]] = {  # physical kinds that a role can be read from
    "numeric": ("number", "boolean", "text", "seconds"),
    "count": ("number", "boolean", "text", "seconds"),
    "boolean": ("number", "boolean", "text"),
    "categorical": ("text", "number", "boolean"),
    "multilabel": ("list", "text"),
    "date": ("time", "text", "number"),
}


@dataclass(frozen=True)
class ColumnRole:
    """The role of one column and the reason; `dropped` marks a column that its own values exclude."""

    column: str
    role: Role
    reason: str
    dropped: bool = False
    vector: str | None = None  # the vector column that it is an element of


def columns_read_first(schema: pa.Schema, overrides: Mapping[str, Role], skip: set[str]) -> list[str]:
    """Return the columns whose first values are read before the statistics.

    They are texts that may be several labels, numbers or dates, numbers that may be codes or dates, numbers and times
    that may have marks of missing values among them, and columns of yes and no, which may repeat a category.
    """
    undecided = {
        "text": (None, "multilabel", "date", *NUMBER_ROLES),
        "number": (None, "numeric", "count", "date", "boolean"),
        "boolean": (None, "boolean"),
        "time": (None, "date"),
        "seconds": (None, "numeric", "count"),
    }
    kinds = {column.name: physical_kind(column.type) for column in schema if column.name not in skip}
    return [name for name, kind in kinds.items() if overrides.get(name) in undecided.get(kind, ())]


def infer_read_specs(
    schema: pa.Schema,
    first: Block | None,
    formats: Mapping[str, NumberFormat],
    date_formats: Mapping[str, DateFormat],
    categories: Mapping[str, str],
    overrides: Mapping[str, Role],
    skip: set[str],
) -> dict[str, ReadSpec]:
    """Decide how the statistics pass reads each column.

    Parameters
    ----------
    schema : pyarrow.Schema
    first : Block or None
        The first rows of columns_read_first; None if the table has none.
    formats : mapping of column name to NumberFormat
        The text columns that hold numbers.
    date_formats : mapping of column name to DateFormat
        The columns of texts and numbers that hold dates.
    categories : mapping of column name to str
        The columns of numbers that are categories, and why.
    overrides, skip : as in infer_roles

    Raises
    ------
    MissingColumnError
        If a role is set for a column that the table does not have.
    RetypedColumnError
        If a column cannot be read as the role set for it.
    """
    require_columns(schema, overrides, "The table")
    read_specs = {}
    for column in schema:
        role = overrides.get(column.name)
        if column.name in skip or role == "ignore":
            continue
        kind = physical_kind(column.type)
        if role is not None and kind not in _ALLOWED_KINDS[role]:
            raise RetypedColumnError(
                f"Column {column.name!r} holds {column.type} and cannot be read as {role}.",
                hint=f"{role} is read from columns of kind {' or '.join(_ALLOWED_KINDS[role])}.",
            )
        if role is None and row_label_reason(column) is not None:
            continue
        if column.name in categories:
            read_specs[column.name] = ReadSpec("category")
            continue
        if column.name in formats:
            read_specs[column.name] = ReadSpec("number", number_format=formats[column.name])
            continue
        if column.name in date_formats:
            read_specs[column.name] = ReadSpec("days", date_format=date_formats[column.name])
            continue
        read_spec = _infer_read_spec(kind, role, first, column.name)
        if read_spec is not None:
            read_specs[column.name] = read_spec
    return read_specs


def _infer_read_spec(kind: PhysicalKind, role: Role | None, first: Block | None, name: str) -> ReadSpec | None:
    limit = ReadSpec("category").max_distinct if role is None else MAX_DISTINCT_FORCED
    if kind == "other":
        return None
    if kind == "time":
        return ReadSpec("days")
    if kind == "list":
        return ReadSpec("labels", None, limit)
    if kind == "text":
        separator = None
        if first is not None and first.has_column(name):
            separator = find_column_separator(first, name, forced=role == "multilabel")
        return ReadSpec("category" if separator is None else "labels", separator, limit)
    return ReadSpec("category", None, limit) if role == "categorical" else ReadSpec("number")


def find_column_separator(first: Block, name: str, *, forced: bool = False) -> str | None:
    """Return the separator of a multi-select text column, or None if the texts are one answer each.

    Raises
    ------
    RetypedColumnError
        If the column is `forced` to be multi-label and no text has a separator.
    """
    texts = column_array(first.rows, name).cast(pa.string()).drop_null()
    value_counts = texts.value_counts()  # each distinct text is looked at once
    distinct, counts = value_counts.field("values"), value_counts.field("counts").to_numpy()
    separator = find_separator(distinct, counts, forced=forced)
    if forced and separator is None:
        raise RetypedColumnError(
            f"Column {name!r} was set to multilabel, but none of the first {len(texts)} texts has a separator.",
            hint=f"separators are {', '.join(repr(s) for s in SEPARATORS + WEAK_SEPARATORS)}, and lists in brackets.",
        )
    return separator


def infer_roles(
    statistics: TableStatistics,
    schema: pa.Schema,
    categories: Mapping[str, str],
    overrides: Mapping[str, Role],
    skip: set[str],
) -> list[ColumnRole]:
    """Return the role of every column of the schema but `skip`, in the order of the table.

    Parameters
    ----------
    statistics : TableStatistics
    schema : pyarrow.Schema
        Field metadata `rooms.role` sets a role as the user would.
    categories : mapping of column name to str
        The columns of numbers that are categories, and why.
    overrides : mapping of column name to role
    skip : set of str
        The id column and whatever else is no feature.

    Raises
    ------
    RetypedColumnError
        If a column of more than two numbers was set to boolean.
    """

    def infer_role(column: pa.Field) -> ColumnRole:
        column_statistics = statistics.columns.get(column.name)
        override = overrides.get(column.name)
        if override == "ignore":
            return ColumnRole(column.name, "ignore", "set to ignore")
        if override is None and (reason := row_label_reason(column)) is not None:
            return ColumnRole(column.name, "ignore", reason, dropped=True)
        if column_statistics is None:
            return ColumnRole(column.name, "ignore", _unused_reason(column.type), dropped=True)
        if (reason := _uninformative_reason(column_statistics, column.type)) is not None:
            return ColumnRole(column.name, "ignore", reason, dropped=True)
        if override == "boolean":
            _check_boolean(column_statistics)
        if override is not None:
            source = vector_name(column)
            role = ColumnRole(column.name, override, "set" if source is None else "a number of a vector", vector=source)
        elif (reason := categories.get(column.name)) is not None:
            role = _infer_key_role(column_statistics, reason)
        else:
            role = _infer_from_statistics(statistics, column)
        read_spec, notes = column_statistics.read_spec, [role.reason]
        if RECOGNISED in (column.metadata or {}):
            notes.append(column.metadata[RECOGNISED].decode())
        if physical_kind(column.type) == "seconds":
            is_duration = pa.types.is_duration(column.type)
            notes.append("durations in seconds" if is_duration else "times of the day in seconds since midnight")
        if read_spec.date_format is not None:
            notes.append(describe_date_texts(column_statistics))
        if read_spec.number_format is not None:
            notes.append(describe_number_texts(column_statistics))
        if read_spec.missing and (read_spec.form in ("number", "days") or column_statistics.marks):
            notes.append(describe_missing_marks(column_statistics))
        return replace(role, reason="; ".join(notes))

    return list(map_blocks(infer_role, (column for column in schema if column.name not in skip)))


def roles_in_metadata(schema: pa.Schema) -> dict[str, Role]:
    """Return the roles that a table carries in its own field metadata (`rooms.role`)."""
    roles: dict[str, Role] = {}
    for column in schema:
        role = (column.metadata or {}).get(b"rooms.role", b"").decode()
        if role and role not in ROLES:
            raise UsageError(
                f"Column {column.name!r} carries the unknown role {role!r}.", hint=f"roles: {', '.join(ROLES)}."
            )
        if role:
            roles[column.name] = role
    return roles


def is_constant(column: ColumnStatistics, kind: pa.DataType) -> bool:
    """Tell whether the numbers of a column that are not missing are all equal, but for the last bits of some."""
    smallest, largest = column.moments.minimum, column.moments.maximum
    rounding = ROUNDING_FLOAT32 if pa.types.is_float32(kind) else ROUNDING_FLOAT64
    if column.read_spec.form != "number" or largest - smallest > rounding * max(abs(smallest), abs(largest)):
        return smallest == largest
    sample = column.sorted_sample
    return smallest == largest or not bool((sample == np.rint(sample)).all())  # whole numbers have no such last bits


def _unused_reason(kind: pa.DataType) -> str:
    """Return why columns of a type are left out."""
    if kind == pa.uuid():
        return "id-like: UUIDs"
    if pa.types.is_null(kind):
        return "all values are missing"
    if pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_union(kind):
        return "values of several parts are not used: give each part a column of its own"
    if is_binary(kind):
        return "bytes are not used"
    if is_list_of_nulls(kind):
        return "no row has a label"
    if pa.types.is_list(kind):
        return f"lists of {kind.value_type} are not used"
    return f"columns of type {kind} are not used"


def _uninformative_reason(column: ColumnStatistics, kind: pa.DataType) -> str | None:
    """Return why a column carries no information, or None if it carries some."""
    if column.n_present == 0:
        return "all values are missing"
    if column.read_spec.form in ("number", "days"):
        if is_constant(column, kind) and column.n_missing == 0:
            is_exact = column.moments.minimum == column.moments.maximum
            return "all values are equal" if is_exact else "all values are equal up to rounding"
    elif (
        not column.overflow
        and column.n_missing == 0
        and column.read_spec.form == "category"
        and len(column.counts) == 1
    ):
        return "all values are equal"
    elif column.read_spec.form == "labels" and not column.counts and not column.overflow:
        return "no row has a label"
    return None


def _check_boolean(column: ColumnStatistics) -> None:
    """Raise RetypedColumnError if a column that was set to boolean holds more than two numbers."""
    n_distinct = len(np.unique(column.sorted_sample))
    if n_distinct > 2:
        raise RetypedColumnError(
            f"Column {column.name!r} was set to boolean, but holds {n_distinct:,} different numbers.",
            hint=f"a boolean has two, such as 0 and 1; leave the role out, or set --role {column.name}=numeric.",
        )


def _infer_key_role(column: ColumnStatistics, reason: str) -> ColumnRole:
    """Return the role of a column of numbers that name things: a category, or nothing if most rows have their own."""
    limit = column.read_spec.max_distinct
    n_distinct = f"more than {limit:,}" if column.overflow else f"{len(column.counts):,}"
    one_each = len(column.counts) == column.n_present
    id_like = column.overflow or one_each or (len(column.counts) > 50 and len(column.counts) > 0.5 * column.n_present)
    reason = f"{reason}: {n_distinct} different values"
    return ColumnRole(column.name, "ignore" if id_like else "categorical", reason, dropped=id_like)


def _infer_from_statistics(statistics: TableStatistics, field: pa.Field) -> ColumnRole:
    name = field.name
    column = statistics.columns[name]
    if column.read_spec.form == "labels":
        if column.overflow:
            return ColumnRole(
                name, "ignore", f"more than {column.read_spec.max_distinct:,} different labels", dropped=True
            )
        separator = column.read_spec.separator
        how = "lists" if separator is None else describe_separator(separator)
        return ColumnRole(name, "multilabel", f"{how} of {len(column.counts)} labels")
    if column.read_spec.form == "category":
        if column.overflow:
            return ColumnRole(
                name, "ignore", f"more than {column.read_spec.max_distinct:,} different texts", dropped=True
            )
        if len(column.counts) > 50 and len(column.counts) > 0.5 * column.n_present:
            return ColumnRole(name, "ignore", "id-like: most rows have a text of their own", dropped=True)
        if len(column.counts) == column.n_present >= MIN_DIFFERENT:
            return ColumnRole(name, "ignore", "id-like: every row has a text of its own", dropped=True)
        return ColumnRole(name, "categorical", f"{len(column.counts)} different texts")
    if column.read_spec.form == "days":
        return ColumnRole(name, "date", "dates")
    return _infer_number_role(statistics, field)


def _infer_number_role(statistics: TableStatistics, field: pa.Field) -> ColumnRole:
    name, kind, integer = field.name, physical_kind(field.type), pa.types.is_integer(field.type)
    column = statistics.columns[name]
    sample = column.sorted_sample
    if column.read_spec.number_format is not None:
        integer = bool((sample == np.rint(sample)).all())
    n_distinct = 1 + int(np.count_nonzero(sample[1:] != sample[:-1]))
    if kind == "boolean" or n_distinct <= 2:
        return ColumnRole(name, "boolean", "true or false" if kind == "boolean" else "two different values")
    different = integer and n_distinct == len(sample) and column.n_present >= MIN_DIFFERENT
    if different and _number_rows(statistics, name) and find_moment_unit(name, sample) is None:
        return ColumnRole(name, "ignore", "id-like: every row has a number of its own", dropped=True)
    if integer and column.moments.maximum - column.moments.minimum >= HASH_SPAN:
        return ColumnRole(name, "ignore", "id-like: whole numbers from all over 64 bits, as hashes are", dropped=True)
    negative = float(np.searchsorted(sample, 0.0)) / max(len(sample), 1)
    if negative <= MAX_NEGATIVE and len(sample) >= 20:
        skew, logged = _skewness(sample), _skewness(np.log1p(np.maximum(sample, 0.0)))
        if skew > 1.5 and abs(logged) < 0.75 * skew:
            as_zero = f"; {format_percent(negative)} are below 0 and count as 0" if negative else ""
            reason = f"heavy right tail (skewness {skew:.1f}, {logged:.1f} after log1p){as_zero}"
            return ColumnRole(name, "count", reason)
    return ColumnRole(name, "numeric", f"{'integers' if integer else 'numbers'}")


def _number_rows(statistics: TableStatistics, name: str) -> bool:
    """Tell whether different integers are labels of rows; in small tables only if they count the rows one by one."""
    column, in_order = statistics.columns[name], statistics.in_row_order(name)
    if column.n_present <= MAX_SMALL:
        return counts_rows(in_order)
    span = column.moments.maximum - column.moments.minimum + 1
    return span == column.n_rows or number_rows(name, in_order)


def _skewness(values: NDArray[np.float64]) -> float:
    """Return the third standardised moment of ascending values, NaN if they are equal up to rounding."""
    if values[-1] - values[0] <= ROUNDING_FLOAT64 * abs(values[-1]):
        return np.nan
    deviations = values - values.mean()
    squares = np.square(deviations)
    return float((squares * deviations).mean() / squares.mean() ** 1.5)
