"""Recognise how a text column writes numbers, and parse them: thousands marks, currencies, units, missing values.

    distinct texts       ->  NumberFormat: marks of decimals, thousands and missing values, currency or unit
    texts, NumberFormat  ->  float64 with NaN, the number of rows that hold no number

In `1.299` the point may mark thousands or decimals. It marks thousands beside `1.299.000` or `1.299,50`, where other
columns have decimal commas, and beside whole numbers below 1000 if no number has fewer than three digits after it. The
comma of `1,299` marks thousands unless other columns have decimal commas. Codes with leading zeros are no numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

# Field metadata of text columns of CSV files: the decimal mark that other columns show, or nothing.
DECIMAL_MARK = b"rooms.decimal_mark"
# Field metadata of text columns of CSV files: numbers of later rows that are not written as the first are, in JSON.
LATE_TEXTS = b"rooms.late_texts"
# Field metadata of text columns of CSV files that hold codes with leading zeros.
CODES = b"rooms.codes"
# Texts that stand for missing numbers, in lower case.
_MARKS = (
    "- -- --- \u2013 \u2014 . .. ... ? ?? * \\n n/a na n.a. n.a n/d nd n.d. nan -nan nat null nil none void k.a. s/d "
    "#n/a #na #div/0! #value! #ref! #name? #num! #null! #nv <na> <null> (null) [null] (blank) (missing) missing "
    "unknown 1.#qnan -1.#ind"
)
MISSING_MARKS = frozenset(_MARKS.split()).union(
    ["", "#n/a n/a", "k. a.", "keine angabe", "not available", "not applicable", "no answer"]
)
_CURRENCIES = (
    "US$ A$ C$ R$ HK$ NZ$ $ \u20ac \u00a3 \u00a5 \u20b9 \u20bd \u20a9 \u20ba \u20aa \u0e3f \u20b4 \u20ab \u20b1 "
    "z\u0142 K\u010d kr Fr. Fr Ft Rs. Rs AED ARS AUD BRL CAD CHF CLP CNY COP CZK DKK EUR GBP HKD HUF IDR ILS INR JPY "
    "KRW MXN MYR NGN NOK NZD PHP PLN RON RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)
_UNITS = (
    "% \u2030 h hr hrs hour hours min mins minute minutes sec secs second seconds ms d day days week weeks wk wks "
    "month months mo mos y yr yrs year years kg g mg lb lbs oz km m cm mm mi mile miles ft in l ml KB MB GB TB kB W kW "
    "kWh \u00b0C \u00b0F \u00b0 bpm kcal px pt pts points x times"
)
_PREFIX = "|".join(map(re.escape, sorted(_CURRENCIES.split(), key=len, reverse=True)))
_SUFFIX = "|".join(map(re.escape, sorted(f"{_CURRENCIES} {_UNITS}".split(), key=len, reverse=True)))
_PARTS = re.compile(
    rf"[+-]?(?P<prefix>(?:{_PREFIX})?) ?[+-]?"
    rf"(?P<number>[.,]?[0-9][0-9.,' ]*?(?:[eE][+-]?[0-9]+)?) ?(?P<suffix>(?:{_SUFFIX})?)"
)
SPACES = "[\u00a0\u2009\u202f]"  # no-break and thin spaces between thousands
NEGATIVE_AMOUNT = r"^\(([^()]*[0-9][^()]*)\)$"  # as accountants write them
_GROUPS = {mark: re.compile(rf"[1-9][0-9]{{0,2}}(?:{re.escape(mark)}[0-9]{{3}})+") for mark in ".,' "}
_PLAIN = re.compile(r"0|[1-9][0-9]*")
MIN_SHARE_ALIKE = 0.5  # of the distinct texts that are no mark of a missing value
MANY_GROUPED = 20  # of so many numbers with three decimals, one ends in 0 with a probability of 88 %


class NumberFormat(BaseModel):
    """How a text column writes numbers; a model file stores it.

    Attributes
    ----------
    decimal, grouping : the marks of decimals and, if there are any, of thousands
    whole : whether all numbers were whole and without marks, so that `1.299` could mean either
    prefix, suffix : a currency or unit that every number has
    missing : marks of missing values in this column, beside MISSING_MARKS
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Literal[".", ","] = "."
    grouping: Literal["", ".", ",", "'", " "] = ""
    whole: bool = False
    prefix: str = ""
    suffix: str = ""
    missing: tuple[str, ...] = ()

    @property
    def unit(self) -> str | None:
        """The currency or unit of the numbers."""
        return self.prefix or self.suffix or None

    @property
    def pattern(self) -> str:
        """A regular expression of whole texts (of `normalize_texts`); its groups make the number."""
        decimal, grouping = re.escape(self.decimal), re.escape(self.grouping)
        integer = "(?:0|[1-9][0-9]*)"
        if self.whole:
            number = rf"(?:{integer}(?:{decimal}(?:[0-9]{{1,2}}|[0-9]{{4,}}))?|0{decimal}[0-9]+)"
        else:
            if self.grouping:
                # India groups by two digits before the last three: 12,34,567.
                lakhs = "[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}|" if self.grouping == "," else ""
                integer = rf"(?:{lakhs}[1-9][0-9]{{0,2}}(?:{grouping}[0-9]{{3}})+|{integer})"
            number = rf"(?:{integer}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        prefix, suffix = re.escape(self.prefix), re.escape(self.suffix)
        return rf"^(?:([+-]?){prefix} ?|{prefix} ?([+-]?))({number}) ?{suffix}$"

    def describe(self) -> str:
        """Return what is special about the numbers, as in 'written with thousands points'; "" if nothing is."""
        marks = {".": "points", ",": "commas", "'": "apostrophes", " ": "spaces"}
        parts = [] if not self.grouping else [f"thousands {marks[self.grouping]}"]
        parts += ["decimal commas"] if self.decimal == "," and not self.grouping else []
        parts += [] if self.unit is None else [f"the unit {self.unit!r}"]
        return f"written with {' and '.join(parts)}" if parts else ""


