"""Recognise how a text column writes numbers, and parse them: marks, currencies, units, durations, missing values.

    distinct texts       ->  NumberFormat: marks of decimals, thousands and missing values, currency or unit
    texts, NumberFormat  ->  float64 with NaN, the number of rows that hold no number

In `1.299` the point may mark thousands or decimals. It marks thousands beside `1.299.000` or `1.299,50`, where other
columns have decimal commas, and beside whole numbers below 1000 if no number has fewer than three digits after it. The
comma of `1,299` marks thousands unless other columns have decimal commas. The mark of `1.299E+03` marks decimals. Codes
with leading zeros are no numbers.
Units that differ by a factor, as in `900 g` and `1.2 kg` or `800` and `1.2k`, are converted to one (unit_scales.py).
Beside these the mark of `1.299 kg` marks decimals: larger units are there to write no thousands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from engine.tables.duration_texts import DURATIONS, DurationForm, describe_duration, find_duration, parse_durations
from engine.tables.unit_scales import SCALES, ScaleName, find_scale

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
_ALL_UNITS = dict.fromkeys([*_UNITS.split(), *(unit for scale in SCALES.values() for unit in scale.factors)])
_SUFFIX = "|".join(map(re.escape, sorted(_ALL_UNITS, key=len, reverse=True)))
_PARTS = re.compile(
    rf"[+-]?(?P<prefix>(?:{_PREFIX})?) ?[+-]?(?P<number>[.,]?[0-9][0-9.,' ]*?(?:[eE][+-]?[0-9]+)?)"
    rf" ?(?P<unit>(?:{_SUFFIX})?) ?(?P<currency>(?:{_PREFIX})?)"
)
SPACES = "[\u00a0\u2009\u202f]"  # no-break and thin spaces between thousands
NEGATIVE_AMOUNT = r"^\(([^()]*[0-9][^()]*)\)$"  # as accountants write them
TRAILING_MINUS = r"^([0-9][0-9.,' ]*)-$"  # as SAP writes them
FORMULA = r'^="(.*)"$'  # as texts are exported for Excel
# What is replaced in a text, and by what, after spaces and signs.
STEPS = ((FORMULA, r"\1"), (NEGATIVE_AMOUNT, r"-\1"), (TRAILING_MINUS, r"-\1"))
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
    scale : the units between a number and its suffix, which differ by a factor: a name of unit_scales.SCALES, or ""
    duration : how durations of several parts are written, or ""
    missing : marks of missing values in this column, beside MISSING_MARKS
    unsure : whether all marks stand before three digits and nothing tells what they mark, decimals or thousands
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    decimal: Literal[".", ","] = "."
    grouping: Literal["", ".", ",", "'", " "] = ""
    whole: bool = False
    prefix: str = ""
    suffix: str = ""
    scale: ScaleName = ""
    duration: DurationForm = ""
    missing: tuple[str, ...] = ()
    unsure: bool = False

    @model_serializer(mode="wrap")
    def _leave_out_unsure(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Store what few columns have only for them: the models of other tables are the same as before it came."""
        stored: dict[str, Any] = serialize(self)
        return {name: value for name, value in stored.items() if name != "unsure" or value}

    @property
    def unit(self) -> str | None:
        """The currency or unit of the numbers."""
        if self.duration:
            return None if self.duration == "pair" else "s"
        return self.prefix or self.suffix or (SCALES[self.scale].base if self.scale else "") or None

    @property
    def is_plain(self) -> bool:
        """Whether the numbers have neither units nor parts."""
        return self.unit is None and not self.scale and not self.duration

    @property
    def pattern(self) -> str:
        """A regular expression of whole texts (of `normalize_texts`): signs, the number, and the unit of a scale."""
        if self.duration:
            return DURATIONS[self.duration]
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
        units = SCALES[self.scale].pattern if self.scale else ""
        return rf"^(?:([+-]?){prefix} ?|{prefix} ?([+-]?))({number}) ?({units}) ?{suffix}$"

    def describe(self) -> str:
        """Return what is special about the numbers, as in 'written with thousands points'; "" if nothing is."""
        if self.duration:
            return describe_duration(self.duration)
        marks = {".": "points", ",": "commas", "'": "apostrophes", " ": "spaces"}
        parts = [] if not self.grouping else [f"thousands {marks[self.grouping]}"]
        parts += ["decimal commas"] if self.decimal == "," and not self.grouping else []
        parts += [SCALES[self.scale].description] if self.scale else []
        parts += [] if self.unit is None else [f"the unit {self.unit!r}"]
        if self.unsure and not self.grouping:
            parts += [f"three digits after each decimal {marks[self.decimal][:-1]}, which may mark thousands"]
        described = f"written with {' and '.join(parts)}" if parts else ""
        return f"{described}; these marks may be decimal ones" if self.unsure and self.grouping else described


