"""How much each column counts: groups of columns share a weight, so that interests and demographics balance.

A group's columns together have `weight` out of the sum of all groups' weights, however many they are. Without
groups every column counts the same. A table can carry its groups in its own field metadata (`rooms.group`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.config import GroupConfig
from engine.errors import UsageError

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


def column_weights(schema: pa.Schema, used: Sequence[str], groups: Mapping[str, GroupConfig]) -> Weights:
    """Return every used column's weight; weights average 1.

    Parameters
    ----------
    schema : pyarrow.Schema
    used : sequence of str
        Columns that are features.
    groups : mapping of group name to GroupConfig
        Columns and weight of each group. A group without columns takes those that carry its name in their
        metadata; `rest` stands for the columns in no group.

    Raises
    ------
    UsageError
        If a column is in two groups, or a group's columns are not in the table.
    """
    group_of = {name: metadata_group(schema, name) for name in used}
    owners: dict[str, str] = {}
    for group, config in groups.items():
        for name in config.columns:
            if name not in schema.names:
                raise UsageError(f"Group {group!r} names column {name!r}, which the table does not have.")
            if owners.setdefault(name, group) != group:
                raise UsageError(f"Column {name!r} is in the groups {owners[name]!r} and {group!r}.")
            if name in group_of:
                group_of[name] = group
    unknown = [group for group in groups if group not in {*group_of.values(), *owners.values()}]
    if unknown:
        known = ", ".join(sorted(set(group_of.values())))
        raise UsageError(f"No column is in group {unknown[0]!r}.", hint=f"the groups are: {known}.")
    sizes: dict[str, int] = {}
    for group in group_of.values():
        sizes[group] = sizes.get(group, 0) + 1
    if set(sizes) <= {REST}:
        return Weights(dict.fromkeys(used, 1.0), {})
    weight = {group: groups[group].weight if group in groups else 1.0 for group in sizes}
    total = sum(weight.values())
    if total <= 0:
        raise UsageError("The groups' weights must not all be 0.")
    of_columns = {name: len(used) * weight[group] / (total * sizes[group]) for name, group in group_of.items()}
    found = {}
    for group in sizes:
        columns = tuple(name for name in used if group_of[name] == group)
        found[group] = Group(columns, weight[group], group != REST and not set(columns) <= set(owners))
    return Weights(of_columns, found)


def metadata_group(schema: pa.Schema, name: str) -> str:
    """Return the group that a column carries in its metadata, REST if it carries none."""
    return (schema.field(name).metadata or {}).get(b"rooms.group", b"").decode() or REST
