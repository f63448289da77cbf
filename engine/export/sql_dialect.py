"""The parts of SQL that databases write differently: literals, names, and the functions that rules and models need.

    a name, value or column  ->  its text in one dialect

`SqlDialect` holds what most databases share; a class a database overrides the rest, and says what it cannot write.
Which part a condition needs: engine/explain/export_sql.py; a model: sql_encoder.py and sql_model.py. Spark, BigQuery
and Snowflake: sql_cloud_dialects.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

import numpy as np
import pyarrow as pa

from engine.tables.list_texts import is_list, joining_steps
from engine.utils.formatting import format_iso_day

_EPOCH = datetime(1970, 1, 1)
# Decimal literals of up to 15 digits become the nearest double: digits and power of ten are exact, and divided once.
EXACT_DIGITS = 15
DAY_IN_MILLISECONDS = "86400000.0"
# What the engine strips from both ends of a text of several labels: pyarrow's utf8_trim_whitespace.
STRIPPED = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
STRIPPED += "\u2028\u2029\u202f\u205f\u3000"


# What a database may be unable to read.
LISTS, VECTORS, BRACKETS = "lists", "vectors", "lists in brackets within a text"
LINES = "answers on lines of their own within a text"
SECONDS = "durations and times of the day"
NUMBER_TEXTS, DATE_TEXTS, WORDY_DATES = "numbers in texts", "dates in texts", "dates in texts that are not year first"
MOST_ARGUMENTS = 50  # of a function: SQLite takes 127 at most


class SqlDialect:
    """What most databases write alike."""

    name: str
    lacks: frozenset[str] = frozenset()
    row_limit = ""  # at the end of a subquery that is to be computed once, not once per use
    with_keyword = "AS"  # of a subquery with a name
    double_type = "DOUBLE PRECISION"
    dates_are_texts = False
    note = ""  # what a reader of the statement has to know

    def identifier(self, name: str) -> str:
        """Return a quoted name."""
        return '"' + name.replace('"', '""') + '"'

    def text(self, value: str) -> str:
        """Return a text literal; characters that an editor may change or hide are written by their number."""
        parts = []
        for printable, characters in groupby(value, str.isprintable):
            run = "".join(characters)
            parts += ["'" + run.replace("'", "''") + "'"] if printable else [self.character(ord(c)) for c in run]
        return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})" if parts else "''"

    def character(self, number: int) -> str:
        """Return a text of one character by its number in Unicode."""
        return f"chr({number})"

    def number(self, value: float) -> str:
        """Return a literal that is this very double where it is compared with one."""
        if np.isinf(value):
            return f"CAST('{value}' AS {self.double_type})"
        if value == round(value) and abs(value) < 10.0**EXACT_DIGITS:
            return f"{value + 0.0:.0f}"
        digits = repr(float(value))
        exact = "e" in digits or len(re.sub(r"\D", "", digits).lstrip("0")) <= EXACT_DIGITS
        return digits if exact else f"{digits}e0"

    def day(self, days: float) -> str:
        """Return the literal of a day, counted from 1970-01-01."""
        return f"DATE '{format_iso_day(days)}'"

    def moment(self, milliseconds: int) -> str:
        """Return the literal of a moment without a zone, counted from 1970-01-01."""
        return f"TIMESTAMP '{moment_text(milliseconds)}'"

    def zoned(self, column: str) -> str:
        """Return a column of moments with a zone as it is compared with `zoned_moment`."""
        return f"{column} AT TIME ZONE 'UTC'"

    def zoned_moment(self, milliseconds: int) -> str:
        """Return the literal that a column of moments with a zone is compared with, whatever the session's zone."""
        return self.moment(milliseconds)

    def double(self, column: str) -> str:
        """Return a column of numbers as doubles: a literal beside a FLOAT column would be rounded to float32."""
        return self.computed_double(column)

    def computed_double(self, expression: str) -> str:
        """Return an expression as a double, whose numbers are not in question."""
        return f"CAST({expression} AS {self.double_type})"

    def integer(self, column: str) -> str:
        """Return a column of truths as 0 and 1."""
        return f"CAST({column} AS INTEGER)"

    def seconds(self, column: str) -> str:
        """Return a column of intervals or times of the day in seconds."""
        return self.computed_double(f"EXTRACT(EPOCH FROM {column})")

    def given_double(self, column: str, *, infinite: bool = False) -> str:
        """Return a floating-point column as doubles with NULL for NaN, and for infinities unless they may be there.

        DuckDB takes the minimum and maximum in a Parquet file for bounds of all its values, though NaN is not in them,
        and answers isnan(x), x = 'NaN' and x < 30 from these bounds. What x - x is, it has to compute.
        """
        given = f"{column} - {column} = 0"
        if infinite:
            given += f" OR ABS({column}) = {self.number(np.inf)}"
        return f"CASE WHEN {given} THEN {self.double(column)} END"

    def element(self, column: str, position: int) -> str:
        """Return the number at a position of a vector, which SQL counts from 1."""
        return f"{column}[{position + 1}]"

    def contains(self, column: str, value: str) -> str:
        """Return whether a list contains a value."""
        return f"{value} = ANY({column})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a list contains a value that is neither of these, nor NULL, nor an empty text."""
        others = f"label NOT IN ({', '.join(values)})"
        return f"EXISTS (SELECT 1 FROM UNNEST({column}) AS labels(label) WHERE {others})"

    def split_labels(self, column: str, separator: str) -> str:
        """Return the list of the labels of a text, without the white space around each."""
        joined, mark = self._joined(column, separator)
        return f"STRING_TO_ARRAY({joined}, {self.text(mark)})"

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a date or time as days since 1970-01-01 in whole milliseconds, cut towards 1970; NULL if infinite."""
        if pa.types.is_date(kind):
            days = f"{column} - DATE '1970-01-01'"
        else:
            days = f"{self.computed_double(f'TRUNC(EXTRACT(EPOCH FROM {column}) * 1000)')} / {DAY_IN_MILLISECONDS}"
        return f"CASE WHEN ISFINITE({column}) THEN {days} END"

    def largest(self, values: Sequence[str]) -> str:
        """Return the largest of several values that are not NULL."""
        return _nested("GREATEST", values)

    def smallest(self, values: Sequence[str]) -> str:
        """Return the smallest of several values that are not NULL."""
        return _nested("LEAST", values)

    def _joined(self, column: str, separator: str) -> tuple[str, str]:
        """Return a text of labels with a mark between two and without the white space beside it, and the mark.

        It takes the steps of engine.tables.list_texts.split_texts, with the same regular expressions.
        """
        steps, mark = joining_steps(separator)
        joined = self._trimmed(column) if is_list(separator) else column
        for pattern, replacement in steps:
            joined = self.replace_all(joined, pattern, replacement)
        return self._trimmed(joined), mark

    def replace_all(self, text: str, pattern: str, replacement: str) -> str:
        """Return a text with all matches of a regular expression replaced."""
        return f"REGEXP_REPLACE({text}, {self.text(pattern)}, {self.text(replacement)}, 'g')"

    def _trimmed(self, text: str) -> str:
        return f"TRIM(BOTH {self.text(STRIPPED)} FROM {text})"

    def written(self, text: str) -> str:
        """Return a text, NULL if it is empty or blank."""
        return f"CASE WHEN {self._trimmed(text)} <> '' THEN {text} END"


class DuckDb(SqlDialect):
    """DuckDB."""

    name = "DuckDB"

    def contains(self, column: str, value: str) -> str:
        """Return whether a list contains a value. value = ANY(column) took 36 times as long."""
        return f"list_contains({column}, {value})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a list contains a value that is neither of these, nor NULL."""
        return f"len(list_filter({column}, lambda label: label NOT IN ({', '.join(values)}))) > 0"

    def split_labels(self, column: str, separator: str) -> str:
        """Return the list of the labels of a text, without the white space around each."""
        joined, mark = self._joined(column, separator)
        return f"STRING_SPLIT({joined}, {self.text(mark)})"

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a date or time as days since 1970-01-01 in whole milliseconds, cut towards 1970; NULL if infinite."""
        if pa.types.is_date(kind):
            return super().days(column, kind)
        days = f"TRUNC(EPOCH_US({column}) / 1000) / {DAY_IN_MILLISECONDS}"
        return f"CASE WHEN ISFINITE({column}) THEN {days} END"


class PostgreSql(SqlDialect):
    """PostgreSQL, from version 14 on."""

    name = "PostgreSQL"
    lacks = frozenset({NUMBER_TEXTS, DATE_TEXTS, WORDY_DATES})
    row_limit = "\nOFFSET 0"


class Sqlite(SqlDialect):
    """SQLite, from version 3.35 on, with its mathematical functions.

    It has no type for dates: they are texts such as 2024-09-04 or 2024-09-04 10:00:00. Its texts of several labels are
    split as JSON arrays. A column may hold texts among numbers: what is no number is missing.
    """

    name = "SQLite"
    lacks = frozenset({LISTS, VECTORS, BRACKETS, LINES, NUMBER_TEXTS, WORDY_DATES, SECONDS})
    with_keyword = "AS MATERIALIZED"
    double_type = "REAL"
    dates_are_texts = True
    note = "-- Dates and times are texts such as 2024-09-04 or 2024-09-04 10:00:00, in UTC unless they name a zone.\n"

    def character(self, number: int) -> str:
        """Return a text of one character by its number in Unicode."""
        return f"char({number})"

    def number(self, value: float) -> str:
        """Return a literal that is this very double; a number that is too large for one is infinite."""
        return ("9e999" if value > 0 else "-9e999") if np.isinf(value) else super().number(value)

    def integer(self, column: str) -> str:
        """Return a column of truths as 0 and 1."""
        return f"CASE LOWER({column}) WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE {self.double(column)} END"

    def double(self, column: str) -> str:
        """Return a column of numbers as doubles; texts that hold a number are it, and others NULL."""
        is_number = f"{column} GLOB '*[0-9]*' AND {column} NOT GLOB '*[^0-9.eE+-]*'"
        return f"CASE WHEN TYPEOF({column}) <> 'text' OR ({is_number}) THEN CAST({column} AS REAL) END"

    def contains(self, column: str, value: str) -> str:
        """Return whether a JSON array contains a value."""
        return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE {self._label()} = {value})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a JSON array contains a text that is neither of these."""
        return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE {self._label()} NOT IN ({', '.join(values)}))"

    def split_labels(self, column: str, separator: str) -> str:
        """Return the labels of a text as a JSON array; white space around them is left to `contains`."""
        sign = separator.strip() or " "
        text = self._trimmed(column)
        for space in "\t\n\f\r" if sign == " " else "":
            text = f"REPLACE({text}, {self.text(space)}, ' ')"
        # JSON writes none of the signs between labels in another way, and NULL as a text.
        labels = f"""REPLACE(json_quote({text}), {self.text(sign)}, '","')"""
        return f"CASE WHEN {column} IS NOT NULL THEN '[' || {labels} || ']' END"

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a text of a date or time as days since 1970-01-01 in whole milliseconds."""
        milliseconds = f"CAST(SUBSTR(STRFTIME('%f', {column}), 4) AS INTEGER)"
        return f"(STRFTIME('%s', {column}) * 1000 + {milliseconds}) / {DAY_IN_MILLISECONDS}"

    def largest(self, values: Sequence[str]) -> str:
        """Return the largest of several values that are not NULL."""
        return _nested("MAX", values)

    def smallest(self, values: Sequence[str]) -> str:
        """Return the smallest of several values that are not NULL."""
        return _nested("MIN", values)

    def _trimmed(self, text: str) -> str:
        return f"TRIM({text}, {self.text(STRIPPED)})"

    def _label(self) -> str:
        return f"TRIM(value, {self.text(chr(9) + chr(10) + chr(12) + chr(13) + ' ')})"


def moment_text(milliseconds: int) -> str:
    """Return a moment, counted from 1970-01-01, as databases write it: to the millisecond, without a zone."""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(sep=" ", timespec="milliseconds")


def _nested(function: str, values: Sequence[str]) -> str:
    """Return the value of a function of one or more arguments, of at most MOST_ARGUMENTS at a time."""
    if len(values) == 1:
        return values[0]
    if len(values) <= MOST_ARGUMENTS:
        return f"{function}({', '.join(values)})"
    groups = [values[first : first + MOST_ARGUMENTS] for first in range(0, len(values), MOST_ARGUMENTS)]
    return _nested(function, [_nested(function, group) for group in groups])


DUCKDB = DuckDb()
