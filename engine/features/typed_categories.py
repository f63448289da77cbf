"""Write the categories of a column of numbers or truth values in one way, whatever type new rows have them in.

    names of a block ("1.0", " 5", "TRUE")  ->  names as the fit wrote them ("1", "5", "true")

A column that was fitted as numbers may come as texts later: in a CSV file with one word in it, or in JSON. 1, 1.0 and
"1.0" are one category then. Codes with leading zeros are other ones: "01" is not 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

CategoryKind = Literal["text", "number", "boolean"]

LIMIT = 2.0**63  # whole numbers below it are written without a point or exponent
_WHOLE = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTHS = {"true": "true", "false": "false"}


def category_kind(kind: pa.DataType) -> CategoryKind:
    """Return what the categories of a column of this type are."""
    if pa.types.is_boolean(kind):
        return "boolean"
    return "number" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else "text"


def write_alike(names: Sequence[str], kind: CategoryKind) -> list[str]:
    """Return each name as the fit wrote this value; names that are no such value stay as they are."""
    if kind == "boolean":
        return [_TRUTHS.get(name.strip().lower(), _truth_of_number(name)) for name in names]
    return [_number(name) for name in names]


def _truth_of_number(name: str) -> str:
    return {"0": "false", "1": "true"}.get(_number(name), name)


def _number(name: str) -> str:
    text = name.strip()
    if _WHOLE.fullmatch(text) is not None:  # of any length
        return "0" if text in ("-0", "+0") else text.removeprefix("+")
    if _NUMBER.fullmatch(text) is None:
        return name
    value = float(text)
    if value == np.rint(value) and abs(value) < LIMIT:
        return str(int(value))
    return str(pa.scalar(value).cast(pa.string()).as_py())
