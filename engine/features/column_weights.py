"""How much each column counts: groups of columns share a weight, so that interests and demographics balance.

A group's columns together have `weight` out of the sum of all groups' weights, however many they are. Without
groups every column counts the same. A table can carry its groups in its own field metadata (`rooms.group`). The numbers
of a vector are one column, of which each has the share that its variance has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.config import GroupConfig
from engine.errors import UsageError
from engine.tables.vector_columns import vector_of

REST = "rest"  # the group of columns that are in no other


@dataclass(frozen=True)
class Group:
    """Columns that share a weight, and who put them together: the table's own metadata, or the settings."""

    columns: tuple[str, ...]
    weight: float
    from_table: bool


@dataclass(frozen=True)
class Weights:
    """Every used column's weight, which average 1, and the groups behind them; no groups: all columns weigh 1."""

    of_columns: dict[str, float]
    groups: dict[str, Group]

    def notice(self) -> str | None:
        """Return a sentence for people if the table's own groups decide weights nobody has set."""
        told = [f"{name} ({len(group.columns)})" for name, group in self.groups.items() if group.from_table]
        if not told:
            return None
        shares = " : ".join(f"{group.weight:g}" for group in self.groups.values())
        return f"The table groups its columns: {', '.join(told)}. Groups weigh {shares}, however wide they are."


def column_weights(
    schema: pa.Schema, used: Sequence[str], groups: Mapping[str, GroupConfig], variances: Mapping[str, float]
) -> Weights:
    """Return every used column's weight; weights average 1.

    Parameters
    ----------
    schema : pyarrow.Schema
    used : sequence of str
        Columns that are features.
    groups : mapping of group name to GroupConfig
        Columns and weight of each group. A group without columns takes those that carry its name in their
        metadata; `rest` stands for the columns in no group.
    variances : mapping of column name to float
        Of the numbers of vectors.

    Raises
    ------
    UsageError
        If a column is in two groups, or a group's columns are not in the table.
    """
    group_of = {name: metadata_group(schema, name) for name in used}
    source_of = {field.name: vector_of(field) or field.name for field in schema}
    owners: dict[str, str] = {}
    for group, config in groups.items():
        for name in config.columns:
            if name not in source_of.values():
                raise UsageError(f"Group {group!r} names column {name!r}, which the table does not have.")
            if owners.setdefault(name, group) != group:
                raise UsageError(f"Column {name!r} is in the groups {owners[name]!r} and {group!r}.")
    group_of |= {name: owners[source_of[name]] for name in used if source_of[name] in owners}
    unknown = [group for group in groups if group not in {*group_of.values(), *owners.values()}]
    if unknown:
        known = ", ".join(sorted(set(group_of.values())))
        raise UsageError(f"No column is in group {unknown[0]!r}.", hint=f"the groups are: {known}.")
    columns_of: dict[str, list[str]] = {}
    for source in dict.fromkeys(source_of[name] for name in used):
        columns_of.setdefault(next(group_of[name] for name in used if source_of[name] == source), []).append(source)
    shares = _shares(source_of, used, variances)
    if set(columns_of) <= {REST}:
        return Weights(shares, {})
    weight = {group: groups[group].weight if group in groups else 1.0 for group in columns_of}
    total = sum(weight.values())
    if total <= 0:
        raise UsageError("The groups' weights must not all be 0.")
    n_columns = sum(map(len, columns_of.values()))
    of_columns = {
        name: shares[name] * n_columns * weight[group] / (total * len(columns_of[group]))
        for name, group in group_of.items()
    }
    found = {
        group: Group(tuple(columns), weight[group], group != REST and not set(columns) <= set(owners))
        for group, columns in columns_of.items()
    }
    return Weights(of_columns, found)


def _shares(source_of: Mapping[str, str], used: Sequence[str], variances: Mapping[str, float]) -> dict[str, float]:
    """Return which part of the column that it comes from each column is."""
    totals: dict[str, float] = {}
    for name in used:
        totals[source_of[name]] = totals.get(source_of[name], 0.0) + variances.get(name, 1.0)
    return {name: variances.get(name, 1.0) / totals[source_of[name]] for name in used}


def metadata_group(schema: pa.Schema, name: str) -> str:
    """Return the group that a column carries in its metadata, REST if it carries none."""
    return (schema.field(name).metadata or {}).get(b"rooms.group", b"").decode() or REST