class ParsedTexts(NamedTuple):
    """Numbers of a text column, NaN for a missing value, and the rows of what was no number."""

    values: NDArray[np.float64]
    marks: Counter[str]  # rows of each mark of a missing value
    n_unread: int  # rows of other texts, which are NaN as well
    what: str = "numbers"


def normalize_texts(texts: pa.Array) -> pa.Array:
    """Trim texts, and write spaces, apostrophes, minus signs and negative amounts in one way."""
    texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, SPACES, " "))
    texts = pc.replace_substring(pc.replace_substring(texts, "\u2019", "'"), "\u2212", "-")
    return pc.replace_substring_regex(texts, NEGATIVE_AMOUNT, r"-\1")


def parse_texts(column: pa.Array, form: NumberFormat, n_rows: NDArray[np.int64] | None = None) -> ParsedTexts:
    """Parse a column of texts, plain or dictionary-encoded; every distinct text is looked at once.

    Each text stands for one row, or for `n_rows` of its own in the counts of the result.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    texts = normalize_texts(pc.fill_null(encoded.dictionary.cast(pa.string()), ""))
    lookup = np.full(len(texts) + 1, np.nan)
    is_number = pc.match_substring_regex(texts, form.pattern)
    digits = pc.replace_substring_regex(pc.if_else(is_number, texts, None), form.pattern, r"\1\2\3")
    if form.grouping:
        digits = pc.replace_substring(digits, form.grouping, "")
    numbers = pc.replace_substring(digits, form.decimal, ".").cast(pa.float64())
    lookup[1:] = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes + 1, n_rows, len(lookup))[1:]
    marks: Counter[str] = Counter()
    n_unread = 0
    for position in np.flatnonzero(np.isnan(lookup[1:]) & (counts > 0)):
        text = texts[int(position)].as_py()
        if is_missing_mark(text) or text in form.missing:
            marks[text] += int(counts[position])
        else:
            n_unread += int(counts[position])
    return ParsedTexts(lookup[codes + 1], marks, n_unread)


def is_missing_mark(text: str) -> bool:
    """Tell whether a normalized text stands for a missing number."""
    return text.lower() in MISSING_MARKS


def find_number_format(texts: Iterable[str], decimal: str = "") -> NumberFormat | None:
    """Return the format of the numbers that most of a column's texts are, or None.

    Parameters
    ----------
    texts : iterable of str
        Distinct texts from `normalize_texts`.
    decimal : str
        The decimal mark of other columns of the table, or "".
    """
    parts: dict[tuple[str, str], list[str]] = {}
    n_others = 0
    for text in texts:
        if is_missing_mark(text):
            continue
        match = _PARTS.fullmatch(text)
        if match is None:
            n_others += 1
        else:
            parts.setdefault((match["prefix"], match["suffix"]), []).append(match["number"])
    if not parts:
        return None
    (prefix, suffix), numbers = max(parts.items(), key=lambda item: len(item[1]))
    if len(numbers) < MIN_SHARE_ALIKE * (n_others + sum(map(len, parts.values()))):
        return None
    marks = _find_marks(numbers, decimal)
    if marks is None:
        return None
    return NumberFormat(decimal=marks[0], grouping=marks[1], whole=marks[2], prefix=prefix, suffix=suffix)


class _Marks(NamedTuple):
    decimal: Literal[".", ","]
    grouping: Literal["", ".", ",", "'", " "]
    whole: bool


def _find_marks(numbers: Sequence[str], decimal: str) -> _Marks | None:
    """Return the marks of decimals and thousands of unsigned numbers, or None if they contradict each other."""
    bare = [re.sub("[eE][+-]?[0-9]+$", "", number) for number in numbers]
    for grouping in (" ", "'"):
        if any(grouping in number for number in bare):
            return _Marks(
                "," if any("," in n for n in bare) and not any("." in n for n in bare) else ".", grouping, False
            )
    if not any("." in number or "," in number for number in bare):
        return _Marks(".", "", len(bare) == len(numbers) and bare == list(numbers))
    both = [number for number in bare if "." in number and "," in number]
    sure_decimal = {"," if number.rfind(",") > number.rfind(".") else "." for number in both}
    sure_grouping = {"." if mark == "," else "," for mark in sure_decimal}
    for mark in ".,":
        single = [number for number in bare if mark in number and number not in both]
        if any(number.count(mark) > 1 for number in single):
            sure_grouping.add(mark)
        if any(number.count(mark) == 1 and not _GROUPS[mark].fullmatch(number) for number in single):
            sure_decimal.add(mark)
    if len(sure_decimal) > 1 or len(sure_grouping) > 1 or sure_decimal & sure_grouping:
        return None
    used = {mark for mark in ".," if any(mark in number for number in bare)}
    if sure_decimal or sure_grouping:
        mark = next(iter(sure_decimal or {"." if "," in sure_grouping else ","}))
        other = "," if mark == "." else "."
        return _Marks("." if mark == "." else ",", "" if other not in used else "," if other == "," else ".", False)
    if len(used) > 1:
        return None
    (mark,) = used
    return _resolve_ambiguous(mark, bare, decimal)


def _resolve_ambiguous(mark: str, numbers: Sequence[str], decimal: str) -> _Marks:
    """Decide about numbers whose only mark is always followed by three digits, as in 1.299."""
    as_decimal = _Marks("." if mark == "." else ",", "", False)
    as_grouping = _Marks("," if mark == "." else ".", "." if mark == "." else ",", False)
    if decimal:
        return as_decimal if decimal == mark else as_grouping
    if any(_PLAIN.fullmatch(number) and len(number) > 3 for number in numbers):
        return as_decimal
    if mark == ",":
        return as_grouping
    return as_grouping if marks_thousands(numbers, mark) else as_decimal


def marks_thousands(numbers: Sequence[str], mark: str) -> bool:
    """Tell whether `mark` must mark thousands in distinct numbers, each of them whole or like 1.299 or 1.299.000.

    A column that mixes whole numbers below 1000 with numbers that all have three digits after the mark does not hold
    decimals: a fixed number of decimals would leave none whole, and otherwise zeros at the end would not be written.
    """
    grouped = [number for number in numbers if mark in number]
    if any(number.count(mark) > 1 for number in grouped):
        return True
    whole = [number for number in numbers if mark not in number and number != "0"]
    if not grouped or not whole or any(len(number) > 3 for number in whole):
        return False
    return any(number.endswith("0") for number in grouped) or len(grouped) >= MANY_GROUPED


def are_grouped(texts: Iterable[str], mark: str) -> bool:
    """Tell whether all texts, signs left out, are whole or like 1.299; the first that is not ends the search."""
    pattern = re.compile(rf"[+-]?(?:0|[1-9][0-9]{{0,2}}(?:{re.escape(mark)}[0-9]{{3}})*|[1-9][0-9]*)")
    return all(map(pattern.fullmatch, texts))
