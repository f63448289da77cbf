"""Warn of categories whose texts say that they are something else: spellings of one word, numbers, lists, or nothing.

    statistics, roles  ->  warnings that name the columns, and nothing that stands in them

The texts stay what they are: `berlin` beside `Berlin ` may be meant. But as categories of their own they part people
who gave one answer, numbers in an unknown notation become their twenty most frequent texts, and blanks, which are
missing values in a CSV file, a category.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from engine.blocks import WORDS
from engine.config import Role
from engine.features.column_roles import ColumnRole
from engine.features.column_statistics import TableStatistics
from engine.features.number_columns import MAX_CODES
from engine.tables.list_texts import are_unread_lists
from engine.tables.number_texts import MISSING_MARKS

MAX_NOTATIONS = 5  # ways in which a column writes its numbers: addresses, which begin with numbers, have more
MAX_NUMBERS = 3  # in one text, as in 4.5/5
MIN_ALIKE = 0.9  # of the rows
_NUMBER = re.compile(r"[0-9]+(?:[.,'][0-9]+)*|\d+")
SHOWN_COLUMNS = 6  # with the same words for missing values, in a message
_WORDS = frozenset(["none", "unknown", "missing", "(missing)", "void", "no answer"])  # marks that are answers as well
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")  # characters that nobody sees
_MONTH = re.compile("(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*", re.IGNORECASE)
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")  # as in a time with the name of a zone
_AMOUNT = re.compile(r"[^0-9]{0,6}[0-9]{1,3}(?:[,.' ]?[0-9]{3})*[.,][0-9]{1,2}[^0-9]{0,6}")  # decimals, and text beside
_SHORT_DATE = re.compile(r"[0-9]{1,2}([-/.])(?:[0-9]{1,2}|[a-z]{3})\1[0-9]{2}(?![0-9])", re.IGNORECASE)  # 31/12/99
_CODE = re.compile("0[0-9]{2}")  # a number that begins so is none: 01234-5678


class CategoryTextsWarning(UserWarning):
    """Warns of categories that differ in case or blanks only, hold numbers or objects, or look like missing values."""


def warn_of_category_texts(
    statistics: TableStatistics, roles: Sequence[ColumnRole], overrides: Mapping[str, Role], noted: Mapping[str, str]
) -> None:
    """Warn of text categories that are spellings of one another, numbers or lists in an unknown notation, or blanks.

    Parameters
    ----------
    statistics : TableStatistics
    roles : sequence of ColumnRole
    overrides : mapping of column name to role
        Columns whose role is set are as they are meant.
    noted : mapping of column name to str
        Columns that another warning has said this of.
    """
    names = [role.column for role in roles if role.role == "categorical" and role.column not in overrides]
    counts = {name: statistics.columns[name].counts for name in names}
    spelled = [
        f"{name!r} ({n_texts:,} spellings of {n_words:,} categories)"
        for name in names
        for n_texts, n_words in [_count_spellings(counts[name])]
        if n_texts
    ]
    if spelled:
        what = f"Categories that differ only in case or blanks are categories of their own: {'; '.join(spelled)}"
        warnings.warn(f"{what}; write them alike if they are meant alike.", CategoryTextsWarning, stacklevel=3)
    unset = [name for name in names if statistics.columns[name].read_spec.missing]  # nobody said that they have none
    marks = {name: sorted(filter(_is_mark, counts[name])) for name in unset}
    empty = [f"{name!r} ({', '.join(map(repr, found))})" for name, found in marks.items() if found]
    if empty:
        what = f"Categories that look like missing values stay categories: {'; '.join(empty)}"
        remedy = """--missing 'COLUMN=TEXT,TEXT' makes them missing, with "" for an empty text and " " for a blank"""
        warnings.warn(f"{what}; {remedy}.", CategoryTextsWarning, stacklevel=3)
    lists = [repr(name) for name in names if _hold_lists(counts[name])]
    if lists:
        what = f"Texts with lists or objects in a notation that is not read stay whole: {', '.join(lists)}"
        remedy = "write lists of labels alone; --role COLUMN=categorical keeps the texts without a warning"
        warnings.warn(f"{what}; {remedy}.", CategoryTextsWarning, stacklevel=3)
    numbers = [repr(name) for name in names if name not in noted and _hold_numbers(counts[name])]
    if numbers:
        what = f"Texts with numbers in a notation that is not read stay categories: {', '.join(numbers)}"
        remedy = "write the numbers alone; --role COLUMN=categorical keeps the texts without a warning"
        warnings.warn(f"{what}; {remedy}.", CategoryTextsWarning, stacklevel=3)
    left_out = [
        repr(role.column)
        for role in roles
        if role.dropped and role.column not in noted and role.column in statistics.columns
        and statistics.columns[role.column].read_spec.form == "category"
        and _hold_amounts_or_days(statistics.columns[role.column].counts)
    ]  # fmt: skip
    if left_out:
        what = f"Texts with numbers or dates in a notation that is not read are left out: {', '.join(left_out)}"
        remedy = (
            "write the numbers alone, and years of four digits; --role COLUMN=ignore leaves them out without a warning"
        )
        warnings.warn(f"{what}; {remedy}.", CategoryTextsWarning, stacklevel=3)


def warn_of_missing_words(
    schema: pa.Schema, statistics: TableStatistics, roles: Sequence[ColumnRole], settled: Collection[str]
) -> None:
    """Warn of words of categories, such as NA and None, that may be answers, and are taken for missing values.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of a CSV file, with the words that its reader took for missing values.
    statistics : TableStatistics
    roles : sequence of ColumnRole
    settled : collection of str
        Columns whose role or marks of missing values are set.
    """
    columns_of: dict[str, list[str]] = {}
    for name in (role.column for role in roles if role.role in ("categorical", "multilabel")):
        read = (schema.field(name).metadata or {}).get(WORDS, b"").decode()
        words = ", ".join(
            filter(None, [read, *(repr(mark) for mark in sorted(statistics.columns[name].marks) if mark.strip())])
        )
        if words and name not in settled:
            columns_of.setdefault(words, []).append(repr(name))
    if columns_of:
        named = [f"{words} in {_name_some(columns)}" for words, columns in columns_of.items()]
        what = f"Words of categories are taken for missing values: {'; '.join(named)}"
        remedy = "write another word in CSV files where it is an answer, or set --missing COLUMN= for other tables"
        warnings.warn(
            f"{what}; {remedy}; --role COLUMN=categorical says that none is.", CategoryTextsWarning, stacklevel=3
        )


def _is_mark(text: str) -> bool:
    text = text.strip().lower()
    return text in MISSING_MARKS and text not in _WORDS


def _hold_lists(counts: Counter[str]) -> bool:
    texts = list(counts)
    return are_unread_lists(pa.array(texts, pa.string()), np.array([counts[text] for text in texts], np.int64))


def _count_spellings(counts: Counter[str]) -> tuple[int, int]:
    """Return the number of texts that look like another one but for case and blanks, and of different ones of them."""
    alike = Counter(" ".join(_UNSEEN.sub("", unicodedata.normalize("NFKC", t)).casefold().split()) for t in counts)
    several = [n for n in alike.values() if n > 1]
    return sum(several), len(several)


def _hold_numbers(counts: Counter[str]) -> bool:
    """Tell whether nearly all texts are numbers with the same few characters around them, and not few or codes."""
    if len(counts) <= MAX_CODES:
        return False
    notations: Counter[str] = Counter()
    for text, n_rows in counts.items():
        numbers = _NUMBER.findall(text)
        notation = _NUMBER.sub(lambda number: "0" if number[0].isascii() else "#", _MONTH.sub("*", text.strip()))
        has_few = 1 <= len(numbers) <= MAX_NUMBERS or _DAY.match(text.strip()) is not None
        if has_few and not notation[0].isalpha() and not _CODE.match(numbers[0]):
            notations[notation] += n_rows
    n_alike = sum(n_rows for _, n_rows in notations.most_common(MAX_NOTATIONS))
    return set(notations) != {"0"} and n_alike >= MIN_ALIKE * counts.total()


def _hold_amounts_or_days(counts: Counter[str]) -> bool:
    """Tell whether nearly all texts are amounts with decimals, or dates: ids do not look like these."""
    alike = sum(n for text, n in counts.items() if _AMOUNT.fullmatch(text.strip()) or _SHORT_DATE.match(text.strip()))
    return alike >= MIN_ALIKE * counts.total() > 0


def _name_some(columns: Sequence[str]) -> str:
    """Return the names of up to SHOWN_COLUMNS columns, and how many more there are."""
    n_hidden = len(columns) - SHOWN_COLUMNS
    return ", ".join(columns[:SHOWN_COLUMNS]) + (f" and {n_hidden:,} more columns" if n_hidden > 0 else "")
