"""Read columns of a chunk on a device as numbers: the counterpart of columnar_block.py's read_block.

    DeviceColumns, ReadSpec  ->  float64 (n_rows,) with NaN, the same bits as the CPU reads

Texts are parsed on the host by the CPU's own functions, once for every distinct text of the chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.features.columnar_block import (
    ReadSpec,
    day_limits,
    is_text,
    may_hold_written_dates,
    refuse_infinite,
    refuse_infinite_days,
    to_text,
)
from engine.tables.date_texts import DateFormat, parse_dates
from engine.tables.device_columns import Array, DeviceColumns, TimeColumn
from engine.tables.number_texts import ParsedTexts, parse_texts

# Milliseconds in a day, and ticks in a millisecond of the units that are finer.
_DAY_IN_MILLISECONDS = 86_400_000.0
_TICKS_PER_DAY = {"D": 1.0, "s": 86_400.0, "ms": _DAY_IN_MILLISECONDS}
_TICKS_PER_MILLISECOND = {"us": 1000, "ns": 1_000_000}


class DeviceNumbers(NamedTuple):
    """A column of numbers, or of days since 1970-01-01, on a device."""

    values: Array  # (n_rows,) float64; NaN is missing
    n_marked: int  # rows with a mark of a missing value
    parsed: ParsedTexts | None  # of the distinct texts, if the column holds texts; its counts are of rows


def read_numbers(xp: Any, columns: DeviceColumns, name: str, read_spec: ReadSpec) -> DeviceNumbers:
    """Read a column as its ReadSpec says, which has the form number or days.

    Raises
    ------
    NonFiniteValueError
        If a number or a date is infinite.
    """
    parsed = None
    kind, days = columns.kind(name), read_spec.form == "days"
    if may_hold_written_dates(kind) if days else is_text(kind) and read_spec.number_format is not None:
        values, parsed = _parse(xp, columns, name, read_spec)
    elif days:
        times = columns.times(name)
        values = _to_days(xp, times)
        first, end = day_limits(times.unit)
        refuse_infinite_days(int(((values <= first) | (values >= end)).sum()), name)
    else:
        values = columns.numbers(name)
    if read_spec.form == "number":
        refuse_infinite(int(xp.isinf(values).sum()), name)
    n_marked = 0
    compared = xp.floor(values) if read_spec.missing and read_spec.form == "days" else values
    for mark in read_spec.missing:
        is_mark = compared == mark
        n_marked += int(is_mark.sum())
        values[is_mark] = np.nan
    return DeviceNumbers(values, n_marked, parsed)


def count_codes(xp: Any, codes: Array, n_codes: int) -> NDArray[np.int64]:
    """Return on the host how often -1 occurs in int64 codes, then each of the codes 0 … n_codes - 1."""
    if len(codes) == 0:
        return np.zeros(n_codes + 1, np.int64)
    counts = xp.bincount(codes + 1, minlength=n_codes + 1)
    return np.asarray(counts.get() if hasattr(counts, "get") else counts, np.int64)


def _parse(xp: Any, columns: DeviceColumns, name: str, read_spec: ReadSpec) -> tuple[Array, ParsedTexts]:
    """Return the numbers or days of a column of texts, or of days in digits."""
    encoded = columns.dictionary(name)
    texts: pa.Array = to_text(encoded.dictionary)
    n_rows = count_codes(xp, encoded.codes, len(texts))[1:]
    if read_spec.form == "days":
        parsed = parse_dates(texts, read_spec.date_format or DateFormat(), n_rows)
    else:
        assert read_spec.number_format is not None
        parsed = parse_texts(texts, read_spec.number_format, n_rows)
    return xp.asarray(np.append(np.nan, parsed.values))[encoded.codes + 1], parsed


def _to_days(xp: Any, times: TimeColumn) -> Array:
    """Convert times to days, fine ones by way of whole milliseconds as days_since_epoch does."""
    if times.unit in _TICKS_PER_DAY:
        values = times.counts / _TICKS_PER_DAY[times.unit]
    else:
        factor = _TICKS_PER_MILLISECOND[times.unit]
        milliseconds = times.counts // factor
        milliseconds += (times.counts < 0) & (milliseconds * factor != times.counts)  # towards zero, as Arrow does
        values = milliseconds / _DAY_IN_MILLISECONDS
    values[times.missing] = np.nan
    return values
