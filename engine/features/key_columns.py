"""Recognise columns of numbers that name things instead of measuring them: row labels, keys, codes, partitions.

    name, type and field metadata of a column  ->  why it is left out, or why it is read as a category

The distance between two zip codes or two store numbers means nothing, but as categories they may. Row labels mean
nothing at all. What only the values can tell, such as numbers that count the rows, is in column_roles.py.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.blocks import CATEGORY

MAX_GAP = 20  # largest mean step of ascending numbers that are taken for row numbers: amounts are farther apart
_PANDAS_LABELS = re.compile(r"__index_level_\d+__")
# A nameless column of a CSV file, as pandas and readr call it, and the row names of R.
_LABELS = re.compile(r"|Unnamed: \d+(\.\d+|_level_\d+)?|\.\.\.\d+|row[_. ]?names?", re.IGNORECASE)
# Names that row labels and amounts have: the values decide.
_NUMBERS = re.compile(r"index|level_\d+|(?-i:X)|row|#|((.*[_. ])?|row)(no|nr|num|number)", re.IGNORECASE)
_KEY = re.compile(
    r"(.*[-_. ])?(id|key|uuid|guid|pk|fk|phone|telephone|zip|zipcode|postal|postcode|plz|code)"
    r"|(id|fk|pk)[-_. ].*"
    r"|(.*[-_. ])?(zip|postal|post|phone|telephone|mobile|fax|account|customer|member|user|order)[-_. ]?"
    r"(code|number|no|nr)",
    re.IGNORECASE,
)
_CAMEL_CASE_KEY = re.compile(r".*[a-z0-9](Id|ID|Key|UUID|Uuid|Guid|Phone|Zip|ZIP|Code)")
_UPPER_CASE_ID = re.compile(r".*(Id|ID)")
_COUNT = re.compile(r"(n|num|nr|no|number|count|total|has|is)[-_. ].*|.*[-_. ]count", re.IGNORECASE)


def row_label_reason(column: pa.Field) -> str | None:
    """Return why a column is taken for row labels by its name, None if it is not."""
    if _PANDAS_LABELS.fullmatch(column.name):
        return "row labels of a pandas data frame"
    if pa.types.is_integer(column.type) and _LABELS.fullmatch(column.name):
        return "row labels, by its name" if column.name else "row labels: integers without a name"
    return None


def category_reason(column: pa.Field) -> str | None:
    """Return why a column of numbers is read as a category, None if it is not."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return None
    if CATEGORY in (column.metadata or {}):
        return str(column.metadata[CATEGORY].decode())
    name = column.name
    if (_KEY.fullmatch(name) or _CAMEL_CASE_KEY.fullmatch(name)) and not _COUNT.fullmatch(name):
        return "named as a key or code"
    return None


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
