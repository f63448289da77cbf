"""Write how a column of texts or digits is parsed as dates (engine/tables/date_texts.py) as SQL."""

from __future__ import annotations

import re

from engine.export.sql_dialect import DUCKDB, STRIPPED
from engine.tables.date_texts import PATTERNS, TIME, YEAR_FIRST, DateFormat, Form

# Of a whole text: the time at its end. Python finds the numbers of the groups, DuckDB runs it.
_TIME = re.compile(f"(?i){TIME}$")


def date_from_text(column: str, form: DateFormat) -> str:
    """Return an expression that is the moment of a column's text or number in UTC, or NULL where it is none.

    It takes the steps of `parse_dates`, with the same regular expressions. Columns that a database has read as dates
    or times are converted to text first, which is written year first.
    """
    text = f"TRIM(BOTH {DUCKDB.text(STRIPPED)} FROM CAST({column} AS VARCHAR))"
    days = " ".join(
        f"WHEN REGEXP_MATCHES({text}, {_quoted(PATTERNS[name])}) THEN {_day(text, name)}"
        for name in (YEAR_FIRST, *form.forms)
    )
    return f"(CASE {days} END + TO_MICROSECONDS({_microseconds(text)}))"


def _day(text: str, form: Form) -> str:
    groups = re.compile(PATTERNS[form]).groupindex
    year, day = (f"\\{groups[name]}" if name in groups else "01" for name in ("year", "day"))
    if "name" in form:
        iso = f"REGEXP_REPLACE({text}, {_quoted(PATTERNS[form])}, '{day} \\{groups['name']} {year}')"
        return f"TRY_STRPTIME({iso}, '%d %b %Y')"
    iso = f"REGEXP_REPLACE({text}, {_quoted(PATTERNS[form])}, '{year}-\\{groups['month']}-{day}')"
    return f"TRY_CAST({iso} AS TIMESTAMP)"


def _microseconds(text: str) -> str:
    """Return the microseconds of the time of day in UTC, 0 without a time."""
    pattern = _quoted(_TIME.pattern)

    def part(name: str) -> str:
        return f"REGEXP_EXTRACT({text}, {pattern}, {_TIME.groupindex[name]})"

    def number(digits: str) -> str:
        return f"COALESCE(TRY_CAST({digits} AS BIGINT), 0)"

    half = part("half")
    hour = (
        f"CASE LOWER({half}) WHEN 'p' THEN {number(part('hour'))} % 12 + 12 "
        f"WHEN 'a' THEN {number(part('hour'))} % 12 ELSE {number(part('hour'))} END"
    )
    digits = f"RPAD(REGEXP_REPLACE({part('zone')}, '[^0-9]', '', 'g'), 4, '0')"
    ahead = f"(LEFT({digits}, 2)::BIGINT * 60 + RIGHT({digits}, 2)::BIGINT)"
    zone = f"CASE WHEN {part('zone')} LIKE '-%' THEN -{ahead} ELSE {ahead} END"
    seconds = f"({hour}) * 3600 + {number(part('minute'))} * 60 + {number(part('second'))} - ({zone}) * 60"
    return f"({seconds}) * 1000000 + RPAD({part('fraction')}, 6, '0')::BIGINT"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
