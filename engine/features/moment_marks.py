"""Find the numbers that stand for no year, or no moment, in columns whose names say that they hold such.

    name, values  ->  marks of missing values: 0, 9999 or 1900 of a birth year, 0 of seconds since 1970
    name, values  ->  what the moments are counted in: seconds since 1970, days of a spreadsheet

0 of an amount is nothing; 0 of a year or moment is none: it says "never" or "unknown", and as a number it outweighs all
real ones. Marks of other numbers, and of dates: missing_marks.py.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

MIN_OTHERS = 3  # distinct years or moments beside the marks
NO_YEARS = (0.0, 1.0, 7777.0, 8888.0, 9999.0)
EDGE_YEARS = (1111.0, 1753.0, 1800.0, 1900.0, 1901.0, 2099.0, 2100.0, 2200.0, 2222.0, 2500.0, 2999.0)
FIRST_YEAR, LAST_YEAR = 1500.0, 2999.0
FIRST_SECOND, LAST_SECOND = 3.1e8, 4.2e9  # since 1970: from 1979 to 2103
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_YEAR = frozenset(["year", "yr", "yob", "born", "jahr", "annee", "anno"])
_MOMENT = frozenset(
    ["at", "date", "datetime", "epoch", "expires", "expiry", "login", "logout", "modified", "moment", "seen", "signup",
     "since", "time", "timestamp", "ts", "until", "updated", "visit", "visited"]
)  # fmt: skip


_DATE = frozenset(["date", "datetime", "datum", "dob", "birthdate", "birthday", "fecha"])
FIRST_SERIAL, LAST_SERIAL = 20_000.0, 73_050.0  # days since 1899-12-30: from 1954 to 2099
UNITS = {1.0: "seconds", 1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}


def find_moment_unit(name: str, ascending: NDArray[np.float64]) -> str | None:
    """Return what a column of numbers counts moments in, by its name and all of its values; None if it holds others.

    Parameters
    ----------
    name : str
    ascending : float64 array of shape (n_values,)
        Without missing values.
    """
    words = {word.lower() for word in _WORDS.findall(name)}
    if words.isdisjoint(_MOMENT | _DATE) or len(np.unique(ascending)) < MIN_OTHERS:
        return None
    smallest, largest = ascending[0], ascending[-1]
    for unit, word in UNITS.items():
        if unit * FIRST_SECOND <= smallest and largest <= unit * LAST_SECOND:
            return f"{word} since 1970"
    is_serial = not words.isdisjoint(_DATE) and smallest >= FIRST_SERIAL and largest <= LAST_SERIAL
    return "days as spreadsheets count them" if is_serial else None


def find_moment_marks(name: str, values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the marks of missing values of a column of years or of times since 1970, ascending; none of other columns.

    Parameters
    ----------
    name : str
    values : float64 array of shape (n_rows,)
        With NaN for missing values.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    is_year = not _YEAR.isdisjoint(words)
    if not is_year and (not words or words[-1] not in _MOMENT):
        return ()
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(distinct) == 0 or (distinct != np.rint(distinct)).any():
        return ()
    return _no_years(distinct, counts) if is_year else _no_moments(distinct)


def _no_years(years: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, ...]:
    real = ~np.isin(years, NO_YEARS)
    if real.sum() < MIN_OTHERS or (years[real] < FIRST_YEAR).any() or (years[real] > LAST_YEAR).any():
        return ()
    for position in (*np.flatnonzero(real)[:1], *np.flatnonzero(real)[-1:]):
        others = real.copy()
        others[position] = False
        if years[position] in EDGE_YEARS and _stands_apart(position, years, counts, others):
            real[position] = False
    return tuple(years[~real].tolist())


def _stands_apart(
    position: int, years: NDArray[np.float64], counts: NDArray[np.int64], others: NDArray[np.bool_]
) -> bool:
    """Tell whether a year is as far from the others as they are from each other, or near but far more frequent."""
    if others.sum() < MIN_OTHERS or counts[position] < MIN_OTHERS:
        return False
    smallest, largest = years[others].min(), years[others].max()
    gap, span = max(smallest - years[position], years[position] - largest), largest - smallest
    often = counts[position] >= 5 * np.median(counts[others])
    return bool(gap >= span or (gap >= 0.1 * span and often))


def _no_moments(moments: NDArray[np.float64]) -> tuple[float, ...]:
    others = moments[moments != 0.0]
    others = others[others != -1.0]
    if len(others) < MIN_OTHERS or len(others) == len(moments):
        return ()
    if not any(others[0] >= unit * FIRST_SECOND and others[-1] <= unit * LAST_SECOND for unit in UNITS):
        return ()
    return tuple(moments[(moments == 0.0) | (moments == -1.0)].tolist())
