"""Find one person's row in a table by its id.

    table, id column, id  ->  number of the row  ->  the row, as a table of one row

Without an id column, rows are found by their number.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.blocks import BLOCK_ROWS, Table, count_rows, has_random_access, is_binary, storage_array
from engine.errors import PersonNotFoundError

_INT64_LIMIT = 2**63


def find_row(table: Table, id: str | None, value: Any, where: str) -> int:
    """Return the number of the row that has an id; of a table without an id column, the number itself.

    Parameters
    ----------
    table : Table
    id : str or None
        The id column.
    value : scalar
        Of the type of the ids, or a text of it.
    where : str
        What the table is, for the error.

    Raises
    ------
    PersonNotFoundError
        If no row has it.
    """
    if id is None:
        number = parse_id(value, pa.int64())
        if number is not None and 0 <= number.as_py() < count_rows(table):
            return int(number.as_py())
        raise PersonNotFoundError(f"{where} has no row of this number: its rows are numbered from 0, without an id.")
    kind = table.schema.field(id).type
    wanted = parse_id(value, kind)
    if wanted is not None:
        for block in table.blocks([id]):
            position = pc.index(storage_array(block.rows.column(id)), wanted).as_py()
            if position >= 0:
                return block.start + int(position)
    raise PersonNotFoundError(
        f"{where} has no row with this id in column {id!r}.", hint=f"ids are of type {kind}; give one exactly."
    )


def read_row(table: Table, number: int, columns: Sequence[str]) -> pa.Table:
    """Return the row of a number as a table of one row, with these columns."""
    if has_random_access(table):
        first = number // BLOCK_ROWS
        blocks = table.blocks(columns, first=first, stop=first + 1)
    else:
        blocks = table.blocks(columns)
    for block in blocks:
        if block.start <= number < block.start + len(block):
            return block.rows.slice(number - block.start, 1)
    raise PersonNotFoundError("The table has fewer rows than when it was opened.")


def parse_id(value: Any, kind: pa.DataType) -> pa.Scalar | None:
    """Return an id as a scalar of a type, or of the type that stores it; None if it cannot be one."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    try:
        if is_binary(kind) and not isinstance(value, bytes):
            value = value if isinstance(value, uuid.UUID) else str(value)
            if pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16:
                value = (value if isinstance(value, uuid.UUID) else uuid.UUID(value)).bytes
            else:
                value = str(value).encode()
        if isinstance(value, int) and not -_INT64_LIMIT <= value < _INT64_LIMIT:
            value = str(value)  # pyarrow makes no scalar of it without a type
        scalar = value if isinstance(value, pa.Scalar) else pa.scalar(value)
        scalar = scalar if scalar.type == kind else scalar.cast(kind)
        return scalar if scalar.is_valid else None
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None