class ParsedTexts(NamedTuple):
    """Numbers of a text column, NaN for a missing value, and the rows of what was no number."""

    values: NDArray[np.float64]
    marks: Counter[str]  # rows of each mark of a missing value
    n_unread: int  # rows of other texts, which are NaN as well
    what: str = "numbers"


def normalize_texts(texts: pa.Array) -> pa.Array:
    """Trim texts, and write spaces, apostrophes, minus signs and negative amounts in one way; take ="5" for 5."""
    texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, SPACES, " "))
    texts = pc.replace_substring(pc.replace_substring(texts, "\u2019", "'"), "\u2212", "-")
    for pattern, replacement in STEPS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def parse_texts(column: pa.Array, form: NumberFormat, n_rows: NDArray[np.int64] | None = None) -> ParsedTexts:
    """Parse a column of texts, plain or dictionary-encoded; every distinct text is looked at once.

    Each text stands for one row, or for `n_rows` of its own in the counts of the result.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    texts = normalize_texts(pc.fill_null(encoded.dictionary.cast(pa.string()), ""))
    lookup = np.full(len(texts) + 1, np.nan)
    lookup[1:] = parse_durations(texts, form.duration) if form.duration else _parse_numbers(texts, form)
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


def _parse_numbers(texts: pa.Array, form: NumberFormat) -> NDArray[np.float64]:
    is_number = pc.match_substring_regex(texts, form.pattern)
    matching = pc.if_else(is_number, texts, None)
    digits = pc.replace_substring_regex(matching, form.pattern, r"\1\2\3")
    if form.grouping:
        digits = pc.replace_substring(digits, form.grouping, "")
    numbers = pc.replace_substring(digits, form.decimal, ".").cast(pa.float64())
    values: NDArray[np.float64] = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    if form.scale:
        units = pc.replace_substring_regex(matching, form.pattern, r"\4").to_pylist()
        values = values * np.array([SCALES[form.scale].factors.get(unit or "", 1.0) for unit in units])
    return values


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
    parts: dict[tuple[str, str], dict[str, list[str]]] = {}
    present = [text for text in texts if not is_missing_mark(text)]
    for match in filter(None, map(_PARTS.fullmatch, present)):
        parts.setdefault((match["prefix"], match["currency"]), {}).setdefault(match["unit"], []).append(match["number"])
    alike = [(*key, *_find_units(units, is_money=any(key))) for key, units in parts.items()]
    none: tuple[str, str, str, ScaleName, dict[str, list[str]]] = ("", "", "", "", {})
    prefix, currency, unit, scale, by_unit = max(alike, key=lambda found: _count(found[-1]), default=none)
    numbers = [number for same in by_unit.values() for number in same]
    duration = find_duration(present, more_than=len(numbers))
    if duration:
        return NumberFormat(duration=duration)
    scaled: dict[float, list[str]] = {}
    for name, same in by_unit.items() if scale else ():
        scaled.setdefault(SCALES[scale].factors[name], []).extend(same)
    marks = _find_marks(numbers, decimal, scaled) if numbers else None
    if marks is None or len(numbers) < MIN_SHARE_ALIKE * len(present):
        return None
    suffix = " ".join(filter(None, [unit, currency]))
    # What is measured in a unit often has three decimals: a thousandth of a kilogram or second has a name.
    unsure = marks.told_by == "nothing" or (marks.told_by == "whole numbers" and unit not in ("", "%"))
    return NumberFormat(
        decimal=marks.decimal, grouping=marks.grouping, whole=marks.whole, prefix=prefix, suffix=suffix, scale=scale,
        unsure=unsure,
    )  # fmt: skip


def _count(numbers: Mapping[str, list[str]]) -> int:
    return sum(map(len, numbers.values()))


def _find_units(numbers: Mapping[str, list[str]], *, is_money: bool) -> tuple[str, ScaleName, dict[str, list[str]]]:
    """Return the unit that most numbers have, or the scale whose units they have, and these numbers by unit."""
    unit = max(numbers, key=lambda unit: len(numbers[unit]))
    scale = find_scale({unit: len(alike) for unit, alike in numbers.items()}, is_money=is_money)
    if not scale:
        return unit, "", {unit: numbers[unit]}
    factors = SCALES[scale].factors
    return "", scale, {unit: alike for unit, alike in numbers.items() if unit in factors}


class _Marks(NamedTuple):
    decimal: Literal[".", ","]
    grouping: Literal["", ".", ",", "'", " "]
    whole: bool
    told_by: Literal["marks", "whole numbers", "nothing"] = "marks"


def _find_marks(numbers: Sequence[str], decimal: str, scaled: Mapping[float, list[str]]) -> _Marks | None:
    """Return the marks of decimals and thousands of unsigned numbers, or None if they contradict each other.

    `scaled` holds the numbers by the factor of their unit if a column's units differ by a factor.
    """
    bare = [re.sub("[eE][+-]?[0-9]+$", "", number) for number in numbers]
    scientific = [short for short, number in zip(bare, numbers, strict=True) if short != number]
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
        if any(number.count(mark) == 1 and number not in both for number in scientific):  # 1.299E+03 has no thousands
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
    return _resolve_ambiguous(mark, bare, decimal, scaled)


def _resolve_ambiguous(mark: str, numbers: Sequence[str], decimal: str, scaled: Mapping[float, list[str]]) -> _Marks:
    """Decide about numbers whose only mark is always followed by three digits, as in 1.299."""
    as_decimal = _Marks("." if mark == "." else ",", "", False)
    as_grouping = _Marks("," if mark == "." else ".", "." if mark == "." else ",", False)
    if scaled and _marks_larger_units(scaled, mark):
        return as_decimal
    if decimal:
        return as_decimal if decimal == mark else as_grouping
    if scaled and mark == ".":
        return as_decimal._replace(told_by="nothing")
    if any(_PLAIN.fullmatch(number) and len(number) > 3 for number in numbers):
        return as_decimal
    if marks_thousands(numbers, mark):
        return as_grouping._replace(told_by="whole numbers")
    return (as_grouping if mark == "," else as_decimal)._replace(told_by="nothing")


def _marks_larger_units(numbers: Mapping[float, list[str]], mark: str) -> bool:
    """Tell whether all numbers of the larger units have the mark, and none of the smaller ones: 1.299 kg and 936 g.

    If it marked thousands, no number would lie between the smaller units and a thousand of the larger one.
    """
    marked = {factor for factor, same in numbers.items() if any(mark in number for number in same)}
    smaller = [factor for factor in numbers if factor not in marked]
    return (
        bool(smaller)
        and max(smaller) < min(marked)
        and all(mark in number or number == "0" for factor in marked for number in numbers[factor])
    )


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
