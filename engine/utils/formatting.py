"""Format column names, numbers, shares and dates: `share_Documentary` is the Documentary share, 0.18 is 18 %.

Everything a reader sees of a table goes through here, so that rules, personas, charts and the report say the same.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

from engine.utils.name_words import without_unit, write_out

# Points are those of R's names, but between digits.
_WORD_EDGE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+|\s+|(?<!\d)\.|\.(?!\d)")
# Of questions and variables in surveys: q7_3, Q12_1_a, x_4.
_CODE = re.compile(r"(?:[a-z]{1,4}\d+[a-z]?|[a-z](?=[_.]\d))(?:[_.](?:\d+[a-z]?|[a-z]))+", re.IGNORECASE)
_PREFIXES = {"share": "{} share", "affinity": "{} affinity", "n": "number of {}", "num": "number of {}"}
_HEAD = re.compile(r" (?:per|a|since|of|in|for|from|with|given|last|to)\b")
_EPOCH = date(1970, 1, 1)
MAX_SHORT_UNIT = 3  # letters of units that are parts of other words: the g of weight, the min of minimum
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """The words for columns and values: from the settings, the table's metadata (`rooms.words`), or the names.

    Attributes
    ----------
    names : mapping of column to its name in words
    values : mapping of column to a mapping of value to its meaning
    """

    names: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_schema(
        cls,
        schema: pa.Schema,
        columns: Sequence[str],
        names: Mapping[str, str],
        values: Mapping[str, Mapping[str, str]],
        measured: Collection[str] | None = None,
    ) -> Vocabulary:
        """Collect the words for columns of a table; `names` and `values` take precedence over the table's metadata.

        A unit at the end of a name is left out of the words of `measured` columns, of all by default: it is told with
        their values.
        """
        metadata = {name: ((schema.field(name).metadata or {}).get(b"rooms.words", b"")).decode() for name in columns}
        short = {
            name: column_words(without_unit(name, measured=measured is None or name in measured)) for name in columns
        }
        counts = Counter(short.values())  # revenue_eur and revenue_usd are not both the revenue
        by_name = {name: short[name] if counts[short[name]] == 1 else column_words(name) for name in columns}
        return cls(
            {name: printable_text(names.get(name) or metadata[name]) or by_name[name] for name in columns}, values
        )

    def meanings(self, column: str) -> tuple[tuple[str, str], ...]:
        """Return the values of a column that have a meaning, with the meaning, as pairs."""
        return tuple((value, printable_text(words)) for value, words in self.values.get(column, {}).items())


def column_words(column: str) -> str:
    """Return a column's name in words: split at changes of case, underscores and points, abbreviations written out.

    Acronyms, points between digits and codes such as q7_3 are kept.
    """
    if _CODE.fullmatch(column):
        return column
    prefix, _, rest = column.partition("_")
    if rest and prefix in _PREFIXES:
        if prefix in ("share", "affinity"):
            return _PREFIXES[prefix].format(printable_text(rest.replace("_", " ")))
        return _PREFIXES[prefix].format(column_words(rest))
    parts = [part for part in _WORD_EDGE.split(printable_text(column)) if part]
    words = (part if part.isupper() or "-" in part else write_out(part[0].lower() + part[1:]) for part in parts)
    return " ".join(words) or column


def printable_text(text: str) -> str:
    """Return text without control and direction-changing characters, which could forge what a page seems to say."""
    return "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}).strip()


def is_share(unit: str | None) -> bool:
    """Return whether a unit means a share of something, shown in percent."""
    return unit is not None and unit.split(" ", 1)[0] in {"share", "fraction"}


def format_percent(share: float) -> str:
    """Format a share in percent: whole numbers from 10 % on, one digit below, and 0 or 100 % only if it is exact."""
    if math.isnan(share):
        return "unknown"
    value = 100.0 * share
    if 0.0 < value < 0.1:
        return "under 0.1 %"
    if 99.0 < value < 100.0:
        return f"{math.floor(value * 10) / 10:.1f} %"
    return f"{value:.0f} %" if value >= 9.95 or value == 0.0 else f"{value:.1f} %"


def format_quantity(value: float, unit: str | None, name: str, *, spread: float = 0.0, whole: bool = False) -> str:
    """Format a number with its unit, rounded to the digits that matter at the column's standard deviation, `spread`.

    A unit that the name contains already is left out: "weekly hours 12", not "weekly hours 12 hours/week".
    """
    if math.isnan(value):
        return "unknown"
    if is_share(unit):
        digits = 0 if value == 0.0 or spread == 0.0 or spread >= 0.05 else 1
        return f"{100.0 * value:.{digits}f} %"
    if is_year(value, name):
        return f"{value:.0f}"
    if unit in ("s", "seconds") and 60.0 <= value < 86_400.0:
        return _duration(value)
    if whole and value == round(value):
        return f"{value + 0.0:,.0f}".replace("-", "−") + _unit(unit, name)
    return format_number(value, spread=spread) + _unit(unit, name)


def _duration(seconds: float) -> str:
    """Return a time of a minute up to a day in the two units that matter: "2 h 31 min", "3 min 20 s"."""
    if seconds < 3_599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def format_exact_quantity(value: float, unit: str | None, name: str) -> str:
    """Format a threshold with its unit and all of its digits: rounding it would make another rule."""
    if is_share(unit):
        return f"{float(f'{100.0 * value:.12g}'):,.12g} %"
    if is_year(value, name) and value == round(value):
        return f"{value:.0f}"
    return f"{value:,.12g}".replace("-", "−") + _unit(unit, name)


def format_number(value: float, *, spread: float = 0.0) -> str:
    """Format a number with thousands separators, rounded at the second significant digit of its spread."""
    scale = spread if spread > 0.0 else abs(value)
    digits = 0 if scale == 0.0 else max(0, 1 - math.floor(math.log10(scale)))
    text = f"{value:,.{min(digits, 6)}f}"
    return (text[1:] if text.strip("-0.,") == "" and text[0] == "-" else text).replace("-", "−")


def format_day(days: float, *, whole: bool = False) -> str:
    """Format days since 1970-01-01 as "March 2019"; with the day if `whole`, unless it is the first of a month."""
    moment = _EPOCH + timedelta(days=math.floor(days))
    month = f"{_MONTHS[moment.month - 1]} {moment.year}"
    if whole and (moment.month, moment.day) == (1, 1):
        return str(moment.year)
    return f"{moment.day} {month}" if whole and moment.day != 1 else month


def format_iso_day(days: float) -> str:
    """Format days since 1970-01-01 as an ISO date."""
    return (_EPOCH + timedelta(days=math.floor(days))).isoformat()


def natural_list(parts: Sequence[str], last: str = "and") -> str:
    """Join words as "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def is_plural(name: str) -> bool:
    """Return whether a name is a plural: "sessions per week" is, "number of ratings", "status" and "basis" are not."""
    head = _HEAD.split(name, maxsplit=1)[0]
    return head.endswith("s") and not head.endswith(("ss", "us", "is"))


def capitalize_first(text: str) -> str:
    """Return text with its first letter in upper case and nothing else changed."""
    return text[:1].upper() + text[1:]


def is_year(value: float, name: str) -> bool:
    """Return whether a number is a calendar year, which has no thousands separator: "release year", "year of birth"."""
    return 1000.0 <= value < 2500.0 and re.search(r"(?<!\ba )(?<!\bper )\byear\b", name.lower()) is not None


def _unit(unit: str | None, name: str) -> str:
    if not unit:
        return ""
    name = name.lower()
    is_named = any(_names_unit(name, word) for word in re.split(r"[\s/]+", unit.lower()) if word)
    return "" if is_named or (name == "age" and unit == "years") else f" {unit}"


def _names_unit(name: str, unit: str) -> bool:
    """Return whether a name has a word of a unit; short ones, such as g and ms, only as words of their own."""
    stem = unit.rstrip("s")
    if len(stem) > MAX_SHORT_UNIT:
        return stem in name
    spellings = {unit, stem, f"{unit}s"} if len(stem) > 1 else {unit}
    return not spellings.isdisjoint(re.split(r"[\W_]+", name))
