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
from datetime import date, time, timedelta
from itertools import chain
from numbers import Number
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import require_columns
from engine.errors import RetypedColumnError, RoomsError, SourceFormatError
from engine.features.columnar_block import MISSING_CODE, ArrowColumns, RaggedLabels, ReadSpec
from engine.tables import open_table
from engine.tables.csv_dialect import MISSING
from engine.tables.number_texts import ParsedTexts
from engine.tables.records import is_missing, table_of_columns
from engine.tables.unique_ids import read_ids

_NONE = type(None)
_WORDS = frozenset(MISSING)
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
        values, kinds = self._values(name)
        if str in kinds and spec.number_format is None and (spec.form == "number" or kinds != {str}):
            self._columns[name] = _without_words(values)
            if spec.form == "number":
                self._numbers |= self._plain_numbers([name])
                if name in self._numbers:
                    return self._numbers[name], None
            values, kinds = self._values(name)
        if spec.form == "days":
            if kinds == {date}:
                return np.array([np.nan if value is None else value.toordinal() - _EPOCH for value in values]), None
            if kinds == {str} and (days := self._iso_days(name)) is not None:
                return days, ParsedTexts(days, Counter(), 0, "dates")
        return self._as_table(name, spec).numbers(name, spec)

    def category(self, name: str, spec: ReadSpec) -> tuple[NDArray[np.int32], list[str] | None]:
        """Return the code of each value, and what the codes stand for."""
        values, kinds = self._values(name)
        if str in kinds and len(kinds) > 1:  # words such as NA among numbers
            self._columns[name] = _without_words(values)
            values, kinds = self._values(name)
        if kinds != {str}:
            return self._as_table(name, spec).category(name, spec)
        position: dict[Any, int] = {None: MISSING_CODE}
        codes = [position.setdefault(value, len(position) - 1) for value in values]
        del position[None]
        return np.array(codes, np.int32), None if len(position) > spec.max_names else list(position)

    def has_text(self, name: str, texts: Sequence[float | str]) -> NDArray[np.bool_]:
        """Return whether the value of each row is written as one of the texts."""
        return self._as_table(name, ReadSpec("category")).has_text(name, texts)

    def labels(self, name: str, spec: ReadSpec) -> RaggedLabels:
        """Return lists of labels."""
        values, kinds = self._values(name)
        flat = [label for value in values if value is not None for label in value] if kinds == {list} else []
        if spec.separator is not None or kinds != {list} or not set(map(type, flat)) <= {str}:
            return self._as_table(name, spec).labels(name, spec)
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

    def _as_table(self, name: str, spec: ReadSpec) -> ArrowColumns:
        try:
            table = open_table(table_of_columns({name: self._columns[name]}))
            self._check_schema(table.schema)
        except RoomsError:
            self._refuse_misfit(name, spec)
            raise
        (block,) = table.blocks()
        return ArrowColumns(block.rows)

    def _refuse_misfit(self, name: str, spec: ReadSpec) -> None:
        """Raise an error that names the row in which a column has a value of a wrong type, or of another type."""
        present = [(row, value) for row, value in enumerate(self._columns[name]) if not is_missing(value)]
        for row, value in present:
            if not _fits(value, spec):
                raise RetypedColumnError(
                    f"Column {name!r} wants {_wanted(spec)}, but has {_kind_in_words(value)} in row {row}.",
                    hint="rows are counted from 0; null stands for a missing value.",
                )
        kinds = {_kind_in_words(value): row for row, value in reversed(present)}
        if len(kinds) > 1:
            named = ", and ".join(
                f"{kind} in row {row}" for kind, row in sorted(kinds.items(), key=lambda kind: kind[1])
            )
            raise SourceFormatError(
                f"Rows have values of different types in {name!r}: {named}.",
                hint=f"rows are counted from 0; the column wants {_wanted(spec)}.",
            )


def _without_words(values: Sequence[Any]) -> Sequence[Any]:
    """Return values with None for texts such as NA."""
    return [None if type(value) is str and value in _WORDS else value for value in values]


def _fits(value: Any, spec: ReadSpec) -> bool:
    """Tell whether a column may have a value of this type."""
    is_text, is_number = isinstance(value, str), isinstance(value, Number | np.bool_)
    if spec.form == "number":
        return is_number or isinstance(value, timedelta | time) or (is_text and spec.number_format is not None)
    if spec.form == "days":
        return is_text or isinstance(value, date | np.datetime64) or (is_number and spec.date_format is not None)
    if spec.form == "category":
        return is_text or is_number
    return is_text if spec.separator is not None else isinstance(value, list | tuple | np.ndarray)


def _wanted(spec: ReadSpec) -> str:
    """Return what the values of a column are."""
    if spec.form == "number":
        return "a number" if spec.number_format is None else "a number, or a text with one as in the table of the fit"
    if spec.form == "days":
        return "a date, such as 2024-09-04"
    if spec.form == "category":
        return "one answer: a text, a number or a truth value"
    return "a list of texts" if spec.separator is None else "one text with all answers, as in the table of the fit"


def _kind_in_words(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "a truth value"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Number):
        return "a number"
    if isinstance(value, date | np.datetime64):
        return "a date"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple | set | np.ndarray):
        return "a list"
    return "a value of another type"


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
