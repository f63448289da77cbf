"""Read the columns of rows that are dicts, such as those of JSON, as columnar_block.py reads those of a table.

    dicts, ReadSpec  ->  the values, codes or labels that the same rows have as a table

A column of a table costs as much for ten rows as for a thousand, so ten rows of thirty columns take several times as
long by way of a table. Only plain values are read here: numbers, texts, dates and lists of texts. Columns of anything
else, such as texts that hold numbers, become columns of a table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import require_columns
from engine.features.columnar_block import MISSING_CODE, ArrowColumns, RaggedLabels, ReadSpec
from engine.tables import open_table
from engine.tables.number_texts import ParsedTexts
from engine.tables.records import table_of_columns
from engine.tables.unique_ids import read_ids

_NONE = type(None)
_PLAIN_NUMBERS = {int, float, _NONE}
_EXACT = 2.0**53  # whole numbers below it are doubles
_EPOCH = date(1970, 1, 1).toordinal()
_ISO_DATES = re.compile("((?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2},)*")


class RecordColumns:
    """The columns of rows that are dicts. A column that a dict lacks is missing in its row.

    Parameters
    ----------
    records : sequence of mappings
    columns : sequence of str
        The columns that at least one row must have.
    numbers : sequence of str
        Those of them that are numbers.
    check_schema : callable
        Raises an error if a column of the given schema has a type that cannot be read.

    Raises
    ------
    MissingColumnError
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        columns: Sequence[str],
        numbers: Sequence[str],
        check_schema: Callable[[pa.Schema], None],
    ) -> None:
        self._records, self._check_schema = records, check_schema
        present = set().union(*records)
        if not present.issuperset(columns):
            require_columns(pa.schema([(name, pa.null()) for name in sorted(present)]), columns, "The table")
        self._columns = dict(zip(columns, self._transpose(columns), strict=True))
        self._numbers = self._plain_numbers(numbers)
        self._days: dict[str, NDArray[np.float64] | None] = {}

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self._records)

    def are_plain(self, read_specs: Mapping[str, ReadSpec]) -> bool:
        """Tell whether no column becomes one of a table: then a row is read alike whatever other rows there are."""
        return all(name in self._numbers or self._is_plain(name, spec) for name, spec in read_specs.items())

    def numbers(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.float64], ParsedTexts | None]:
        """Return numbers, or days since 1970-01-01, with NaN; and what was parsed if they are texts."""
        plain = self._numbers.get(name)
        if plain is not None:
            return plain, None
        if spec.form == "days":
            values, kinds = self._values(name)
            if kinds == {date}:
                return np.array([np.nan if value is None else value.toordinal() - _EPOCH for value in values]), None
            if kinds == {str} and (days := self._iso_days(name)) is not None:
                return days, ParsedTexts(days, Counter(), 0, "dates")
        return self._as_table(name).numbers(name, spec)

    def category(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.int32], list[str] | None]:
        """Return the code of each value, and what the codes stand for."""
        values, kinds = self._values(name)
        if kinds != {str}:
            return self._as_table(name).category(name, spec)
        position: dict[Any, int] = {None: MISSING_CODE}
        codes = [position.setdefault(value, len(position) - 1) for value in values]
        del position[None]
        return np.array(codes, np.int32), None if len(position) > spec.max_names else list(position)

    def has_text(self, name: str, texts: Sequence[float | str]) -> NDArray[np.bool_]:
        """Return whether the value of each row is written as one of the texts."""
        return self._as_table(name).has_text(name, texts)

    def labels(self, name: str, spec: ReadSpec) -> RaggedLabels:
        """Return lists of labels."""
        values, kinds = self._values(name)
        flat = [label for value in values if value is not None for label in value] if kinds == {list} else []
        if spec.separator is not None or kinds != {list} or not set(map(type, flat)) <= {str}:
            return self._as_table(name).labels(name, spec)
        position = {label: k for k, label in enumerate(dict.fromkeys(flat))}
        codes = np.array([MISSING_CODE if label == "" else position[label] for label in flat], np.int32)
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
        names = None if len(position) > spec.max_names else list(position)
        return RaggedLabels(offsets, codes, names, np.array([value is None for value in values]))

    def ids(self, name: str) -> pa.Array | pa.ChunkedArray:
        """Return the ids of the rows.

        Raises
        ------
        MissingColumnError, IdColumnError, SourceFormatError
        """
        values = [record.get(name) for record in self._records]
        if set(map(type, values)) in ({int}, {str}) and values:
            try:
                return pa.array(values)
            except (OverflowError, UnicodeEncodeError):
                pass  # the table says what is wrong
        present = set().union(*self._records)
        require_columns(pa.schema([(column, pa.null()) for column in sorted(present)]), [name], "The table")
        table = open_table(table_of_columns({name: values}), id=name)
        (block,) = table.blocks([name])
        return read_ids(block, name)

    def _transpose(self, columns: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Return the values of each column."""
        if len(columns) > 1:
            try:
                return list(zip(*map(itemgetter(*columns), self._records), strict=True))
            except KeyError:  # a row lacks a column
                pass
        return [[record.get(name) for record in self._records] for name in columns]

    def _plain_numbers(self, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return the columns of plain, finite numbers; truth values are numbers where all of a column are some."""
        values = [self._columns[name] for name in names]
        kinds = set(map(type, chain.from_iterable(values)))
        if not kinds <= _PLAIN_NUMBERS:
            wanted = [set(map(type, column)) for column in values]
            names = [n for n, k in zip(names, wanted, strict=True) if k <= _PLAIN_NUMBERS or k <= {bool, _NONE}]
            values = [self._columns[name] for name in names]
        try:
            numbers = np.array(values, np.float64).reshape(len(names), self.n_rows)
        except OverflowError:  # a whole number that no double reaches
            return {}
        large = (np.abs(numbers) >= _EXACT).any(axis=1)
        return {names[row]: numbers[row] for row in np.flatnonzero(~large).tolist()}

    def _values(self, name: str) -> tuple[Sequence[Any], set[type]]:
        values = self._columns[name]
        kinds = set(map(type, values))
        kinds.discard(_NONE)
        return values, kinds

    def _is_plain(self, name: str, spec: ReadSpec) -> bool:
        values, kinds = self._values(name)
        if spec.form == "days":
            return kinds <= {date} or (kinds <= {str} and self._iso_days(name) is not None)
        if spec.form == "labels":
            lists = (value for value in values if value is not None)
            are_lists = spec.separator is None and kinds <= {list}
            return are_lists and set(map(type, chain.from_iterable(lists))) <= {str}
        return spec.form == "category" and kinds <= {str}

    def _iso_days(self, name: str) -> NDArray[np.float64] | None:
        if name not in self._days:
            self._days[name] = _iso_days(self._columns[name])
        return self._days[name]

    def _as_table(self, name: str) -> ArrowColumns:
        table = open_table(table_of_columns({name: self._columns[name]}))
        self._check_schema(table.schema)
        (block,) = table.blocks()
        return ArrowColumns(block.rows)


def _iso_days(values: Sequence[str | None]) -> NDArray[np.float64] | None:
    """Return the days of texts such as 2024-09-04 since 1970-01-01, None if one of them is another text."""
    given = [value for value in values if value is not None]
    if _ISO_DATES.fullmatch("".join(f"{value}," for value in given)) is None:
        return None
    try:
        of_given = np.array(given, "datetime64[D]").astype(np.float64)
    except ValueError:  # the calendar has no such day
        return None
    days = np.full(len(values), np.nan)
    days[[value is not None for value in values]] = of_given
    return days
