"""Read the variables of survey files: labels of values as words, dates, marks of missing values, sets of answers.

    what the header of a file says, numbers and texts of a variable  ->  Arrow column

A variable with labels is read as words if most of its different answers have one; a scale of 0 to 10 with words at its
ends, or an age with "99 or older", stays numbers. Labels that say that there is no answer mark missing numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Values = Sequence[Any]  # of a variable, as pyreadstat gives them: numbers or texts, None for a missing value
MAX_LABELLED = 1000  # different numbers of a variable with labels, above which it holds amounts
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # of the years 1 to 9999, from 1970-01-01
_DAYS_OF_SPSS, _DAYS_OF_SAS = -141_428, -3_653  # 1582-10-14 and 1960-01-01, from 1970-01-01
_DAY_SECONDS = 86_400
_NO_ANSWER = re.compile(
    r"\W*(refus\w*|don['’]?t know|do not know|dk|no answer|not (asked|applicable|stated|answered|available)|missing"
    r"|unknown|inapplicable|inap|n/?a|nr|k\.? ?a\.?|keine angabe|wei(ß|ss) nicht|verweigert)\b.*",
    re.IGNORECASE,
)


class TimeFormat(NamedTuple):
    """How numbers of a variable count time: steps of so many seconds from a day, or of months."""

    seconds: float
    origin: int  # days from 1970-01-01
    is_date: bool = True
    months: int = 0  # of a step, if it is one of months
    weeks: bool = False  # of Stata, 52 a year


_STATA = {
    "d": TimeFormat(_DAY_SECONDS, _DAYS_OF_SAS),
    "c": TimeFormat(0.001, _DAYS_OF_SAS, is_date=False),
    "C": TimeFormat(0.001, _DAYS_OF_SAS, is_date=False),
    "w": TimeFormat(0, _DAYS_OF_SAS, weeks=True),
    "m": TimeFormat(0, _DAYS_OF_SAS, months=1),
    "q": TimeFormat(0, _DAYS_OF_SAS, months=3),
    "h": TimeFormat(0, _DAYS_OF_SAS, months=6),
}
_SPSS_DATE = re.compile(r"([AEJS]?DATE|QYR|MOYR|WKYR)[\d.]*")
_SPSS_TIME = re.compile(r"(DATETIME|YMDHMS)[\d.]*")
_SAS_DATE = re.compile(
    r"(DATE|DAY|(DDMMYY|MMDDYY|YYMMDD|YYMM|MMYY|YYQ)[BCDNPS]?|YYQR[CDNPS]?|MONYY|YYMON|JULIAN|JULDAY|WEEKDATX?|WEEKDATE"
    r"|WORDDATX?|WORDDATE|QTRR?|YEAR|MONTH|MONNAME|DOWNAME|WEEKDAY|[EB]8601DA|IS8601DA|\$?N8601DA|EURDF\w+|NLDATE\w*)[\d.]*"
)
_SAS_TIME = re.compile(r"(DATETIME|DATEAMPM|MDYAMPM|[EB]8601D[TNXZ]|IS8601DT|DTDATE|DTMONYY|DTYEAR|NLDATM\w*)[\d.]*")


def find_time_format(written: str | None, program: str) -> TimeFormat | None:
    """Return how a variable of SPSS ("spss"), Stata ("stata") or SAS ("sas", "xport") counts time; None if it does not.

    Times of day and durations are numbers of seconds, and stay so.
    """
    name = (written or "").upper()
    if program == "stata":
        match = re.match(r"%[-+~]?(?:t([dcCwmqh])|(d))", written or "")
        return None if match is None else _STATA[match[1] or match[2]]
    if program == "spss":
        if _SPSS_DATE.fullmatch(name):
            return TimeFormat(1.0, _DAYS_OF_SPSS)
        return TimeFormat(1.0, _DAYS_OF_SPSS, is_date=False) if _SPSS_TIME.fullmatch(name) else None
    if _SAS_DATE.fullmatch(name):
        return TimeFormat(_DAY_SECONDS, _DAYS_OF_SAS)
    return TimeFormat(1.0, _DAYS_OF_SAS, is_date=False) if _SAS_TIME.fullmatch(name) else None


def count_days(numbers: NDArray[np.float64], form: TimeFormat) -> NDArray[np.float64]:
    """Return days from 1970-01-01, NaN for missing values."""
    if form.weeks:
        years = np.floor(numbers / 52)
        days: NDArray[np.float64] = _first_of_month(12 * (years - 10)) + 7 * (numbers - 52 * years)
        return days
    if form.months:
        return _first_of_month(form.months * numbers - 120)
    return numbers * form.seconds / _DAY_SECONDS + form.origin


def _first_of_month(months: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the day of the first of a month; months count from January 1970."""
    whole = np.nan_to_num(months).clip(-1e5, 1e5).astype(np.int64)
    days = whole.astype("datetime64[M]").astype("datetime64[D]").astype(np.float64)
    days[np.isnan(months)] = np.nan
    return np.asarray(days, np.float64)


