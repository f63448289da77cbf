"""The parts of SQL that databases write differently: literals, names, and the functions that rules need.

    a name, value or column  ->  its text in one dialect

`DUCKDB` is the dialect of rules.sql. For another database, add an object with the same methods, and run the tests of
tests/explain/test_export_sql.py there. Which condition needs which part: see export_sql.py.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from itertools import groupby

import numpy as np

from engine.tables.list_texts import is_list, joining_steps
from engine.utils.formatting import format_iso_day

_EPOCH = datetime(1970, 1, 1)
# Decimal literals of up to 15 digits become the nearest double: digits and power of ten are exact, and divided once.
EXACT_DIGITS = 15
# What the engine strips from both ends of a text of several labels: pyarrow's utf8_trim_whitespace.
STRIPPED = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
STRIPPED += "\u2028\u2029\u202f\u205f\u3000"


class DuckDb:
    """DuckDB. PostgreSQL runs the same text but for `contains`, as its arrays have no list_contains."""

    name = "DuckDB"

    def identifier(self, name: str) -> str:
        """Return a quoted name."""
        return '"' + name.replace('"', '""') + '"'

    def text(self, value: str) -> str:
        """Return a text literal; characters that an editor may change or hide are written as chr(number)."""
        parts = []
        for printable, characters in groupby(value, str.isprintable):
            run = "".join(characters)
            parts += ["'" + run.replace("'", "''") + "'"] if printable else [f"chr({ord(c)})" for c in run]
        return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})" if parts else "''"

    def number(self, value: float) -> str:
        """Return a literal that is this very double where it is compared with one."""
        if np.isinf(value):
            return f"CAST('{value}' AS DOUBLE PRECISION)"
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
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
        return f"TIMESTAMP '{moment.isoformat(sep=' ', timespec='milliseconds')}'"

    def in_utc(self, column: str) -> str:
        """Return a column of moments with a zone as moments of UTC without one, whatever the zone of the session."""
        return f"{column} AT TIME ZONE 'UTC'"

    def double(self, column: str) -> str:
        """Return a column of numbers as doubles: a literal beside a FLOAT column would be rounded to float32."""
        return f"CAST({column} AS DOUBLE PRECISION)"

    def integer(self, column: str) -> str:
        """Return a column of truths as 0 and 1."""
        return f"CAST({column} AS INTEGER)"

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
        """Return whether a list contains a value. In DuckDB, value = ANY(column) took 36 times as long."""
        return f"list_contains({column}, {value})"

    def joined_labels(self, column: str, separator: str) -> tuple[str, str]:
        """Return a text of several labels with a mark around each and without the white space beside it, and the mark.

        It takes the steps of engine.tables.list_texts.split_texts, with the same regular expressions.
        """
        steps, mark = joining_steps(separator)
        joined = self._trimmed(column) if is_list(separator) else column
        for pattern, replacement in steps:
            joined = f"REGEXP_REPLACE({joined}, {self.text(pattern)}, {self.text(replacement)}, 'g')"
        return f"{self.text(mark)} || {self._trimmed(joined)} || {self.text(mark)}", mark

    def _trimmed(self, text: str) -> str:
        return f"TRIM(BOTH {self.text(STRIPPED)} FROM {text})"

    def position(self, part: str, whole: str) -> str:
        """Return where a text stands in another, 0 if it does not."""
        return f"POSITION({part} IN {whole})"


DUCKDB = DuckDb()
