"""Compute the weight of each column; a group of columns shares one weight, however many columns it has.

    used columns, groups, variances of vector elements  ->  ColumnWeights: weights that average 1

A group's columns together have `weight` out of the sum of all groups' weights, so that interests and demographics can
balance. Without groups every column weighs the same. A table can carry its groups in its own field metadata
(`rooms.group`). The elements of a vector count as one column, and share its weight in proportion to their variances.
So do columns that say one thing (repeated_columns.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.config import GroupConfig
from engine.errors import UsageError
from engine.features.repeated_columns import RepeatedColumns
from engine.tables.vector_columns import vector_name

REST = "rest"  # the group of the columns that are in no other group


@dataclass(frozen=True)
class ColumnGroup:
    """Columns that share a weight; `from_table` if the table's metadata grouped them, and not the settings."""

    columns: tuple[str, ...]
    weight: float
    from_table: bool


@dataclass(frozen=True)
class ColumnWeights:
    """The weight of every used column, and the groups and repeated columns that they follow from, if there are any."""

    by_column: dict[str, float]
    groups: dict[str, ColumnGroup]
    repeated: tuple[RepeatedColumns, ...] = ()

    @classmethod
    def from_facts(
        cls, by_column: dict[str, float], groups: Mapping[str, Any], repeated: Iterable[Mapping[str, Any]]
    ) -> ColumnWeights:
        """Return the weights whose groups and repeated columns were stored as plain values."""
        return cls(
            by_column,
            {name: ColumnGroup(**group | {"columns": tuple(group["columns"])}) for name, group in groups.items()},
            tuple(
                RepeatedColumns(tuple(found["columns"]), tuple(found["shares"]), found["reason"]) for found in repeated
            ),
        )

    def notice(self) -> str | None:
        """Return a sentence for the user if the table's own groups decide the weights; None otherwise."""
        named = [f"{name} ({len(group.columns)})" for name, group in self.groups.items() if group.from_table]
        if not named:
            return None
        shares = " : ".join(f"{group.weight:g}" for group in self.groups.values())
        return f"The table groups its columns: {', '.join(named)}. Groups weigh {shares}, however wide they are."


def find_owners(schema: pa.Schema, used: Sequence[str], groups: Mapping[str, GroupConfig]) -> dict[str, str]:
    """Return the group of every used column; parameters and errors as in compute_weights."""
    source_of = {field.name: vector_name(field) or field.name for field in schema}
    owners = _configured_owners(source_of, groups)
    return {name: owners.get(source_of[name], metadata_group(schema, name)) for name in used}


def compute_weights(
    schema: pa.Schema,
    used: Sequence[str],
    groups: Mapping[str, GroupConfig],
    variances: Mapping[str, float],
    repeated: Sequence[RepeatedColumns] = (),
) -> ColumnWeights:
    """Compute the weight of every used column; the weights of columns that say different things average 1.

    Parameters
    ----------
    schema : pyarrow.Schema
    used : sequence of str
        The columns that become features.
    groups : mapping of group name to GroupConfig
        Columns and weight of each group. A group without columns takes those that carry its name in their
        metadata; `rest` stands for the columns in no group.
    variances : mapping of column name to float
        The variance of every element of a vector column.
    repeated : sequence of RepeatedColumns
        Columns of one group that say one thing: they count as one column.

    Raises
    ------
    UsageError
        If a column is in two groups, a group's column is not in the table, or no column is in a group.
    """
    source_of = {field.name: vector_name(field) or field.name for field in schema}
    owners = _configured_owners(source_of, groups)
    group_of = find_owners(schema, used, groups)
    unknown = [group for group in groups if group not in {*group_of.values(), *owners.values()}]
    if unknown:
        known = ", ".join(sorted(set(group_of.values())))
        raise UsageError(
            f"No column is in group {unknown[0]!r}.",
            hint=f"the groups are: {known}. `features: groups:` in the configuration makes a group of columns.",
        )
    columns_of: dict[str, list[str]] = {}
    group_of_source: dict[str, str] = {}
    for name in used:
        group_of_source.setdefault(source_of[name], group_of[name])
    for source, group in group_of_source.items():
        columns_of.setdefault(group, []).append(source)
    shares = _vector_shares(source_of, used, variances)
    shares |= {name: share for found in repeated for name, share in zip(found.columns, found.shares, strict=True)}
    if set(columns_of) <= {REST}:
        return ColumnWeights(shares, {}, tuple(repeated))
    weight = {group: groups[group].weight if group in groups else 1.0 for group in columns_of}
    total = sum(weight.values())
    if total <= 0:
        raise UsageError("The groups' weights must not all be 0.")
    n_things = {group: len(columns) for group, columns in columns_of.items()}
    for found in repeated:
        n_things[group_of[found.columns[0]]] -= len(found.columns) - 1
    n_columns = sum(n_things.values())
    by_column = {
        name: shares[name] * n_columns * weight[group] / (total * n_things[group]) for name, group in group_of.items()
    }
    used_groups = {
        group: ColumnGroup(tuple(columns), weight[group], group != REST and not set(columns) <= set(owners))
        for group, columns in columns_of.items()
    }
    return ColumnWeights(by_column, used_groups, tuple(repeated))


def _configured_owners(source_of: Mapping[str, str], groups: Mapping[str, GroupConfig]) -> dict[str, str]:
    """Return the group of every column that the settings put into one."""
    owners: dict[str, str] = {}
    for group, config in groups.items():
        for name in config.columns:
            if name not in source_of.values():
                raise UsageError(f"Group {group!r} names column {name!r}, which the table does not have.")
            if owners.setdefault(name, group) != group:
                raise UsageError(f"Column {name!r} is in the groups {owners[name]!r} and {group!r}.")
    return owners


def _vector_shares(
    source_of: Mapping[str, str], used: Sequence[str], variances: Mapping[str, float]
) -> dict[str, float]:
    """Return each column's share of its source column: 1 for a plain column, of the variance for an element.

    Elements that do not vary, but are missing in some rows, have equal shares.
    """
    totals: dict[str, float] = {}
    for name in used:
        totals[source_of[name]] = totals.get(source_of[name], 0.0) + variances.get(name, 1.0)
    counts = Counter(source_of[name] for name in used)
    shares = {}
    for name in used:
        total = totals[source_of[name]]
        shares[name] = variances.get(name, 1.0) / total if total > 0 else 1.0 / counts[source_of[name]]
    return shares


def metadata_group(schema: pa.Schema, name: str) -> str:
    """Return the group that a column's metadata names, REST if they name none."""
    return (schema.field(name).metadata or {}).get(b"rooms.group", b"").decode() or REST
