"""Words and units in the names of columns: `avg_amt_eur` is the average amount in EUR, `gen_hlth` the general health.

name of a column  ->  words, with what is commonly abbreviated written out; the unit that it ends with
"""

from __future__ import annotations

import re

ABBREVIATIONS = {
    "acct": "account", "amt": "amount", "avg": "average", "bal": "balance", "cd": "code", "cnt": "count",
    "consump": "consumption", "cust": "customer", "desc": "description", "dob": "date of birth", "freq": "frequency",
    "hh": "household", "hlth": "health", "hvy": "heavy", "mths": "months", "mth": "month", "nbr": "number",
    "phys": "physical", "ment": "mental", "prev": "previous", "qty": "quantity", "trx": "transaction",
    "tx": "transaction", "txn": "transaction", "txns": "transactions", "wk": "week", "yr": "year", "yrs": "years",
}  # fmt: skip
CURRENCIES = ("aud", "brl", "cad", "chf", "cny", "dkk", "eur", "gbp", "inr", "jpy", "mxn", "nok", "pln", "sek", "usd")
UNITS = {
    **{name: name.upper() for name in CURRENCIES}, "kb": "KB", "mb": "MB", "gb": "GB", "tb": "TB", "km": "km",
    "kg": "kg", "cm": "cm", "mm": "mm", "kwh": "kWh", "kcal": "kcal", "secs": "s", "sec": "s", "mins": "min",
}  # fmt: skip
PERCENT = ("%", "pct", "percent", "perc")
SHARES = ("share", "rate", "ratio", "fraction", "prop", "proportion")
_DURATIONS = ("call", "calls", "dur", "duration", "listening", "play", "session", "talk", "time", "usage", "watch")
_WEIGHTS = ("fat", "mass", "protein", "salt", "sugar", "weight")
_SPANS = ("age", "contract", "membership", "seniority", "subscription", "tenure", "term")
_SPAN_UNITS = {
    **dict.fromkeys(["m", "month", "months", "mth", "mths"], "months"),
    **dict.fromkeys(["y", "year", "years", "yr", "yrs"], "years"),
    **dict.fromkeys(["d", "day", "days"], "days"),
}  # fmt: skip
_MONTH = re.compile(r"^m(\d{1,2})$", re.IGNORECASE)
_SEPARATORS = re.compile(r"[_\s()\[\]]+")


def unit_in_name(column: str, lowest: float, highest: float) -> str | None:
    """Return the unit of a column of numbers by its name and range: "EUR", "%", "share" or another one, or None."""
    *before, last = [part.lower() for part in _SEPARATORS.split(column) if part] or [""]
    is_share = lowest >= 0.0 and highest <= 1.0
    if last in SHARES:
        return "share" if is_share else None
    if last in PERCENT:
        return "share" if is_share else "%"
    if last == "min" and any(word in _DURATIONS for word in before):  # and not the smallest of something
        return "min"
    if last == "g" and any(word in _WEIGHTS for word in before):
        return "g"
    if before and before[-1] in _SPANS and last in _SPAN_UNITS:
        return _SPAN_UNITS[last]
    return UNITS.get(last) if before else None


def without_unit(column: str) -> str:
    """Return a column's name without the unit at its end, which is told with its values."""
    parts = [part for part in _SEPARATORS.split(column) if part]
    by_words_before = ("min", "g", *_SPAN_UNITS.values())
    if len(parts) > 1 and (
        parts[-1].lower() in (*UNITS, *PERCENT) or unit_in_name(column, 0.0, 2.0) in by_words_before
    ):
        return "_".join(parts[:-1])
    return column


def write_out(word: str) -> str:
    """Return a word of a name with what is commonly abbreviated written out: "hlth" is "health", "m3" "month 3"."""
    month = _MONTH.match(word)
    if month and 1 <= int(month[1]) <= 24:
        return f"month {int(month[1])}"
    return ABBREVIATIONS.get(word, word)