def read_times(numbers: NDArray[np.float64], form: TimeFormat) -> pa.Array:
    """Return dates, or timestamps in microseconds."""
    missing = np.isnan(numbers)
    if form.is_date:
        days = np.floor(np.where(missing, 0, count_days(numbers, form))).astype(np.int32)
        return pa.array(days, pa.int32(), mask=missing).cast(pa.date32())
    microseconds = np.rint(np.where(missing, 0, numbers) * (form.seconds * 1e6)).astype(np.int64)
    microseconds += form.origin * _DAY_SECONDS * 1_000_000
    return pa.array(microseconds, pa.int64(), mask=missing).cast(pa.timestamp("us"))


def to_numbers(values: Values) -> NDArray[np.float64]:
    """Return numbers as float64, NaN for missing values."""
    numbers: NDArray[np.float64] = pa.array(values, pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def distinct_words(labels: Mapping[Any, str]) -> dict[Any, str]:
    """Return labels so that no two values have the same: the values are added to those that have."""
    texts = {value: (label or "").strip() or plain_text(value) for value, label in labels.items()}
    repeated = [text for text in texts.values() if list(texts.values()).count(text) > 1]
    return {value: f"{text} ({plain_text(value)})" if text in repeated else text for value, text in texts.items()}


def plain_text(value: Any) -> str:
    """Return a value as text, whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def marks_in_labels(labels: Mapping[Any, str]) -> list[float]:
    """Return the numbers whose labels say that there is no answer."""
    return sorted(
        float(v) for v, label in labels.items() if not isinstance(v, str) and _NO_ANSWER.fullmatch(label or "")
    )


def hold_words(observed: Iterable[float], labels: Mapping[Any, str]) -> bool:
    """Tell whether numbers with labels are answers in words: more of the observed ones have a label than have none."""
    has_label = [value in labels for value in observed]
    return sum(has_label) > len(has_label) / 2


def read_words(values: Values, labels: Mapping[Any, str]) -> pa.Array:
    """Return the words of values, those without a label as they are, empty texts as missing."""
    texts = {value: labels.get(value, plain_text(value)) for value in set(values) - {None, ""}}
    return pa.array([texts.get(value) for value in values], pa.string())


class AnswerSet(NamedTuple):
    """A multiple-response set: variables that together hold the answers to one question.

    Attributes
    ----------
    name : str
    variables : their names
    counted : the value that says that an answer was given; None if every variable holds one of several answers
    words : the words of the variables if there is a counted value, else of the values
    """

    name: str
    variables: tuple[str, ...]
    counted: float | str | None
    words: Mapping[Any, str]

    def read(self, columns: Mapping[str, Values]) -> pa.Array:
        """Return lists of answers; missing where all variables are."""
        rows = zip(*(columns[name] for name in self.variables), strict=True)
        return pa.array([self._answers(row) for row in rows], pa.list_(pa.string()))

    def _answers(self, row: tuple[Any, ...]) -> list[str] | None:
        if all(value is None or value == "" for value in row):
            return None
        if self.counted is not None:
            return [self.words[name] for name, value in zip(self.variables, row, strict=True) if value == self.counted]
        given = dict.fromkeys(value for value in row if value is not None and value != "")
        return [self.words.get(value, plain_text(value)) for value in given]
