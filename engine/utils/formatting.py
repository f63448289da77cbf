"""Columns, numbers, shares and dates as people say them: `share_Documentary` is the Documentary share, 0.18 is 18 %.

Everything a reader sees of a table goes through here, so that rules, personas, charts and the report say the same.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow as pa

_WORD_EDGE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+|\s+")
_PREFIXES = {"share": "{} share", "affinity": "{} affinity", "n": "number of {}", "num": "number of {}"}
_HEAD = re.compile(r" (?:per|a|since|of|in|for|from|with|given|last|to)\b")
_EPOCH = date(1970, 1, 1)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """What columns and values are called: as set, as the table says (`rooms.words`), or as their names read."""

    names: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(
        cls,
        schema: pa.Schema,
        columns: Sequence[str],
        names: Mapping[str, str],
        values: Mapping[str, Mapping[str, str]],
    ) -> Vocabulary:
        """Collect the words for columns of a table; what is in `names` and `values` wins."""
        own = {name: ((schema.field(name).metadata or {}).get(b"rooms.words", b"")).decode() for name in columns}
        return cls({name: clean(names.get(name) or own[name]) or column_words(name) for name in columns}, values)

    def meanings(self, column: str) -> tuple[tuple[str, str], ...]:
        """Return what values of a column mean, as pairs."""
        return tuple((value, clean(words)) for value, words in self.values.get(column, {}).items())


def column_words(column: str) -> str:
    """Return a column's name in words: snake_case and CamelCase are parted, acronyms and proper names kept."""
    prefix, _, rest = column.partition("_")
    if rest and prefix in _PREFIXES:
        if prefix in ("share", "affinity"):
            return _PREFIXES[prefix].format(clean(rest.replace("_", " ")))
        return _PREFIXES[prefix].format(column_words(rest))
    parts = [part for part in _WORD_EDGE.split(clean(column)) if part]
    return " ".join(part if part.isupper() or "-" in part else part[0].lower() + part[1:] for part in parts) or column


def clean(text: str) -> str:
    """Return text without control and direction-changing characters, which could forge what a page seems to say."""
    return "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}).strip()


def is_share(unit: str | None) -> bool:
    """Tell whether a unit means a share of something, shown in percent."""
    return unit is not None and unit.split(" ", 1)[0] in {"share", "fraction"}


def percent(share: float) -> str:
    """Return a share in percent: whole numbers from 10 % on, one digit below, and never 0 or 100 % unless it is."""
    if math.isnan(share):
        return "unknown"
    value = 100.0 * share
    if 0.0 < value < 0.1:
        return "under 0.1 %"
    if 99.0 < value < 100.0:
        return f"{math.floor(value * 10) / 10:.1f} %"
    return f"{value:.0f} %" if value >= 9.95 or value == 0.0 else f"{value:.1f} %"


def quantity(value: float, unit: str | None, name: str, *, spread: float = 0.0, whole: bool = False) -> str:
    """Return a number with its unit, rounded as far as `spread`, the column's standard deviation, gives sense to it.

    A unit that the name says already is left out: "weekly hours 12", not "weekly hours 12 hours/week".
    """
    if math.isnan(value):
        return "unknown"
    if is_share(unit):
        digits = 0 if value == 0.0 or spread == 0.0 or spread >= 0.05 else 1
        return f"{100.0 * value:.{digits}f} %"
    if _is_year(value, name):
        return f"{value:.0f}"
    if whole and value == round(value):
        return f"{value:,.0f}".replace("-", "−") + _unit(unit, name)
    return plain_number(value, spread=spread) + _unit(unit, name)


def exact_quantity(value: float, unit: str | None, name: str) -> str:
    """Return a threshold with its unit and all of its digits: rounding it would make another rule."""
    if is_share(unit):
        return f"{float(f'{100.0 * value:.12g}'):,.12g} %"
    if _is_year(value, name) and value == round(value):
        return f"{value:.0f}"
    return f"{value:,.12g}".replace("-", "−") + _unit(unit, name)


def plain_number(value: float, *, spread: float = 0.0) -> str:
    """Return a number with thousands separators and two digits more than its spread has before the point."""
    scale = spread if spread > 0.0 else abs(value)
    digits = 0 if scale == 0.0 else max(0, 1 - math.floor(math.log10(scale)))
    text = f"{value:,.{min(digits, 6)}f}"
    return (text[1:] if text.strip("-0.,") == "" and text[0] == "-" else text).replace("-", "−")


def day(days: float, *, whole: bool = False) -> str:
    """Return days since 1970-01-01 as "March 2019"; the day itself with `whole`, unless it is the first of a month."""
    found = _EPOCH + timedelta(days=math.floor(days))
    month = f"{_MONTHS[found.month - 1]} {found.year}"
    if whole and (found.month, found.day) == (1, 1):
        return str(found.year)
    return f"{found.day} {month}" if whole and found.day != 1 else month


def iso_day(days: float) -> str:
    """Return days since 1970-01-01 as an ISO date."""
    return (_EPOCH + timedelta(days=math.floor(days))).isoformat()


def listed(parts: Sequence[str], last: str = "and") -> str:
    """Return "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def plural(name: str) -> bool:
    """Tell whether a name speaks of many: "sessions per week" does, "number of ratings" does not."""
    head = _HEAD.split(name, maxsplit=1)[0]
    return head.endswith("s") and not head.endswith("ss")


def capitalised(text: str) -> str:
    """Return text with its first letter large and nothing else changed."""
    return text[:1].upper() + text[1:]


def people(count: float) -> str:
    """Return "1 person", "1,234 people"."""
    return "1 person" if round(count) == 1 else f"{round(count):,} people"


def _is_year(value: float, name: str) -> bool:
    """Tell whether a number is a calendar year, which nobody writes as 1,987: "release year", "year of birth"."""
    return 1000.0 <= value < 2500.0 and re.search(r"(?<!\ba )(?<!\bper )\byear\b", name.lower()) is not None


def _unit(unit: str | None, name: str) -> str:
    if not unit:
        return ""
    name = name.lower()
    said = [word for word in re.split(r"[\s/]+", unit.lower()) if word and word.rstrip("s") in name]
    return "" if said or (name == "age" and unit == "years") else f" {unit}"
