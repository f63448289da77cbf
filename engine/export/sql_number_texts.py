"""Write how a text column is parsed as numbers (engine/tables/number_texts.py) as SQL."""

from __future__ import annotations

import re

from engine.tables.duration_texts import PART_SECONDS
from engine.tables.number_texts import SPACES, STEPS, NumberFormat
from engine.tables.unit_scales import SCALES


def number_from_text(column: str, form: NumberFormat) -> str:
    """Return an expression that is the number of a column's text, or NULL where the text is none.

    It takes the steps of `normalize_texts` and `parse_texts`, with the same regular expressions.
    """
    text = f"REGEXP_REPLACE({column}, {_quoted(SPACES)}, ' ', 'g')"
    text = rf"REGEXP_REPLACE({text}, '^\s+|\s+$', '', 'g')"
    text = f"REPLACE(REPLACE({text}, '\u2019', {_quoted(chr(39))}), '\u2212', '-')"
    for step, replacement in STEPS:
        text = f"REGEXP_REPLACE({text}, {_quoted(step)}, {_quoted(replacement)})"
    pattern = _quoted(form.pattern)
    if form.duration:
        return f"CASE WHEN REGEXP_MATCHES({text}, {pattern}) THEN {_seconds(text, form)} END"
    number = rf"REGEXP_REPLACE({text}, {pattern}, '\1\2\3')"
    if form.grouping:
        number = f"REPLACE({number}, {_quoted(form.grouping)}, '')"
    if form.decimal != ".":
        number = f"REPLACE({number}, {_quoted(form.decimal)}, '.')"
    value = f"CAST({number} AS DOUBLE)"
    if form.scale:
        unit = rf"REGEXP_REPLACE({text}, {pattern}, '\4')"
        factors = " ".join(f"WHEN {_quoted(u)} THEN {f!r}" for u, f in SCALES[form.scale].factors.items())
        value = f"{value} * CAST(CASE {unit} {factors} END AS DOUBLE)"
    return f"CASE WHEN REGEXP_MATCHES({text}, {pattern}) THEN {value} END"


def _seconds(text: str, form: NumberFormat) -> str:
    """Return the seconds of a duration, NULL if none of its parts is given."""
    groups = re.compile(form.pattern).groupindex
    parts = [(name, f"REGEXP_EXTRACT({text}, {_quoted(form.pattern)}, {groups[name]})") for name in PART_SECONDS
             if name in groups]  # fmt: skip
    given = f"{' || '.join(part for _, part in parts)} <> ''"
    # In the order of the engine, and in doubles.
    total = " + ".join(
        f"CAST({PART_SECONDS[name]} AS DOUBLE) * COALESCE(TRY_CAST({part} AS DOUBLE), 0)" for name, part in parts
    )
    sign = f"CASE WHEN LEFT({text}, 1) = '-' THEN -1 ELSE 1 END"
    return f"CASE WHEN {given} THEN {sign} * ({total}) END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
