"""What a column is: its role, inferred from its type and its statistics, and always with the reason.

    schema + first block  ->  readings (how to read a column)
    statistics            ->  roles (what it is), or the reason why it is left out

Roles: numeric, count (heavy-tailed), boolean, categorical, multilabel, date, ignore. A role set by the user is
taken as given. How a role becomes columns of X is not here: see encoding_plan.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.blocks import Block, require_columns
from engine.config import Role
from engine.errors import RetypedColumnError, UsageError
from engine.execution.threads import map_blocks
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import Kind, Reading, array_of, kind_of, labels_of
from engine.tables.vector_columns import vector_of

ROLES: tuple[str, ...] = get_args(Role)

SEPARATORS = ("; ", ";", "|", ", ")
FORCED_DISTINCT = 1_000_000  # texts counted in a column whose role the user has set
_FORMS: dict[str, tuple[str, ...]] = {  # physical kinds a role can be read from
    "numeric": ("number", "boolean"),
    "count": ("number", "boolean"),
    "boolean": ("number", "boolean"),
    "categorical": ("text", "number", "boolean"),
    "multilabel": ("list", "text"),
    "date": ("time",),
}


@dataclass(frozen=True)
class RoleOf:
    """The role of one column and why; `dropped` marks columns that were left out for what they hold."""

    column: str
    role: Role
    reason: str
    dropped: bool = False
    vector: str | None = None  # the column of vectors that it is a number of


def texts_to_look_at(schema: pa.Schema, overrides: Mapping[str, Role], skip: set[str]) -> list[str]:
    """Return the columns of text that could hold one answer each or several: their texts decide."""
    open_to = (None, "multilabel")
    found = [column.name for column in schema if kind_of(column.type) == "text"]
    return [name for name in found if name not in skip and overrides.get(name) in open_to]


def readings(
    schema: pa.Schema, first: Block | None, overrides: Mapping[str, Role], skip: set[str]
) -> dict[str, Reading]:
    """Decide how every column is read in the pass of statistics.

    Parameters
    ----------
    schema : pyarrow.Schema
    first : Block or None
        The first rows of the texts_to_look_at; None if there are no such columns.
    overrides, skip : as in infer

    Raises
    ------
    MissingColumnError
        If a role is set for a column that is not there.
    RetypedColumnError
        If a column cannot be read as the role set for it.
    """
    require_columns(schema, overrides, "The table")
    chosen = {}
    for column in schema:
        role = overrides.get(column.name)
        if column.name in skip or role == "ignore":
            continue
        kind = kind_of(column.type)
        if role is not None and kind not in _FORMS[role]:
            raise RetypedColumnError(
                f"Column {column.name!r} holds {column.type} and cannot be read as {role}.",
                hint=f"{role} is read from columns of kind {' or '.join(_FORMS[role])}.",
            )
        reading = _reading(kind, role, first, column.name)
        if reading is not None:
            chosen[column.name] = reading
    return chosen


def _reading(kind: Kind, role: Role | None, first: Block | None, name: str) -> Reading | None:
    limit = Reading("category").max_distinct if role is None else FORCED_DISTINCT
    if kind == "other":
        return None
    if kind == "time":
        return Reading("days")
    if kind == "list":
        return Reading("labels", None, limit)
    if kind == "text":
        separator = None
        if first is not None and name in first.rows.column_names:
            separator = find_separator(first, name, forced=role == "multilabel")
        return Reading("category" if separator is None else "labels", separator, limit)
    return Reading("category", None, limit) if role == "categorical" else Reading("number")


def find_separator(first: Block, name: str, *, forced: bool = False) -> str | None:
    """Return the separator of a multi-select text column, or None if the texts are one answer each.

    Multi-select answers combine few labels in many ways: so there must be clearly more different texts than
    different labels, and the average label must come up often.

    Raises
    ------
    RetypedColumnError
        If the column is `forced` to be multi-label and no text has a separator.
    """
    texts = array_of(first.rows, name).cast(pa.string()).drop_null()
    counted = texts.value_counts()  # few answers come many times: each is looked at once
    different, counts = counted.field("values"), counted.field("counts").to_numpy()
    for separator in SEPARATORS:
        n_with_it = counts[pc.match_substring(different, separator).to_numpy(zero_copy_only=False)].sum()
        if n_with_it == 0 or (not forced and n_with_it < 0.02 * len(texts)):
            continue
        labels = labels_of(different, separator, FORCED_DISTINCT)
        n_labels, n_mentions = len(labels.names or ()), int((np.diff(labels.offsets) * counts).sum())
        if forced or (len(different) >= 1.5 * n_labels and n_mentions >= 5 * n_labels):
            return separator
    if forced:
        raise RetypedColumnError(
            f"Column {name!r} was set to multilabel, but none of the first {len(texts)} texts has a separator.",
            hint=f"separators are {', '.join(repr(s) for s in SEPARATORS)}.",
        )
    return None


def infer(
    statistics: TableStatistics, schema: pa.Schema, overrides: Mapping[str, Role], skip: set[str]
) -> list[RoleOf]:
    """Return the role of every column of the schema but `skip`, in the order of the table.

    Parameters
    ----------
    statistics : TableStatistics
    schema : pyarrow.Schema
        Field metadata `rooms.role` sets a role as the user would.
    overrides : mapping of column name to role
    skip : set of str
        The id column and whatever else is no feature.
    """

    def role_of(column: pa.Field) -> RoleOf:
        found = statistics.columns.get(column.name)
        wanted = overrides.get(column.name)
        if wanted == "ignore":
            return RoleOf(column.name, "ignore", "set to ignore")
        if found is None:
            return RoleOf(column.name, "ignore", f"columns of type {column.type} are not used", dropped=True)
        if (nothing := _says_nothing(found)) is not None:
            return RoleOf(column.name, "ignore", nothing, dropped=True)
        if wanted is not None:
            source = vector_of(column)
            return RoleOf(column.name, wanted, "set" if source is None else "a number of a vector", vector=source)
        return _inferred(found, kind_of(column.type), pa.types.is_integer(column.type))

    return list(map_blocks(role_of, (column for column in schema if column.name not in skip)))


def roles_in_metadata(schema: pa.Schema) -> dict[str, Role]:
    """Return the roles that a table carries in its own field metadata (`rooms.role`)."""
    found: dict[str, Role] = {}
    for column in schema:
        role = (column.metadata or {}).get(b"rooms.role", b"").decode()
        if role and role not in ROLES:
            raise UsageError(
                f"Column {column.name!r} carries the unknown role {role!r}.", hint=f"roles: {', '.join(ROLES)}."
            )
        if role:
            found[column.name] = role
    return found


def _says_nothing(found: ColumnStatistics) -> str | None:
    """Return why a column cannot tell rows apart, or None if it can."""
    if found.n_present == 0:
        return "all values are missing"
    if found.reading.form in ("number", "days"):
        if found.moments.minimum == found.moments.maximum and found.n_missing == 0:
            return "all values are equal"
    elif not found.overflow and found.n_missing == 0 and found.reading.form == "category" and len(found.counts) == 1:
        return "all values are equal"
    elif found.reading.form == "labels" and not found.counts and not found.overflow:
        return "no row has a label"
    return None


def _inferred(found: ColumnStatistics, kind: Kind, integer: bool) -> RoleOf:
    name = found.name
    if found.reading.form == "labels":
        if found.overflow:
            return RoleOf(name, "ignore", f"more than {found.reading.max_distinct:,} different labels", dropped=True)
        how = "lists" if found.reading.separator is None else f"texts joined by {found.reading.separator!r}"
        return RoleOf(name, "multilabel", f"{how} of {len(found.counts)} labels")
    if found.reading.form == "category":
        if found.overflow:
            return RoleOf(name, "ignore", f"more than {found.reading.max_distinct:,} different texts", dropped=True)
        if len(found.counts) > 50 and len(found.counts) > 0.5 * found.n_present:
            return RoleOf(name, "ignore", "id-like: most rows have a text of their own", dropped=True)
        return RoleOf(name, "categorical", f"{len(found.counts)} different texts")
    if found.reading.form == "days":
        return RoleOf(name, "date", "dates")
    return _inferred_number(found, kind, integer)


def _inferred_number(found: ColumnStatistics, kind: Kind, integer: bool) -> RoleOf:
    name, sample = found.name, found.sorted_sample
    n_distinct = 1 + int(np.count_nonzero(sample[1:] != sample[:-1]))
    if kind == "boolean" or n_distinct <= 2:
        return RoleOf(name, "boolean", "true or false" if kind == "boolean" else "two different values")
    if integer and n_distinct == len(sample) and found.n_present > 50:
        span = found.moments.maximum - found.moments.minimum + 1
        if span == found.n_rows or re.search(r"(^|_| )(id|key|uuid)$|Id$|ID$", name):
            return RoleOf(name, "ignore", "id-like: every row has a number of its own", dropped=True)
    if found.moments.minimum >= 0 and len(sample) >= 20:
        skew, logged = _skewness(sample), _skewness(np.log1p(sample))
        if skew > 1.5 and abs(logged) < 0.75 * skew:
            return RoleOf(name, "count", f"heavy right tail (skewness {skew:.1f}, {logged:.1f} after log1p)")
    return RoleOf(name, "numeric", f"{'integers' if integer else 'numbers'}")


def _skewness(values: NDArray[np.float64]) -> float:
    """Return the third standardised moment of values that are not all equal."""
    deviations = values - values.mean()
    squares = np.square(deviations)
    return float((squares * deviations).mean() / squares.mean() ** 1.5)
