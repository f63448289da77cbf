"""Recognise how a text column writes dates and times, and parse them, whatever format the table comes in.

    distinct texts     ->  DateFormat: how the dates are written, or None
    texts, DateFormat  ->  days since 1970-01-01 in UTC, NaN for a missing value, the number of rows that hold no date

Dates such as 2024-09-04 are read in every column. Digits such as 20240904 and 202409 are dates of years from 1900 on;
columns of numbers hold them as well. A month alone stands for its first day. In `04/09/2024` day or month may come
first: a day above 12 decides, then a constant first of the month, then the other columns of the table, then the mark.
After points and hyphens the day comes first, after slashes the month. Years of two digits are no dates: a 55 may be
1955 or 2055.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from engine.tables.number_texts import ParsedTexts, is_missing_mark

Form = Literal[
    "year month day", "day month year", "month day year", "day name year", "name day year",
    "year month", "name year", "yearmonthday", "yearmonth",
]  # fmt: skip
YEAR_FIRST: Form = "year month day"
DAY_FIRST: Form = "day month year"
MONTH_FIRST: Form = "month day year"
DIGIT_FORMS: tuple[Form, ...] = ("yearmonthday", "yearmonth")
MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
MIN_DATES = 0.99  # of the distinct texts that are no mark of a missing value
MAX_WORDS = 3  # distinct words without a digit that stand for no date
MIN_BESIDE_WORDS = 10  # distinct texts with digits beside them
MIN_DATES_IN_HEAD = 0.5  # of the first texts, below which a column is not looked at further
_HEAD = 200  # texts
_ZERO_DATE = re.compile(r"0000[-/.]00[-/.]00.*|00[-/.]00[-/.]0000.*")  # MySQL's mark of a missing date
_DIGIT_MARKS = frozenset(["0", "-1", "000000", "00000000", "999999", "99999999"])  # the same among dates of digits
_MICROSECONDS = 86_400_000_000  # of a day
_PARTS = {
    "year": r"(?P<year>[1-9][0-9]{3}|0001)",  # 0001-01-01 is .NET's mark of a missing date, found among dates
    "month": r"(?P<month>0?[1-9]|1[0-2])",
    "day": r"(?P<day>0?[1-9]|[12][0-9]|3[01])",
    # Those of dates in digits, and of years that are no other number.
    "yyyy": r"(?P<year>19[0-9]{2}|20[0-9]{2}|9999)",
    "mm": r"(?P<month>0[1-9]|1[0-2])",
    "dd": r"(?P<day>0[1-9]|[12][0-9]|3[01])",
    # The first three letters of a month are its name.
    "name": (
        "(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?"
    ),
}
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?,? +)?"
TIME = (
    r"(?:(?:t|,? +)(?P<hour>[01]?[0-9]|2[0-3]):(?P<minute>[0-5][0-9])"
    r"(?::(?P<second>[0-5][0-9])(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?: ?(?P<half>[ap])[.]?m[.]?)?(?: ?(?P<zone>z|utc|gmt|[+-][0-9]{2}(?::?[0-9]{2})?))?)"
)
_DATES: dict[Form, str] = {
    "year month day": "{year}[-/.]{month}[-/.]{day}",
    "day month year": "{day}[-/.]{month}[-/.]{year}",
    "month day year": "{month}[-/.]{day}[-/.]{year}",
    "day name year": _WEEKDAY + "{day}(?:st|nd|rd|th|[.])?[-/ ]*{name}[.]?[-/, ]*{year}",
    "name day year": _WEEKDAY + "{name}[.]?[-/ ]*{day}(?:st|nd|rd|th)?[-/, ]+{year}",
    "year month": "{yyyy}[-/]{mm}",
    "name year": "{name}[.]?[-/, ]*{yyyy}",
    "yearmonthday": "{yyyy}{mm}{dd}",
    "yearmonth": "{yyyy}{mm}",
}
# Of whole texts, trimmed; the syntax is that of RE2 and of Python.
PATTERNS: dict[Form, str] = {
    form: f"(?i)^{re.sub('{([a-z]+)}', lambda match: _PARTS[match[1]], text)}{TIME}?$" for form, text in _DATES.items()
}
_ORDER_UNKNOWN = (
    rf"(?i)^(?P<first>[0-9]{{1,2}})(?P<mark>[-/.])(?P<second_number>[0-9]{{1,2}})[-/.][1-9][0-9]{{3}}{TIME}?$"
)
_HINTS: dict[Form, str] = {
    DAY_FIRST: "the day first",
    MONTH_FIRST: "the month first",
    "day name year": "names of months",
    "name day year": "names of months",
    "year month": "year and month",
    "name year": "names of months",
    "yearmonthday": "year, month and day in digits",
    "yearmonth": "year and month in digits",
}


class DateFormat(BaseModel):
    """How a text column writes dates, beside such as 2024-09-04; a model file stores it.

    Attributes
    ----------
    forms : the forms that the dates have
    assumed : whether day and month could as well be the other way round
    missing : words for no date in this column, such as "never"
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forms: tuple[Form, ...] = ()
    assumed: bool = False
    missing: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _leave_out_words(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Store what few columns have only for them: the models of other tables are the same as before it came."""
        stored: dict[str, Any] = serialize(self)
        return {name: value for name, value in stored.items() if name != "missing" or value}

    def describe(self) -> str:
        """Return what is special about the dates, as in 'written with the day first'; "" if nothing is."""
        hints = list(dict.fromkeys(_HINTS[form] for form in self.forms))
        note = ", which the texts leave open" if self.assumed else ""
        return f"written with {' and '.join(hints)}{note}" if hints else ""

    @property
    def in_digits(self) -> bool:
        """Whether the dates are digits alone, which a column of numbers may hold as well."""
        return any(form in DIGIT_FORMS for form in self.forms)


def find_date_format(texts: pa.Array, hint: Form | None = None) -> DateFormat | None:
    """Return how a column writes dates, or None if less than MIN_DATES of its texts are dates.

    Parameters
    ----------
    texts : pyarrow.Array of str
        Distinct texts.
    hint : Form, optional
        The order of day and month in other columns of the table.
    """
    texts = pc.utf8_trim_whitespace(texts.drop_null())
    if not _may_be_dates(texts):
        return None
    texts = texts.filter(pa.array([not _may_be_mark(text) for text in texts.to_pylist()], pa.bool_()))
    texts = _without_few_words(texts)
    order, assumed = _find_order(texts, hint)
    n_dates, forms = 0, list[Form]()
    for form, pattern in PATTERNS.items():
        if form in (DAY_FIRST, MONTH_FIRST) and form != order:
            continue
        n_alike = pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0
        n_dates += n_alike
        forms += [form] if n_alike and form != YEAR_FIRST else []
    if n_dates == 0 or n_dates < MIN_DATES * len(texts) or set(DIGIT_FORMS) <= set(forms):
        return None
    return DateFormat(forms=tuple(forms), assumed=assumed and order in forms)


def parse_dates(column: pa.Array, form: DateFormat, n_rows: NDArray[np.int64] | None = None) -> ParsedTexts:
    """Parse a column of texts, plain or dictionary-encoded; every distinct text is looked at once.

    Each text stands for one row, or for `n_rows` of its own in the counts of the result.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    texts = pc.utf8_trim_whitespace(pc.fill_null(encoded.dictionary.cast(pa.string()), ""))
    lookup = np.full(len(texts) + 1, np.nan)
    for name in (YEAR_FIRST, *form.forms):
        open_texts = np.flatnonzero(np.isnan(lookup[1:]))
        if len(open_texts):
            lookup[1 + open_texts] = _parse_form(texts.take(pa.array(open_texts)), name)
    counts = np.bincount(codes + 1, n_rows, len(lookup))[1:]
    marks: Counter[str] = Counter()
    n_unread = 0
    for position in np.flatnonzero(np.isnan(lookup[1:]) & (counts > 0)):
        text = texts[int(position)].as_py()
        if _is_mark(text) or text in form.missing or (form.in_digits and text in _DIGIT_MARKS):
            marks[text] += int(counts[position])
        else:
            n_unread += int(counts[position])
    return ParsedTexts(lookup[codes + 1], marks, n_unread, "dates")


def _without_few_words(texts: pa.Array) -> pa.Array:
    """Return distinct texts without those that have no digit, if they are few beside others."""
    with_digits = texts.filter(pc.match_substring_regex(texts, "[0-9]"))
    few = len(texts) - len(with_digits) <= MAX_WORDS and len(with_digits) >= MIN_BESIDE_WORDS
    return with_digits if few else texts


def find_words(texts: pa.Array, form: DateFormat) -> tuple[str, ...]:
    """Return the words among distinct texts that stand for no date, such as "never"; none if there are many."""
    trimmed = pc.utf8_trim_whitespace(texts.drop_null()).unique()
    unread = trimmed.filter(pa.array(np.isnan(parse_dates(trimmed, form).values)))
    words = [text for text in unread.to_pylist() if not _may_be_mark(text)]
    few = len(words) <= MAX_WORDS and not any(character.isdigit() for word in words for character in word)
    return tuple(sorted(words)) if few else ()


def _is_mark(text: str) -> bool:
    return is_missing_mark(text) or _ZERO_DATE.fullmatch(text) is not None


def _may_be_mark(text: str) -> bool:
    return _is_mark(text) or text in _DIGIT_MARKS


def _may_be_dates(texts: pa.Array) -> bool:
    """Tell whether half of the first texts are dates of any form, or marks of missing ones, and one of them a date."""
    head = texts.slice(0, _HEAD)
    is_date = np.zeros(len(head), bool)
    for pattern in PATTERNS.values():
        is_date |= pc.match_substring_regex(head, pattern).to_numpy(zero_copy_only=False)
    if not is_date.any():
        return False
    n_others = sum(not _may_be_mark(head[int(position)].as_py()) for position in np.flatnonzero(~is_date))
    return bool(is_date.sum() >= MIN_DATES_IN_HEAD * (is_date.sum() + n_others))


def _find_order(texts: pa.Array, hint: Form | None) -> tuple[Form, bool]:
    """Return whether day or month comes first in dates such as 04/09/2024, and whether that is only assumed."""
    parts = pc.extract_regex(texts, _ORDER_UNKNOWN).drop_null()
    if len(parts) == 0:
        return DAY_FIRST, False
    first, second = (parts.field(name).cast(pa.int64()).to_numpy() for name in ("first", "second_number"))
    day_first, month_first = int((second <= 12).sum()), int((first <= 12).sum())
    if day_first != month_first:
        return (DAY_FIRST if day_first > month_first else MONTH_FIRST), False
    constant_first, constant_second = (bool((numbers == numbers[0]).all()) for numbers in (first, second))
    if len(first) > 2 and constant_first != constant_second:  # a day of the month
        return (DAY_FIRST if constant_first else MONTH_FIRST), False
    if hint is not None:
        return hint, False
    slashes = pc.sum(pc.equal(parts.field("mark"), "/")).as_py()
    return (MONTH_FIRST if slashes > len(parts) / 2 else DAY_FIRST), True


def _parse_form(texts: pa.Array, form: Form) -> NDArray[np.float64]:
    """Return the days of texts of one form, NaN for others and for dates that the calendar does not have."""
    days = np.full(len(texts), np.nan)
    groups = re.compile(PATTERNS[form]).groupindex
    parts = pc.extract_regex(texts, PATTERNS[form])
    rows = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False))
    if len(rows) == 0:
        return days
    parts = parts.drop_null()

    def number(name: str) -> NDArray[np.int64]:
        texts = parts.field(name) if name in groups else pa.repeat("1", len(parts))
        numbers: NDArray[np.int64] = pc.if_else(pc.equal(texts, ""), "0", texts).cast(pa.int64()).to_numpy()
        return numbers

    if "name" in form:
        month = np.array([1 + MONTHS.index(name.lower()) // 3 for name in parts.field("name").to_pylist()], np.int64)
    else:
        month = number("month")
    months = (number("year") - 1970) * 12 + month - 1
    day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + number("day") - 1
    exists = day < (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    hour = number("hour")
    halves = pc.utf8_lower(parts.field("half"))
    has_half = pc.not_equal(halves, "").to_numpy(zero_copy_only=False)
    afternoon = pc.equal(halves, "p").to_numpy(zero_copy_only=False)
    hour = np.where(has_half, hour % 12 + 12 * afternoon, hour)
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(parts.field("fraction"), 6, "0"), 0, 6).cast(pa.int64()).to_numpy()
    minutes = hour * 60 + number("minute") - _zone_minutes(parts.field("zone"))
    microseconds = day * _MICROSECONDS + (minutes * 60 + number("second")) * 1_000_000 + fraction
    # Whole milliseconds, cut towards 1970, as columns of times are read.
    milliseconds = np.sign(microseconds) * (np.abs(microseconds) // 1000)
    days[rows] = np.where(exists, milliseconds / (_MICROSECONDS // 1000), np.nan)
    return days


def _zone_minutes(zones: pa.Array) -> NDArray[np.int64]:
    """Return the minutes that time zones such as +02:00 are ahead of UTC."""
    digits = pc.replace_substring_regex(zones, "[^0-9]", "")
    padded = pc.utf8_rpad(digits, 4, "0").cast(pa.int64()).to_numpy()
    minutes: NDArray[np.int64] = padded // 100 * 60 + padded % 100
    negative = pc.starts_with(zones, "-").to_numpy(zero_copy_only=False)
    return np.where(negative, -minutes, minutes)
