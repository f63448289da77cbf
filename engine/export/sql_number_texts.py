"""Write how a text column is parsed as numbers (engine/tables/number_texts.py) as SQL."""

from __future__ import annotations

from engine.tables.number_texts import NEGATIVE_AMOUNT, SPACES, NumberFormat


def number_from_text(column: str, form: NumberFormat) -> str:
    """Return an expression that is the number of a column's text, or NULL where the text is none.

    It takes the steps of `normalize_texts` and `parse_texts`, with the same regular expressions.
    """
    text = f"REGEXP_REPLACE({column}, {_quoted(SPACES)}, ' ', 'g')"
    text = rf"REGEXP_REPLACE({text}, '^\s+|\s+$', '', 'g')"
    text = f"REPLACE(REPLACE({text}, '\u2019', {_quoted(chr(39))}), '\u2212', '-')"
    text = rf"REGEXP_REPLACE({text}, {_quoted(NEGATIVE_AMOUNT)}, '-\1')"
    pattern = _quoted(form.pattern)
    number = rf"REGEXP_REPLACE({text}, {pattern}, '\1\2\3')"
    if form.grouping:
        number = f"REPLACE({number}, {_quoted(form.grouping)}, '')"
    if form.decimal != ".":
        number = f"REPLACE({number}, {_quoted(form.decimal)}, '.')"
    return f"CASE WHEN REGEXP_MATCHES({text}, {pattern}) THEN CAST({number} AS DOUBLE) END"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
