"""Find the text columns that hold numbers, and check what was no number among their texts.

    first block  ->  the NumberFormat of each text column that holds numbers, warnings of those that only look alike
    statistics   ->  an error if later texts do not fit, a warning if a few do not

How numbers are written is in engine/tables/number_texts.py. Here it is decided whether a column of texts is a column of
numbers: digits in a text column of Parquet or of a data frame may be codes, for which text was chosen on purpose.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.blocks import Block
from engine.config import Role
from engine.errors import RetypedColumnError
from engine.features.column_statistics import ColumnStatistics, TableStatistics
from engine.features.columnar_block import ColumnarBlock, undecided_text_columns
from engine.features.key_columns import is_key
from engine.tables.number_texts import (
    CODES,
    DECIMAL_MARK,
    LATE_TEXTS,
    NumberFormat,
    find_number_format,
    is_missing_mark,
    normalize_texts,
    parse_texts,
)

NUMBER_ROLES = ("numeric", "count", "boolean")  # roles that parse a text column
MAX_UNREAD_SHARE = 0.01  # of the texts of a column of numbers: typing errors, which become missing with a warning
MAX_OWN_MARKS = 3  # distinct words without a digit that a column may have for missing numbers, beside MISSING_MARKS
MAX_OWN_MARK_SHARE = 0.05  # of the texts
MIN_NOTED_SHARE = 0.5  # of numbers among the texts of a column that stays text: from it on, a warning says so
MAX_CODES = 20  # distinct numbers that may as well be codes
_FIRST_ROWS, _FIRST_TEXTS = 1000, 200  # rows and distinct texts of them that rule out most columns
_LEADING_ZERO = re.compile("[+-]?0[0-9]")


class NumberTextsWarning(UserWarning):
    """Warns of text columns that are read as numbers, and of those that look like numbers and are not."""


class FoundFormats(NamedTuple):
    """The format of every text column that holds numbers, and notes on columns that only look like it."""

    formats: dict[str, NumberFormat]
    notes: dict[str, str]


class _Texts(NamedTuple):
    """A text column of the first block: distinct texts, and the codes of the rows that have one."""

    encoded: pa.DictionaryArray
    distinct: list[str]
    late: list[str]  # numbers of later rows that are written in another way

    @property
    def written(self) -> list[str]:
        """All texts that show how numbers are written."""
        return self.distinct + self.late


def find_number_columns(
    schema: pa.Schema, first: Block | None, overrides: Mapping[str, Role], skip: set[str]
) -> FoundFormats:
    """Find the text columns that hold numbers.

    Parameters
    ----------
    schema : pyarrow.Schema
    first : Block or None
        The first rows of the columns whose role is open; None if the table has none.
    overrides, skip : as in column_roles.infer_roles

    Raises
    ------
    RetypedColumnError
        If a column is to be read as numbers, but its texts are none.
    """
    found = FoundFormats({}, {})
    if first is None:
        return found
    columns: dict[str, _Texts] = {}
    forms: dict[str, NumberFormat] = {}
    shown = next((m[DECIMAL_MARK] for f in schema if (m := f.metadata or {}).get(DECIMAL_MARK)), b"").decode()
    for name, column in undecided_text_columns(first.rows, NUMBER_ROLES, overrides, skip):
        form = None
        if name in overrides or (not is_key(name) and _may_hold_numbers(column)):
            columns[name] = _distinct_texts(column, schema.field(name).metadata or {})
            form = find_number_format(columns[name].written, shown)
        if form is not None:
            forms[name] = form
        elif name in overrides:
            raise RetypedColumnError(
                f"Column {name!r} was set to {overrides[name]}, but its texts are no numbers that are written alike.",
                hint="see docs/features.md for what is read as a number, or set the role to categorical.",
            )
    if not shown and any(form.decimal == "," and not form.unsure for form in forms.values()):
        forms = {name: find_number_format(columns[name].written, ",") or form for name, form in forms.items()}
    for name, form in forms.items():
        if name in overrides:
            found.formats[name] = form
            continue
        decided = _decide(columns[name], form, schema.field(name).metadata or {})
        if isinstance(decided, NumberFormat):
            found.formats[name] = decided
        elif decided:
            found.notes[name] = decided
    return found


def _may_hold_numbers(column: pa.Array) -> bool:
    """Tell whether the first texts are numbers, or none of them but marks of missing ones."""
    head = column.slice(0, _FIRST_ROWS)
    distinct = (head.dictionary if pa.types.is_dictionary(head.type) else head.unique()).slice(0, _FIRST_TEXTS)
    texts = normalize_texts(pc.fill_null(distinct.cast(pa.string()), "")).to_pylist()
    return find_number_format(texts) is not None or all(map(is_missing_mark, texts))


def _distinct_texts(column: pa.Array, metadata: Mapping[bytes, bytes]) -> _Texts:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = normalize_texts(pc.fill_null(encoded.dictionary.cast(pa.string()), ""))
    late = normalize_texts(pa.array(json.loads(metadata.get(LATE_TEXTS, b"[]")), pa.string()))
    return _Texts(encoded, texts.to_pylist(), late.to_pylist())


def _decide(texts: _Texts, form: NumberFormat, metadata: Mapping[bytes, bytes]) -> NumberFormat | str:
    """Return the format if the column is one of numbers, else why a reader may have thought so, or ""."""
    parsed = parse_texts(texts.encoded, form)
    present = parsed.values[~np.isnan(parsed.values)]
    n_distinct, n_marks = len(np.unique(present)), sum(parsed.marks.values())
    n_texts = len(present) + n_marks + parsed.n_unread
    if CODES in metadata or (not form.duration and any(map(_LEADING_ZERO.match, texts.distinct))):
        return ""
    if parsed.n_unread:
        pattern = re.compile(form.pattern)
        own = {t for t in texts.distinct if not pattern.fullmatch(t) and not is_missing_mark(t)}
        are_words = len(own) <= MAX_OWN_MARKS and not any(c.isdigit() for text in own for c in text)
        share = parsed.n_unread / n_texts
        tolerated = share <= (MAX_OWN_MARK_SHARE if are_words else MAX_UNREAD_SHARE)
        if n_distinct <= MAX_CODES or not tolerated:
            is_noted = n_distinct > MAX_CODES and len(present) >= MIN_NOTED_SHARE * n_texts
            return f"{parsed.n_unread:,} of {n_texts:,} texts are no numbers that are written alike" if is_noted else ""
        form = form.model_copy(update={"missing": tuple(sorted(own))}) if are_words else form
    if form.unit == "s" and len(present) and all(year % 10 == 0 and 1000 <= year <= 2100 for year in present):
        return ""  # decades, such as 1980s
    if not form.is_plain and n_distinct <= MAX_CODES:
        return f"{n_distinct} different numbers {form.describe()} may be categories"
    is_plain = form.is_plain and not form.grouping and form.decimal == "."
    if is_plain and DECIMAL_MARK not in metadata:  # a text column by choice, not for want of a type
        if n_distinct <= MAX_CODES:
            return ""
        if form.whole and (n_distinct > len(present) / 2 or n_marks + parsed.n_unread == 0):
            return "digits in a column of texts may be codes"
    return form


def check_number_columns(statistics: TableStatistics, overrides: Mapping[str, Role], *, is_known: bool = False) -> None:
    """Raise RetypedColumnError if too many texts of a column of numbers are none; warn of the columns read so.

    With `is_known`, an earlier fit says how the texts are written.
    """
    notes, unsure = [], False
    for name, column in statistics.columns.items():
        if column.read_spec.number_format is None:
            continue
        n_texts = column.n_present + sum(column.marks.values()) + column.n_unread
        counts = f"{column.n_unread:,} of its {n_texts:,} texts are no numbers written alike, nor marks of missing ones"
        if name in overrides and column.n_unread:
            raise RetypedColumnError(
                f"Column {name!r} was set to {overrides[name]}, but {counts}.",
                hint="correct or empty them, or set the role to categorical.",
            )
        if column.n_unread > MAX_UNREAD_SHARE * n_texts:
            where = "holds numbers in its first rows"
            remedy = f"set --role {name}=categorical or {name}=ignore"
            if is_known:
                where = "held numbers in the table of the earlier fit"
                remedy = "take the columns as they are now by --refit-features"
            raise RetypedColumnError(
                f"Column {name!r} {where}, but {counts}.", hint=f"correct or empty them, or {remedy}."
            )
        notes.append(f"{name!r} ({describe_number_texts(column)})")
        unsure = unsure or column.read_spec.number_format.unsure
    if notes:
        remedy = "; write thousands without marks where a mark is taken for the other kind" if unsure else ""
        warnings.warn(f"Texts are read as numbers: {'; '.join(notes)}{remedy}.", NumberTextsWarning, stacklevel=3)


def warn_of_left_texts(notes: Mapping[str, str]) -> None:
    """Warn of columns that look like numbers but stay text."""
    if notes:
        named = "; ".join(f"{name!r} ({reason})" for name, reason in notes.items())
        remedy = "--role COLUMN=numeric reads them as numbers, once all of them are some"
        warnings.warn(f"Texts that look like numbers stay texts: {named}; {remedy}.", NumberTextsWarning, stacklevel=3)


def describe_number_texts(column: ColumnStatistics) -> str:
    """Return how the numbers of a text column are written, and what stands for missing ones; no other values."""
    form = column.read_spec.number_format
    assert form is not None
    parts = [form.describe()] if form.describe() else []
    known = {mark: n for mark, n in column.marks.items() if mark not in form.missing}
    if known:
        marks = ", ".join(f"'{mark}'" if mark else "blanks" for mark in sorted(known))
        parts.append(f"{sum(known.values()):,} missing values written as {marks}")
    n_words = sum(column.marks[mark] for mark in form.missing)
    if n_words:
        parts.append(f"{n_words:,} missing values written as words")
    if column.n_unread:
        parts.append(f"{column.n_unread:,} other texts taken as missing")
    return "; ".join(parts or ["written as texts"])


def check_parsed_texts(block: ColumnarBlock) -> list[str]:
    """Return what to warn of where a few of a block's texts are no numbers or dates.

    Raises
    ------
    RetypedColumnError
        If too many of a column's are none.
    """
    notes = []
    for name, parsed in block.parsed.items():
        n_texts = int((~np.isnan(parsed.values)).sum()) + sum(parsed.marks.values()) + parsed.n_unread
        what = (
            f"{parsed.n_unread:,} of {n_texts:,} texts of column {name!r} are no {parsed.what} as the model knows them"
        )
        if parsed.n_unread > MAX_UNREAD_SHARE * n_texts:
            raise RetypedColumnError(f"{what}.", hint="write them as in the table of the fit, or leave them empty.")
        if parsed.n_unread:
            notes.append(f"{what}: taken as missing.")
    return notes


def warn_of_parsed_texts(block: ColumnarBlock) -> None:
    """Raise RetypedColumnError if too many of a block's texts are no numbers or dates; warn if a few are none."""
    for note in check_parsed_texts(block):
        warnings.warn(note, NumberTextsWarning, stacklevel=3)
