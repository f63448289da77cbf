"""Convert decimal numbers to float64: each becomes the double nearest to it, as in a database or where text is read.

    pyarrow Table, schema  ->  the same rows, with float64 in place of decimals where the schema says so

pyarrow multiplies by a power of ten that no double holds exactly. Of the whole cents up to 200.00, 13 % come out one
unit in the last place beside the double of the same digits, so that they may not reach a threshold that they equal.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

MAX_EXACT = 2**53  # integers up to here are doubles
MAX_EXACT_SCALE = 22  # powers of ten up to here are doubles
MAX_DIGITS = 38  # of a decimal of 128 bits


def decimals_to_float64(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows with every decimal column that the schema has as float64 converted; `schema` has their names."""
    for number, field in enumerate(schema):
        column = rows.column(number)
        if field.type == pa.float64() and pa.types.is_decimal(column.type):
            chunks = [_to_float64(chunk) for chunk in column.chunks]
            rows = rows.set_column(number, field, pa.chunked_array(chunks, pa.float64()))
    return rows


def _to_float64(column: pa.Array) -> pa.Array:
    kind = column.type
    if kind.precision > MAX_DIGITS or not 0 < kind.scale <= MAX_EXACT_SCALE:
        return column.cast(pa.float64())
    # The lower and the upper half of the 128-bit integers that decimals are stored as.
    stored = column.cast(pa.decimal128(kind.precision, kind.scale))
    words = np.frombuffer(stored.buffers()[1], np.int64).reshape(-1, 2)
    low, high = words[stored.offset : stored.offset + len(stored)].T
    exact = (high == low >> 63) & (low <= MAX_EXACT) & (low >= -MAX_EXACT)
    values = low / 10.0**kind.scale  # the quotient of two doubles that are exact is rounded once
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    if not exact.all():
        values = np.where(exact, values, column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    return pa.array(values, mask=missing)
