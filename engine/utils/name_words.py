"""Words and units in the names of columns: `avg_amt_eur` is the average amount in EUR, `gen_hlth` the general health.

name of a column  ->  words, with what is commonly abbreviated written out; the unit that it ends with
"""

from __future__ import annotations

import re
from typing import NamedTuple

ABBREVIATIONS = {
    "acct": "account", "amt": "amount", "avg": "average", "bal": "balance", "cd": "code", "cnt": "count",
    "consump": "consumption", "cust": "customer", "dept": "department", "desc": "description", "dob": "date of birth",
    "dt": "date", "err": "error", "errs": "errors", "freq": "frequency", "hh": "household", "hlth": "health",
    "hrs": "hours", "hvy": "heavy", "mths": "months", "mth": "month", "nbr": "number", "phys": "physical",
    "ment": "mental", "prev": "previous", "promo": "promotion", "qty": "quantity", "temp": "temperature",
    "trng": "training", "trx": "transaction", "tx": "transaction", "txn": "transaction", "txns": "transactions",
    "typ": "type", "vib": "vibration", "wk": "week", "yr": "year", "yrs": "years", "ytd": "this year",
}  # fmt: skip
CURRENCIES = ("aud", "brl", "cad", "chf", "cny", "dkk", "eur", "gbp", "inr", "jpy", "mxn", "nok", "pln", "sek", "usd")
UNITS = {
    **{name: name.upper() for name in CURRENCIES}, "kb": "KB", "mb": "MB", "gb": "GB", "tb": "TB", "km": "km",
    "kg": "kg", "cm": "cm", "mm": "mm", "kw": "kW", "kwh": "kWh", "mwh": "MWh", "kcal": "kcal", "secs": "s", "sec": "s",
    "mins": "min", "kmh": "km/h", "mph": "mph", "hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz", "mmhg": "mmHg",
    "bpm": "bpm", "mm/s": "mm/s", "m/s": "m/s", "km/h": "km/h",
}  # fmt: skip
FLAGS = ("flag", "flg", "yn")  # words that say only that a column is yes or no
STATISTICS = ("avg", "mean", "median", "max", "total", "sum")  # words that may follow a unit
RATES = {"pa": "per_year", "pq": "per_quarter", "pm": "per_month", "pw": "per_week", "pd": "per_day"}
_COUNTED = ("amt", "cnt", "count", "d", "days", "h", "hr", "hrs", "hours")  # of which there are so many in a time
PERCENT = ("%", "pct", "percent", "perc")
SHARES = ("share", "rate", "ratio", "fraction", "prop", "proportion")
_DURATIONS = (
    "call", "calls", "downtime", "dur", "duration", "idle", "listening", "overtime", "play", "runtime", "screen",
    "session", "sleep", "talk", "time", "training", "uptime", "usage", "watch", "work", "working",
)  # fmt: skip
_WEIGHTS = ("fat", "mass", "protein", "salt", "sugar", "weight")
_SPANS = ("age", "contract", "membership", "seniority", "subscription", "tenure", "term")
_SPAN_UNITS = {
    **dict.fromkeys(["m", "month", "months", "mth", "mths"], "months"),
    **dict.fromkeys(["y", "year", "years", "yr", "yrs"], "years"),
    **dict.fromkeys(["d", "day", "days"], "days"),
}  # fmt: skip
_MONTH = re.compile(r"^m(\d{1,2})$", re.IGNORECASE)
_WINDOWS = {
    "d": ("days", (7, 14, 28, 30, 60, 90, 180, 365)),
    "w": ("weeks", (2, 4, 8, 12, 13, 26, 52)),
    "m": ("months", (3, 6, 9, 12, 18, 24, 36)),
}  # of so many days, weeks and months, over which figures are counted
_WINDOW = re.compile(r"^(\d{1,3})([dwm])$", re.IGNORECASE)
_NUMBERED = re.compile(
    r" ?\b(?:in (?=\d+ (?:days|weeks|months)))?(?:(?:month|quarter|week|year|wave|[a-z]) ?)?\d+"
    r"(?: (?:days|weeks|months))?\b",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[_\s()\[\]]+")


def unit_in_name(column: str, lowest: float, highest: float) -> str | None:
    """Return the unit of a column of numbers by its name and range: "EUR", "%", "share" or another one, or None."""
    *before, last = [part.lower() for part in _split(column).measure] or [""]
    is_share = lowest >= 0.0 and highest <= 1.0
    if last in SHARES:
        return "share" if is_share else None
    if last in PERCENT:
        return "share" if is_share else "%"
    if last in ("h", "min") and any(word in _DURATIONS for word in before):  # and not the smallest of something
        return last
    if last == "g" and any(word in _WEIGHTS for word in before):
        return "g"
    if before and before[-1] in _SPANS and last in _SPAN_UNITS:
        return _SPAN_UNITS[last]
    return UNITS.get(last) if before else None


def without_unit(column: str, *, measured: bool = True) -> str:
    """Return a column's name without its unit, which is told with the values if they are measured in it.

    What a figure is counted over is written out: `salary_eur_pa` becomes `salary_per_year`. A word at the end that says
    only that a column is yes or no is left out as well.
    """
    parts, after = _split(column)
    if len(parts) > 1 and parts[-1].lower() in FLAGS:
        return "_".join(parts[:-1])
    by_words_before = ("h", "min", "g", *_SPAN_UNITS.values())
    is_unit = len(parts) > 1 and (
        parts[-1].lower() in (*UNITS, *PERCENT) or unit_in_name(column, 0.0, 2.0) in by_words_before
    )
    if measured and is_unit:
        return "_".join([*parts[:-1], *after])
    return "_".join([*parts, *after]) if after and after[-1] in RATES.values() else column


class _Parts(NamedTuple):
    measure: list[str]  # a name up to its unit, if it has one
    after: list[str]  # what follows the unit: a statistic, and what the figure is counted over


def _split(column: str) -> _Parts:
    """Split a name at what may follow a unit: `salary_eur_avg_pm` before "avg" and "per_month"."""
    parts, after = [part for part in _SEPARATORS.split(column) if part], []
    if len(parts) > 1 and parts[-2].lower() + "/" + parts[-1].lower() in UNITS:
        parts[-2:] = ["/".join(parts[-2:]).lower()]
    if len(parts) > 2 and parts[-1].lower() in RATES and parts[-2].lower() in (*UNITS, *STATISTICS, *_COUNTED):
        after = [RATES[parts.pop().lower()]]
    if len(parts) > 2 and parts[-1].lower() in STATISTICS and parts[-2].lower() in (*UNITS, *PERCENT, "h"):
        after = [parts.pop(), *after]
    return _Parts(parts, after)


def write_out(word: str) -> str:
    """Return a word of a name with what is commonly abbreviated written out: "hlth" is "health", "30d" "in 30 days"."""
    month = _MONTH.match(word)
    if month and 1 <= int(month[1]) <= 24:
        return f"month {int(month[1])}"
    window = _WINDOW.match(word)
    if window and int(window[1]) in _WINDOWS[window[2].lower()][1]:
        return f"in {window[1]} {_WINDOWS[window[2].lower()][0]}"
    return ABBREVIATIONS.get(word, word)


def without_number(words: str) -> str:
    """Return the words of a column of a series without its number: "training hours q3" without "q3"."""
    return _NUMBERED.sub("", words).strip() or words
