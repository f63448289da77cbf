"""The dialects of Spark SQL, BigQuery and Snowflake, which write texts with backslashes.

a name, value or column  ->  its text in one dialect
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from engine.export.sql_dialect import (
    DATE_TEXTS,
    DAY_IN_MILLISECONDS,
    DUCKDB,
    NUMBER_TEXTS,
    SECONDS,
    STRIPPED,
    WORDY_DATES,
    PostgreSql,
    SqlDialect,
    Sqlite,
    moment_text,
)

# pyarrow, Java, RE2 and Snowflake read a character itself alike; what \\f or \\t is differs.
_SPACES = {r"\t": "\t", r"\n": "\n", r"\f": "\f", r"\r": "\r"}


class BackslashDialect(SqlDialect):
    """A dialect whose text literals have escapes by backslash."""

    lacks = frozenset({NUMBER_TEXTS, DATE_TEXTS, WORDY_DATES, SECONDS})

    def text(self, value: str) -> str:
        """Return a text literal; characters that an editor may change or hide are written by their number."""
        return "'" + "".join(map(self._escaped, value)) + "'"

    def _escaped(self, character: str) -> str:
        if character in "\\'":
            return "\\" + character
        is_shown = character.isprintable() or ord(character) > 0xFFFF
        return character if is_shown else f"\\u{ord(character):04x}"

    def zoned(self, column: str) -> str:
        """Return a column of moments with a zone as it is compared with `zoned_moment`."""
        return column

    def replace_all(self, text: str, pattern: str, replacement: str) -> str:
        """Return a text with all matches of a regular expression replaced."""
        for escape, character in _SPACES.items():
            pattern = pattern.replace(escape, character)
        return f"REGEXP_REPLACE({text}, {self.text(pattern)}, {self.text(replacement)})"

    def split_labels(self, column: str, separator: str) -> str:
        """Return the list of the labels of a text, without the white space around each."""
        joined, mark = self._joined(column, separator)
        return f"SPLIT({joined}, {self.text(self.split_pattern(mark))})"

    def split_pattern(self, mark: str) -> str:
        """Return what SPLIT takes as the mark between two labels."""
        return mark


class SparkSql(BackslashDialect):
    """Spark SQL, from version 3.5 on."""

    name = "Spark SQL"
    double_type = "DOUBLE"
    note = "-- Times without a zone are TIMESTAMP_NTZ; those with one are TIMESTAMP.\n"

    def identifier(self, name: str) -> str:
        """Return a quoted name."""
        return "`" + name.replace("`", "``") + "`"

    def replace_all(self, text: str, pattern: str, replacement: str) -> str:
        """Return a text with all matches of a regular expression replaced; Java writes groups as $1."""
        return super().replace_all(text, pattern, re.sub(r"\\([0-9])", r"$\1", replacement))

    def moment(self, milliseconds: int) -> str:
        """Return the literal of a moment without a zone, counted from 1970-01-01."""
        return f"TIMESTAMP_NTZ '{moment_text(milliseconds)}'"

    def zoned_moment(self, milliseconds: int) -> str:
        """Return the literal that a column of moments with a zone is compared with, whatever the session's zone."""
        return f"TIMESTAMP '{moment_text(milliseconds)}+00:00'"

    def element(self, column: str, position: int) -> str:
        """Return the number at a position of a vector."""
        return f"{column}[{position}]"

    def contains(self, column: str, value: str) -> str:
        """Return whether a list contains a value."""
        return f"ARRAY_CONTAINS({column}, {value})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a list contains a value that is neither of these, nor NULL."""
        return f"EXISTS({column}, label -> label NOT IN ({', '.join(values)}))"

    def split_pattern(self, mark: str) -> str:
        """Return the mark as a regular expression, which SPLIT takes in Spark."""
        return "".join(f"[{character}]" for character in mark)

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a date or time as days since 1970-01-01 in whole milliseconds, cut towards 1970."""
        if pa.types.is_date(kind):
            return f"UNIX_DATE({column})"
        epoch = "TIMESTAMP_NTZ '1970-01-01 00:00:00'"
        micros = f"UNIX_MICROS({column})" if kind.tz else f"TIMESTAMPDIFF(MICROSECOND, {epoch}, {column})"
        return f"({micros} DIV 1000) / {DAY_IN_MILLISECONDS}"


class BigQuery(BackslashDialect):
    """BigQuery."""

    name = "BigQuery"
    double_type = "FLOAT64"
    note = (
        "-- Times without a zone are DATETIME; those with one are TIMESTAMP. A missing list counts as an empty one,\n"
        "-- as tables of BigQuery do not tell them apart.\n"
    )

    def identifier(self, name: str) -> str:
        """Return a quoted name."""
        return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

    def integer(self, column: str) -> str:
        """Return a column of truths as 0 and 1."""
        return f"CAST({column} AS INT64)"

    def moment(self, milliseconds: int) -> str:
        """Return the literal of a moment without a zone, counted from 1970-01-01."""
        return f"DATETIME '{moment_text(milliseconds)}'"

    def zoned_moment(self, milliseconds: int) -> str:
        """Return the literal that a column of moments with a zone is compared with, whatever the session's zone."""
        return f"TIMESTAMP '{moment_text(milliseconds)}+00'"

    def element(self, column: str, position: int) -> str:
        """Return the number at a position of a vector, NULL beyond its end."""
        return f"{column}[SAFE_OFFSET({position})]"

    def contains(self, column: str, value: str) -> str:
        """Return whether a list contains a value."""
        return f"{value} IN UNNEST({column})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a list contains a value that is neither of these, nor NULL."""
        return f"EXISTS (SELECT 1 FROM UNNEST({column}) AS label WHERE label NOT IN ({', '.join(values)}))"

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a date or time as days since 1970-01-01 in whole milliseconds, cut towards 1970."""
        if pa.types.is_date(kind):
            return f"UNIX_DATE({column})"
        epoch = "DATETIME '1970-01-01 00:00:00'"
        micros = f"UNIX_MICROS({column})" if kind.tz else f"DATETIME_DIFF({column}, {epoch}, MICROSECOND)"
        return f"DIV({micros}, 1000) / {DAY_IN_MILLISECONDS}"

    def _trimmed(self, text: str) -> str:
        return f"TRIM({text}, {self.text(STRIPPED)})"


class Snowflake(BackslashDialect):
    """Snowflake."""

    name = "Snowflake"
    note = "-- Times without a zone are TIMESTAMP_NTZ; those with one are TIMESTAMP_TZ or TIMESTAMP_LTZ.\n"

    def moment(self, milliseconds: int) -> str:
        """Return the literal of a moment without a zone, counted from 1970-01-01."""
        return f"CAST('{moment_text(milliseconds)}' AS TIMESTAMP_NTZ)"

    def zoned_moment(self, milliseconds: int) -> str:
        """Return the literal that a column of moments with a zone is compared with, whatever the session's zone."""
        return f"CAST('{moment_text(milliseconds)} +00:00' AS TIMESTAMP_TZ)"

    def element(self, column: str, position: int) -> str:
        """Return the number at a position of a vector."""
        return f"{self.double(f'{column}[{position}]')}"

    def contains(self, column: str, value: str) -> str:
        """Return whether a list contains a value."""
        return f"ARRAY_CONTAINS(TO_VARIANT({value}), {column})"

    def contains_other(self, column: str, values: Sequence[str]) -> str:
        """Return whether a list contains a value that is neither of these, nor NULL."""
        kind = "VARCHAR" if values[0].startswith("'") else "NUMBER"
        return f"ARRAY_SIZE(FILTER({column}, label -> CAST(label AS {kind}) NOT IN ({', '.join(values)}))) > 0"

    def days(self, column: str, kind: pa.DataType) -> str:
        """Return a date or time as days since 1970-01-01 in whole milliseconds, cut towards 1970."""
        if pa.types.is_date(kind):
            return f"DATEDIFF(DAY, DATE '1970-01-01', {column})"
        return f"TRUNC(DATE_PART(EPOCH_MICROSECOND, {column}) / 1000) / {DAY_IN_MILLISECONDS}"

    def _trimmed(self, text: str) -> str:
        return f"TRIM({text}, {self.text(STRIPPED)})"


DIALECTS: dict[str, SqlDialect] = {
    "duckdb": DUCKDB,
    "postgres": PostgreSql(),
    "sqlite": Sqlite(),
    "spark": SparkSql(),
    "bigquery": BigQuery(),
    "snowflake": Snowflake(),
}
